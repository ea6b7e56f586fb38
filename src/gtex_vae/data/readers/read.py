"""Reading of any expression matrix: recognise the format, read it, name its unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gtex_vae.data.genes.ids import describe_ids
from gtex_vae.data.readers.matrix import KeepGene, RawMatrix
from gtex_vae.data.readers.registry import FORMATS, ReadOptions
from gtex_vae.data.readers.sniff import sniff
from gtex_vae.data.readers.units import check_floor, convert_on_reading, recognise_unit
from gtex_vae.data.units import check_stated_unit
from gtex_vae.errors import ConfigError, DataError

_EXAMPLES = 100


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
    r"""Read an expression matrix in any format of `gtex_vae.data.readers.registry.FORMATS`.

    Format, compression, orientation and unit are recognised from the content, never from the file name.

    Parameters
    ----------
    path
        File, or zarr folder.
    keep_gene
        Called as ``keep_gene(gene_id, gene_name)``. Genes for which it returns False are skipped before they are
        parsed, so their values are not checked. ``gene_name`` is None where the file has none. None keeps all.
    unit
        One of :data:`gtex_vae.data.units.UNITS`, where the values do not show it.
    orientation
        ``genes_in_rows`` or ``samples_in_rows``, where the ids do not show it.
    layer
        Layer of an AnnData store, or ``raw``; X if None.
    allow_shape_mismatch
        Accept a GCT whose header declares other dimensions than the file has.
    scratch
        Folder for the values of a text file that do not fit into memory; ``x_ng`` is then a
        `gtex_vae.data.readers.text.spill.Spilled`.

    Returns
    -------
    RawMatrix
        Values float32, samples x genes, with ids, unit and the facts about the source.

    Raises
    ------
    DataError
        The content is wrong or ambiguous; one line that names file, line and column.
    ConfigError
        An argument is unknown or does not apply.

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
    if layer is not None and not kind.format.store:
        stores = " and ".join(suffix for format in FORMATS if format.store for suffix in format.suffixes)
        raise ConfigError(
            f"layer={layer!r} applies to {stores} only, and {path} is {kind.format.name}; leave it out"
        )
    refused: list[str] = []

    def keep(gene: str, name: str | None) -> bool:
        assert keep_gene is not None
        wanted = keep_gene(gene, name)
        if not wanted and len(refused) < _EXAMPLES:
            refused.append(gene)
        return wanted

    keep_noting = None if keep_gene is None else keep
    options = ReadOptions(
        kind.compression, keep_noting, orientation, layer, allow_shape_mismatch, scratch, unit
    )
    try:
        matrix = kind.format.reader()(path, options)
    except MemoryError as error:
        raise DataError(
            f"{path}: the matrix does not fit into memory; keep fewer genes, or set data.memory_gib to read it in chunks"
        ) from error
    if not matrix.gene_ids:
        raise DataError(
            f"{path}: no gene is left after the gene filter; the ids look like {describe_ids(refused)}, but must be human "
            "Ensembl ids or symbols"
        )
    if unit is not None:
        matrix = matrix.with_unit(unit, "stated by unit=")
    elif not matrix.unit:
        matrix = matrix.with_unit(*recognise_unit(path, matrix.x_ng, matrix.first_negative))
    matrix = replace(matrix, unit=check_stated_unit(path, matrix.unit, matrix.first_negative))
    if unit is not None:
        check_floor(path, matrix.unit, matrix.x_ng, matrix.first_negative)
    return convert_on_reading(matrix, in_place=True)
