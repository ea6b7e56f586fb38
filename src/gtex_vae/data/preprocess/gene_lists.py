"""Gene lists next to a processed AnnData, and the genes it has in common with other data sets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gtex_vae.data.genes.files import write_common_genes, write_gene_lists
from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.readers.read import read_matrix
from gtex_vae.data.readers.stores import explain_damage, open_store
from gtex_vae.errors import DataError

log = logging.getLogger(__name__)


def gene_lists_folder(processed: Path) -> Path:
    """Return the folder of the gene lists of a processed file.

    >>> gene_lists_folder(Path("data/processed/gtex_v8.h5ad")).as_posix()
    'data/processed/gtex_v8_genes'
    """
    return processed.with_name(f"{processed.stem}_genes")


def write_lists(processed: Path, common_with: Sequence[str] = ()) -> None:
    """Write ``ensg_coding_genes.txt``, ``gene_names.txt`` and, if other data sets are given, ``common_gene.txt``.

    Parameters
    ----------
    processed
        The processed AnnData; the lists go to `gene_lists_folder`.
    common_with
        Other data sets, processed or any matrix that `read_matrix` reads; ``common_gene.txt`` lists the genes that all
        of them have. Only the gene ids of these files are read.

    Raises
    ------
    DataError
        One of the data sets cannot be read, or they have no gene in common.
    """
    from anndata.io import read_elem

    folder = gene_lists_folder(processed)
    format = "zarr" if processed.suffix == ".zarr" else "h5ad"
    with open_store(processed, format) as store, explain_damage(processed, format):
        var = read_elem(store["var"])
    ids = [str(gene) for gene in var.index]
    labels = var["label"].astype(str).tolist() if "label" in var else ids
    names = var["gene_name"].astype(str).tolist() if "gene_name" in var else [""] * len(ids)
    write_gene_lists(folder, labels, names)
    if not common_with:
        return
    common = set(ids)
    for path in common_with:
        common &= genes_of(path)
        if not common:
            raise DataError(
                f"{path} has no gene in common with {processed} and the data sets before it in data.common_with"
            )
    write_common_genes(folder / "common_gene.txt", common)
    log.info("%d of %d genes are common to %d data sets", len(common), len(ids), 1 + len(common_with))


def genes_of(path: Path | str) -> set[str]:
    """Return the Ensembl ids, without versions, of the genes of any matrix, without parsing its values.

    Raises
    ------
    DataError
        The file is not a matrix, or none of its genes is recognized.
    """
    table = bundled_genes()
    found: set[str] = set()
    asked = 0

    def note(label: str, name: str | None) -> bool:
        nonlocal asked
        asked += 1
        ensembl = parse_ensembl(label)
        known = ensembl if ensembl is not None else table.trace(label, name)
        if known is not None:
            found.add(known.gene_id)
        return asked == 1  # keep one gene: a reader refuses a file of which it keeps none

    # this unit allows any value
    read_matrix(path, keep_gene=note, unit="log2(tpm+0.001)", allow_shape_mismatch=True)
    if not found:
        raise DataError(f"{path}: none of its {asked:,} genes is a human Ensembl id or symbol")
    return found
