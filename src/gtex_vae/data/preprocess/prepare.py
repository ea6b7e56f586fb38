"""From a raw matrix and its annotations to the processed AnnData, with counts of everything dropped.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gtex_vae import provenance
from gtex_vae.data.annotation_columns import OBS
from gtex_vae.data.annotations import annotate
from gtex_vae.data.counts import LENGTH, SIZE, library_sizes
from gtex_vae.data.genes.files import gene_table
from gtex_vae.data.genes.harmonise import Harmonised, KeepGenes, plan_genes
from gtex_vae.data.genes.table import GeneTable
from gtex_vae.data.preprocess.filters import filter_matrix
from gtex_vae.data.preprocess.in_chunks import convert_in_chunks, open_wanted
from gtex_vae.data.preprocess.near_duplicates import search, to_json
from gtex_vae.data.preprocess.qc import write_qc
from gtex_vae.data.readers import RawMatrix, read_matrix
from gtex_vae.data.rows import StreamedAnnData, stack, take_columns, take_rows
from gtex_vae.data.units import COUNT_UNITS, log_offset, to_log2_tpm
from gtex_vae.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


def prepare_matrix(
    path: str | None = None,
    *,
    release: str | None = None,
    tissues: Sequence[str] | None = None,
    raw: str = "data/raw",
    annotations: Sequence[str] = (),
    unit: str | None = None,
    orientation: Literal["genes_in_rows", "samples_in_rows"] | None = None,
    layer: str | None = None,
    allow_shape_mismatch: bool = False,
    genes: str = "protein_coding",
    gene_list: str | None = None,
    min_expression: float = 0.1,
    min_prevalence: float = 0.0,
    top_genes: int | None = None,
    rank_by: Literal["variance", "hvg"] = "variance",
    blacklist: Sequence[str] = (),
    only_freeze: bool = True,
    drop_outliers: bool = False,
    min_detected: int = 0,
    qc: str | None = None,
    scratch: str | None = None,
) -> AnnData | StreamedAnnData:
    """Read, harmonise, annotate and filter an expression matrix.

    Parameters
    ----------
    path
        The matrix, in any format of `gtex_vae.data.readers.registry.FORMATS`; the content decides the format.
    release
        A public release to download instead: ``gtex_v8``, ``gtex_v10``, ``gtex_v11`` or ``gtex_xena``.
    tissues
        Only these tissues of a release.
    raw
        Folder for downloads.
    annotations
        Tables with a column of sample or donor ids (SampleAttributesDS, SubjectPhenotypesDS or your own).
    unit, orientation, layer, allow_shape_mismatch
        Only needed if the content does not determine them: see `gtex_vae.data.readers.read_matrix`.
    genes
        Biotype to keep, or ``all``.
    gene_list
        A GTF or a list of genes (one a line) instead of the bundled GENCODE table.
    min_expression, min_prevalence, top_genes, rank_by
        Gene filters: see `gtex_vae.data.preprocess.filters.filter_matrix`.
    blacklist, only_freeze, drop_outliers, min_detected
        Sample filters: see `gtex_vae.data.preprocess.filters.filter_samples`.
    qc
        Folder for the QC page, or ``None``.
    scratch
        Folder for temporary values, for a matrix that does not fit into memory: it is read, converted, filtered and
        returned a block of samples at a time, with the same result. Parquet, CSC matrices, and stores with genes in
        rows are still read at once.

    Returns
    -------
    AnnData or StreamedAnnData
        X float32, samples x genes, log2(TPM+1) or the unit in ``uns["expression"]["unit"]``; with ``scratch``, X is read
        by rows from that folder, which must still exist.

    Raises
    ------
    DataError, DownloadError
        A source file is wrong or cannot be downloaded.
    ConfigError
        Not exactly one of ``path`` and ``release`` is given, or ``top_genes`` is less than 1.
    """
    import anndata

    if top_genes is not None and top_genes < 1:
        raise ConfigError(f"data.prepare.top_genes={top_genes} must be at least 1, or null to keep all")
    if (path is None) == (release is None):
        raise ConfigError("give either data=file data.path=FILE or a release such as data=gtex_v8")
    if release is None:
        assert path is not None
        paths, tables = [path], list(annotations)
    else:
        paths, tables = _download(release, tissues, raw)
        tables += annotations
    table = gene_table(gene_list)
    if genes != "all":
        table = table.of_biotype([genes]) if gene_list is None else table
    keep = KeepGenes(table) if table.whole is not None else None
    how: dict[str, Any] = {
        "keep_gene": keep,
        "unit": unit,
        "orientation": orientation,
        "layer": layer,
        "allow_shape_mismatch": allow_shape_mismatch,
    }
    with ExitStack() as opened:
        matrices = []
        for matrix_path in paths:
            log.info("reading %s", matrix_path)
            if scratch is None:
                matrices.append(read_matrix(matrix_path, **how))
            else:
                matrices.append(opened.enter_context(open_wanted(matrix_path, scratch=Path(scratch), **how)))
        if keep is not None:
            keep.check(sum(matrix.source.found_shape[0] for matrix in matrices))
        matrix = _join(matrices)
        log.info("%d samples x %d genes in %s (%s)", *matrix.x_ng.shape, matrix.unit, matrix.unit_reason)
        made, unit_now, size_n = _one_column_per_gene(
            matrix, table, None if scratch is None else Path(scratch)
        )
    obs, annotation_report = annotate(matrix.sample_ids, tables, own=matrix.obs)
    if size_n is not None:
        obs[SIZE] = size_n
    kept = filter_matrix(
        made.x_ng,
        obs,
        unit=unit_now,
        min_expression=min_expression,
        min_prevalence=min_prevalence,
        top_genes=top_genes,
        rank_by=rank_by,
        blacklist=blacklist,
        only_freeze=only_freeze,
        drop_outliers=drop_outliers,
        min_detected=min_detected,
    )
    duplicates = search(made.x_ng, obs.index)
    if qc is not None:
        write_qc(qc, made.x_ng, obs, unit=unit_now, reason_n=kept.reason_n, duplicates=duplicates)
    for column in OBS:
        if column not in obs:
            obs[column] = pd.Categorical([None] * len(obs))
    dropped = {**kept.dropped, "genes_in_source": dict(keep.dropped) if keep is not None else {}}
    _log_dropped(dropped)
    tables = anndata.AnnData(
        obs=obs[kept.keep_n],
        var=made.var[kept.keep_g],
        uns={
            "expression": {"unit": unit_now},
            "provenance": provenance.describe(
                sources={str(m.source.path): m.source.sha256 or "" for m in matrices}
                | {str(t): provenance.sha256(t) for t in tables},
                dropped=dropped,
                genes=made.report,
                annotations=annotation_report,
                unit={"found": matrix.unit, "reason": matrix.unit_reason},
                gene_table=table.source,
                near_duplicates=to_json(duplicates),
            ),
        },
    )
    if scratch is not None:
        x_ng = take_columns(made.x_ng, np.flatnonzero(kept.keep_g))
        return StreamedAnnData(tables, take_rows(x_ng, np.flatnonzero(kept.keep_n)))
    whole = kept.keep_n.all() and kept.keep_g.all()
    tables.X = made.x_ng if whole else made.x_ng[kept.keep_n][:, kept.keep_g]
    return tables


def _download(release: str, tissues: Sequence[str] | None, raw: str) -> tuple[list[str], list[str]]:
    """Return expression files and annotation tables of a public release, downloaded if necessary."""
    from gtex_vae.data.download.download import fetch_release

    files = fetch_release(release, raw, tissues=tissues)
    tables = [str(path) for kind in ("samples", "subjects") for path in files.get(kind, [])]
    return [str(path) for path in files["expression"]], tables


def _join(matrices: list[RawMatrix]) -> RawMatrix:
    """Concatenate matrices of different samples and the same genes, such as files by tissue."""
    first = matrices[0]
    if len(matrices) == 1:
        return first
    for other in matrices[1:]:
        if other.gene_ids != first.gene_ids or other.unit != first.unit:
            raise DataError(f"{other.source.path} has other genes or another unit than {first.source.path}")
    samples = [sample for matrix in matrices for sample in matrix.sample_ids]
    if len(set(samples)) < len(samples):
        raise DataError(f"the files of {first.source.path.parent} share samples")
    from dataclasses import replace

    x_ng = [matrix.x_ng for matrix in matrices]
    in_memory = all(isinstance(x, np.ndarray) for x in x_ng)
    return replace(
        first, x_ng=np.concatenate(x_ng) if in_memory else stack(x_ng), sample_ids=samples, obs=None
    )


def _one_column_per_gene(
    matrix: RawMatrix, table: GeneTable, scratch: Path | None
) -> tuple[Harmonised, str, np.ndarray | None]:
    """Convert to one column per gene on the log2 scale, in memory or in a scratch folder.

    Returns
    -------
    made
        Dense expression and its genes.
    unit
        Unit of the expression.
    size_n
        Size factors, only for counts in memory.
    """
    plan = plan_genes(matrix.x_ng, matrix.gene_ids, matrix.gene_names, table)
    whole = table if table.whole is None else table.whole
    lengths = None
    if matrix.unit in COUNT_UNITS:
        plan, lengths = plan.with_lengths(whole)
    offset = log_offset(matrix.unit)
    if scratch is not None:
        x_ng, unit = convert_in_chunks(matrix, plan.columns, lengths, scratch)
        return Harmonised(x_ng, plan.var, plan.report), unit, None
    taken, size_n = plan.columns.take(matrix.x_ng, offset), None
    if matrix.unit == "counts":
        size_n = library_sizes(taken, lengths)
        plan.var[LENGTH] = 1.0 if lengths is None else lengths
    x_ng, unit = to_log2_tpm(taken, matrix.unit, lengths, path=matrix.source.path)
    dense = np.ascontiguousarray(x_ng if isinstance(x_ng, np.ndarray) else x_ng.toarray(), np.float32)
    return Harmonised(dense, plan.var, plan.report), unit, size_n


def _log_dropped(dropped: dict[str, dict[str, int]]) -> None:
    """Log one line for each reason."""
    for what, reasons in dropped.items():
        for reason, count in reasons.items():
            log.info("dropped %d %s: %s", count, what.split("_")[0], reason)
