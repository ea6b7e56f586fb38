"""Gene sets from GMT files, matched to the genes of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gtex_vae.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

SMALLEST, LARGEST = 10, 200


def read_gmt(path: Path | str) -> dict[str, tuple[str, ...]]:
    r"""Read a GMT file: one gene set per line, with tab-separated name, description and genes.

    Parameters
    ----------
    path
        GMT file, for example from MSigDB.

    Returns
    -------
    dict
        Name to unique genes, in the order of the file.

    Raises
    ------
    DataError
        The file is missing, not text or empty, or a line has no genes or repeats a name.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.gmt"
    >>> _ = path.write_text("A\tfirst\tTP53\tMYC\nB\t\tTP53\n")
    >>> read_gmt(path)
    {'A': ('TP53', 'MYC'), 'B': ('TP53',)}
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read the gene sets {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: gene sets must be an unpacked GMT file in UTF-8") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = (cell.strip() for cell in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not genes:
            raise DataError(
                f"{path}, line {number}: a GMT line is name, description and genes, separated by tabs"
            )
        if name in sets:
            raise DataError(f"{path}, line {number}: the name {name!r} occurs twice; names must be unique")
        sets[name] = genes
    if not sets:
        raise DataError(f"{path} contains no gene sets")
    return sets


def match(
    sets: Mapping[str, Iterable[str]],
    genes: Iterable[str],
    *,
    smallest: int = SMALLEST,
    largest: int = LARGEST,
) -> dict[str, NDArray[np.intp]]:
    """Find the members of each set among the model's genes.

    Parameters
    ----------
    sets
        Name to genes.
    genes
        The model's genes in order, named as in the sets (usually symbols). A name shared by several genes matches
        all of them.
    smallest, largest
        Sets with fewer or more of the model's genes are skipped.

    Returns
    -------
    dict
        Name to sorted gene indices.

    Raises
    ------
    DataError
        No set has a valid size.

    Examples
    --------
    >>> match({"A": ["TP53", "MYC"]}, ["MYC", "ALB", "TP53"], smallest=2)
    {'A': array([0, 2])}
    """
    places = defaultdict(list)
    for place, gene in enumerate(genes):
        places[gene].append(place)
    found = {
        name: sorted({i for gene in set(members) for i in places.get(gene, ())})
        for name, members in sets.items()
    }
    kept = {name: np.array(members) for name, members in found.items() if smallest <= len(members) <= largest}
    if not kept:
        most = max(map(len, found.values()), default=0)
        raise DataError(
            f"no gene set has {smallest} to {largest} of the model's {sum(map(len, places.values()))} genes (the "
            f"largest has {most}): use gene sets whose genes are named as in the model, for example by symbols"
        )
    return kept


def collections_for(adata: AnnData, paths: Sequence[str]) -> dict[str, dict[str, NDArray[np.intp]]]:
    """Read the gene sets of GMT files, and the modules of simulated data.

    Parameters
    ----------
    adata
        The model's samples; ``var["gene_name"]`` has the gene names.
    paths
        GMT files; each is a collection named after its file.

    Returns
    -------
    dict
        Collection to set to gene indices, as `match` returns.
    """
    from gtex_vae.data.simulate.genes import module_gene_sets

    names = adata.var.get("gene_name", adata.var_names.to_series())
    collections = {Path(path).name.removesuffix(".gmt"): match(read_gmt(path), names) for path in paths}
    if "module" in adata.var:
        collections["modules"] = match(module_gene_sets(adata), names)
    return collections
