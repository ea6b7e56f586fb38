"""One door for every matrix: recognise the file, read it, name its unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gtex_vae.data.readers.matrix import KeepGene, RawMatrix
from gtex_vae.data.readers.sniff import sniff
from gtex_vae.data.readers.units import check_stated_unit, recognise_unit
from gtex_vae.errors import ConfigError, DataError


def read_matrix(
    path: Path | str,
    *,
    keep_gene: KeepGene | None = None,
    unit: str | None = None,
    orientation: str | None = None,
    layer: str | None = None,
    allow_shape_mismatch: bool = False,
    scratch: Path | None = None,
) -> RawMatrix:
    r"""Read any expression matrix: GCT, CSV/TSV (plain, .gz, .zst), parquet, .h5ad or .zarr.

    Format, compression, orientation and unit are told from the content, never from the name.

    Parameters
    ----------
    path
        File, or zarr folder.
    keep_gene
        Called as ``keep_gene(gene_id, gene_name)``; genes that it refuses are skipped before they are parsed, and
        so not checked either. ``gene_name`` is None where the file has none. None keeps all.
    unit
        One of :data:`gtex_vae.data.readers.units.UNITS`, where the values do not tell it.
    orientation
        ``genes_in_rows`` or ``samples_in_rows``, where the ids do not tell it.
    layer
        Layer of an AnnData store, or ``raw``; X if None.
    allow_shape_mismatch
        Take a GCT whose header promises other dimensions than the file holds.
    scratch
        Folder to put down the values of a text file in, where they do not fit into memory; ``x_ng`` is then a
        `gtex_vae.data.readers.text.spill.Spilled`.

    Returns
    -------
    RawMatrix
        Values float32, samples x genes, with ids, unit and the facts about the source.

    Raises
    ------
    DataError
        The content is wrong or does not tell what it is; one line that names file, line and column.
    ConfigError
        An argument does not exist or does not apply.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "matrix.tsv"
    >>> _ = path.write_text("gene\ts1\ts2\nENSG00000000003\t12\t0\nENSG00000000005\t3\t41\n")
    >>> matrix = read_matrix(path)
    >>> matrix.x_ng.tolist(), matrix.unit, matrix.source.orientation
    ([[12.0, 3.0], [0.0, 41.0]], 'counts', 'genes_in_rows')
    """
    path = Path(path)
    kind = sniff(path)
    if layer is not None and kind.format not in ("h5ad", "zarr"):
        raise ConfigError(
            f"layer={layer!r} applies to .h5ad and .zarr only, and {path} is {kind.format}; leave it out"
        )
    try:
        if kind.format == "gct":
            from gtex_vae.data.readers.text.gct import read_gct

            if orientation not in (None, "genes_in_rows"):
                raise ConfigError(
                    f"orientation={orientation!r}: GCT always has genes in rows; leave it out for {path}"
                )
            matrix = read_gct(
                path,
                kind.compression,
                keep_gene=keep_gene,
                allow_shape_mismatch=allow_shape_mismatch,
                scratch=scratch,
            )
        elif kind.format == "delimited":
            from gtex_vae.data.readers.text.delimited import read_delimited

            matrix = read_delimited(
                path, kind.compression, keep_gene=keep_gene, orientation=orientation, scratch=scratch
            )
        elif kind.format == "parquet":
            from gtex_vae.data.readers.parquet import read_parquet

            matrix = read_parquet(path, keep_gene=keep_gene, orientation=orientation)
        else:
            from gtex_vae.data.readers.anndata import read_annotated

            matrix = read_annotated(
                path, kind.format, keep_gene=keep_gene, orientation=orientation, layer=layer
            )
    except MemoryError as error:
        raise DataError(
            f"{path}: the matrix does not fit into memory; keep fewer genes, or set data.memory_gib to read it in chunks"
        ) from error
    if not matrix.gene_ids:
        raise DataError(
            f"{path}: no gene is left after the gene filter; compare its ids with those of the file"
        )
    if unit is not None:
        return replace(
            matrix, unit=check_stated_unit(path, unit, matrix.first_negative), unit_reason="stated by unit="
        )
    if matrix.unit:
        return replace(matrix, unit=check_stated_unit(path, matrix.unit, matrix.first_negative))
    found, reason = recognise_unit(path, matrix.x_ng, matrix.first_negative)
    return matrix.with_unit(found, reason)
