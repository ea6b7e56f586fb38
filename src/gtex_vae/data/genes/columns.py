"""Choice of the columns of a matrix for each gene, and gathering them.

Several columns of one gene are resolved so:

1. the copy of a pseudo-autosomal gene on the Y chromosome (``_PAR_Y``, ``ENSGR``) is added to the gene, on
   the linear scale, because an aligner divides the reads of the gene among both copies;
2. of all other columns one is kept, because they measure the same gene and a sum would count it twice: the one with
   the better evidence (id, symbol, former symbol, alias), then the one with the highest mean (a copy to which no reads
   map is near zero), then the first.

Shape suffixes: n samples, g genes of the result, c columns of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.errors import DataError

ROWS = 64
# more repeated genes than these, in number and as a share, are no accident
MOST_REPEATED = 100
MOST_REPEATED_SHARE = 0.2
EVIDENCE = ("id", "symbol", "previous symbol", "alias")
# dense float32 array, or CSR matrix or array
Matrix: TypeAlias = Any


def add_expression(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], offset: float | None
) -> npt.NDArray[np.float32]:
    r"""Add two expression values on the linear scale: :math:`\log_2(2^a + 2^b - c)`, or a + b.

    >>> add_expression(np.float32([1.0]), np.float32([2.0]), offset=1.0)   # TPM 1 and 3
    array([2.321928], dtype=float32)
    """
    if offset is None:
        return a + b
    return np.log2(np.exp2(a) + np.exp2(b) - np.float32(offset))


@dataclass(frozen=True)
class Columns:
    """Columns of the input for each gene of the result.

    Parameters
    ----------
    source_g
        Column of each gene, or -1.
    added
        Pairs (gene, column): another column whose expression is added.
    left_out
        Pairs (gene, column): a duplicate that is not used.
    """

    source_g: npt.NDArray[np.intp]
    added: tuple[tuple[int, int], ...]
    left_out: tuple[tuple[int, int], ...]

    def of_genes(self, genes: npt.NDArray[np.intp]) -> Columns:
        """Keep some genes, given by their numbers."""
        number = {int(gene): at for at, gene in enumerate(genes)}
        added, left_out = (
            tuple((number[g], c) for g, c in pairs if g in number) for pairs in (self.added, self.left_out)
        )
        return Columns(self.source_g[genes], added, left_out)

    def take(
        self, x_nc: Matrix, offset: float | None, fill_g: npt.NDArray[np.float32] | float = 0.0
    ) -> Matrix:
        """Gather the genes; a sparse matrix stays sparse, with its missing genes empty.

        Parameters
        ----------
        x_nc
            Dense or CSR, n x c.
        offset
            See :func:`gtex_vae.data.units.log_offset`.
        fill_g
            Values of missing genes in a dense matrix, shape (g,), or one for all.
        """
        missing_g = self.source_g < 0
        if sp.issparse(x_nc):
            return self._take_sparse(x_nc, offset, missing_g)
        identity = len(self.source_g) == x_nc.shape[1] and bool(
            (self.source_g == np.arange(x_nc.shape[1])).all()
        )
        if identity and not self.added:
            return np.asarray(x_nc, dtype=np.float32)
        n_samples = x_nc.shape[0]
        if x_nc.flags.f_contiguous and not x_nc.flags.c_contiguous:
            # stored gene by gene, as the result: each gene is contiguous in memory
            out_ng = np.asarray(x_nc.T[self.source_g], dtype=np.float32).T
            self._add(out_ng, x_nc, offset)
        else:
            out_ng = np.empty((n_samples, len(self.source_g)), dtype=np.float32)
            # in blocks of rows, because a gather over the whole matrix misses the cache at every element
            for start in range(0, n_samples, ROWS):
                rows = slice(start, start + ROWS)
                block = np.asarray(x_nc[rows], dtype=np.float32)
                np.take(block, self.source_g, axis=1, out=out_ng[rows], mode="wrap")
                self._add(out_ng[rows], block, offset)
        if missing_g.any():
            out_ng[:, missing_g] = np.broadcast_to(np.float32(fill_g), missing_g.shape)[missing_g]
        return out_ng

    def _add(
        self, out_ng: npt.NDArray[np.float32], x_nc: npt.NDArray[np.float32], offset: float | None
    ) -> None:
        """Add the additional columns in place."""
        for gene, column in self.added:
            out_ng[:, gene] = add_expression(out_ng[:, gene], x_nc[:, column], offset)

    def _take_sparse(self, x_nc: Matrix, offset: float | None, missing_g: npt.NDArray[np.bool_]) -> Matrix:
        """Gather by replacing the column index of each stored value."""
        coo = sp.csr_array(x_nc).tocoo()
        gene_c = np.full(x_nc.shape[1], -1, dtype=np.int64)
        gene_c[self.source_g[~missing_g]] = np.flatnonzero(~missing_g)
        genes = gene_c[coo.col]
        kept = genes >= 0
        shape = (x_nc.shape[0], len(self.source_g))
        out = sp.csr_array((coo.data[kept], (coo.row[kept], genes[kept])), shape=shape, dtype=np.float32)
        if not self.added:
            return out
        csc = sp.csc_array(x_nc)
        columns = []
        for gene, column in self.added:
            own = csc[:, [int(self.source_g[gene])]].toarray()
            more = csc[:, [column]].toarray()
            columns.append(add_expression(own, more, offset) - own)
        difference = sp.coo_array(np.hstack(columns))
        positions = np.array([gene for gene, _ in self.added])[difference.col]
        return out + sp.csr_array(
            (difference.data, (difference.row, positions)), shape=shape, dtype=np.float32
        )


def column_means(x_nc: Matrix, columns: Sequence[int]) -> dict[int, float]:
    """Compute the mean of some columns in one pass over blocks of rows."""
    if not columns:
        return {}
    total = np.zeros(len(columns))
    for start in range(0, x_nc.shape[0], ROWS):
        total += np.asarray(x_nc[start : start + ROWS][:, list(columns)].sum(axis=0)).ravel()
    return dict(zip(columns, (total / x_nc.shape[0]).tolist(), strict=True))


def choose(
    labels: Sequence[str],
    gene_of: Sequence[str | None],
    kind_of: Sequence[str],
    genes: Sequence[str],
    x_nc: Matrix,
) -> Columns:
    """Choose the columns of each gene by the rules at the top of this file.

    Parameters
    ----------
    labels
        Names of the columns in the input.
    gene_of
        Gene of each column, or None.
    kind_of
        Evidence for it, one of :data:`EVIDENCE`.
    genes
        Genes of the result, each once.
    x_nc
        The matrix; read only where the evidence is equal.

    Raises
    ------
    DataError
        So many genes repeat that the rows of the table are not genes.
    """
    position = {gene: g for g, gene in enumerate(genes)}
    source_g = np.full(len(genes), -1, dtype=np.intp)
    claims: dict[int, list[int]] = {}
    for column, gene in enumerate(gene_of):
        g = position.get(gene, -1) if gene is not None else -1
        if g < 0:
            continue
        if source_g[g] < 0:
            source_g[g] = column
        else:
            claims.setdefault(g, [int(source_g[g])]).append(column)
    added: list[tuple[int, int]] = []
    left_out: list[tuple[int, int]] = []
    tied_of: dict[int, tuple[list[int], list[int]]] = {}
    for g, columns in sorted(claims.items()):
        copies = [c for c in columns if (gene_id := parse_ensembl(labels[c])) is not None and gene_id.par_y]
        others = [c for c in columns if c not in copies]
        if not others:
            others, copies = copies, []
        best = min(EVIDENCE.index(kind_of[c]) for c in others)
        tied_of[g] = [c for c in others if EVIDENCE.index(kind_of[c]) == best], copies
    mean_of = column_means(x_nc, [c for tied, _ in tied_of.values() if len(tied) > 1 for c in tied])
    for g, (tied, copies) in tied_of.items():
        columns = claims[g]
        source_g[g] = max(tied, key=lambda c: mean_of.get(c, 0.0))
        added += [(g, c) for c in copies[:1] if kind_of[source_g[g]] == "id"]
        used = {int(source_g[g])} | {c for gene, c in added if gene == g}
        left_out += [(g, c) for c in columns if c not in used]
    if len(left_out) > max(MOST_REPEATED, MOST_REPEATED_SHARE * sum(gene is not None for gene in gene_of)):
        again = labels[left_out[0][1]]
        raise DataError(
            f"{len(left_out):,} of {len(labels):,} genes repeat another one, such as {again!r}: exons, probes or a long "
            "table? Sum them to genes, or pivot the table to one column per sample"
        )
    return Columns(source_g, tuple(added), tuple(left_out))
