"""Conversion of any matrix to a model's genes and unit, in blocks of samples.

Shapes: n samples, g the model's genes, c columns of the matrix.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.genes.mapping import MIN_OVERLAP, plan_gene_mapping
from gtex_vae.data.genes.table import bundled_genes
from gtex_vae.data.readers.backed import block, probe
from gtex_vae.data.readers.matrix import KeepGene, RawMatrix
from gtex_vae.data.units import COUNT_UNITS, UNITS, canonical_unit, check_stated_unit, to_log2_tpm
from gtex_vae.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class ModelInput:
    """Matrix in a model's genes and unit.

    If the matrix does not state its unit, it is recognised from the values. It is converted to the model's unit if the
    values suffice for that. Genes are found by id, symbol, former symbol or alias, in any order. Missing genes are
    filled with their training mean.

    Parameters
    ----------
    matrix
        The matrix that was read, in memory or on disk.
    gene_ids, gene_names
        The model's genes in order.
    unit
        The model's unit.
    mean_g
        Training mean of each gene in that unit, shape (g,).
    min_overlap
        Minimum share of the model's genes that the matrix must have, from 0 to 1.

    Attributes
    ----------
    present_g
        True for genes of the matrix.
    report
        Content of ``alignment.json``: counts and examples, plain.

    Raises
    ------
    DataError
        Too few of the model's genes, or a unit that cannot be converted to the model's.
    """

    def __init__(
        self,
        matrix: RawMatrix,
        *,
        gene_ids: Sequence[str],
        gene_names: Sequence[str],
        unit: str,
        mean_g: npt.NDArray[np.float32],
        min_overlap: float = MIN_OVERLAP,
    ) -> None:
        if not 0.0 <= min_overlap <= 1.0:
            raise ConfigError(f"min_overlap={min_overlap} must be between 0 and 1")
        self.matrix, self.unit, self.mean_g = matrix, unit, mean_g
        self._found_unit = canonical_unit(matrix.unit)
        self._as_is = self._found_unit == canonical_unit(unit)
        if not self._as_is and self._found_unit not in UNITS:
            raise DataError(
                f"{matrix.source.path}: the unit {matrix.unit!r} cannot become the model's, {unit}; "
                f"give a matrix in that, or in one of {', '.join(UNITS)}"
            )
        self._column_c, self._length_c = self._library(gene_ids, gene_names)
        few = self._converted(probe(matrix))
        names = matrix.gene_names
        self._alignment = plan_gene_mapping(
            few.x_ng,
            [matrix.gene_ids[c] for c in self._column_c],
            None if names is None else [names[c] for c in self._column_c],
            gene_ids,
            model_gene_names=gene_names,
            min_overlap=min_overlap,
        )
        self.present_g = self._alignment.present_g
        same = self._as_is or _same(few.unit, unit)
        if not same:
            log.warning("%s is in %s, the model in %s: expect a shift", matrix.source.path, few.unit, unit)
        self.report: dict[str, Any] = {
            "samples": len(self),
            **self._alignment.report,
            "unit": {
                "found": matrix.unit,
                "reason": matrix.unit_reason,
                "used": few.unit,
                "model": unit,
                "same": same,
            },
        }
        if self._found_unit in COUNT_UNITS:
            self.report["unit"]["scaled_over_genes"] = len(self._column_c)

    def summary(self, name: str) -> str:
        """Describe the input in one line, starting with its name."""
        share, unit = 100 * self.present_g.mean(), self.report["unit"]["used"]
        missing = "" if self.present_g.all() else f", missing genes: {self.report['missing_filled_with']}"
        return (
            f"{name}: {len(self)} samples, {share:.1f} % of the model's {len(self.present_g)} genes, in {unit}"
            f"{missing}"
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.matrix.sample_ids)

    def blocks(self, size: int) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield rows and expression of consecutive samples in the model's genes and unit, float32 (n, g).

        Parameters
        ----------
        size
            Samples in a block; memory use is a few dense blocks.
        """
        if size < 1:
            raise ConfigError(f"batch_size={size} must be at least 1")
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            part = self._converted(block(self.matrix, rows.start, rows.stop))
            yield rows, self._alignment.apply(part.x_ng, self.mean_g, unit=self.unit)

    def _converted(self, part: RawMatrix) -> RawMatrix:
        """Convert a block in memory to the model's unit, as far as possible."""
        if self._as_is and self._found_unit not in UNITS:
            return part
        check_stated_unit(part.source.path, self._found_unit, part.first_negative)
        if self._as_is:
            return part
        x_ng = part.x_ng
        if len(self._column_c) < x_ng.shape[1]:
            x_ng = x_ng[:, self._column_c]
        x_ng, unit = to_log2_tpm(x_ng, self._found_unit, self._length_c, path=part.source.path)
        return replace(part, x_ng=x_ng, unit=unit)

    def _library(
        self, gene_ids: Sequence[str], gene_names: Sequence[str]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64] | None]:
        """Return columns and gene lengths; counts are scaled over the same genes as in preprocess."""
        matrix = self.matrix
        column_c = np.arange(len(matrix.gene_ids))
        if self._found_unit not in COUNT_UNITS or self._as_is:
            return column_c, None
        names = matrix.gene_names or [""] * len(column_c)
        labelled = list(zip(matrix.gene_ids, names, strict=True))
        keep = wanted_genes(gene_ids, gene_names)
        if keep is not None:
            column_c = column_c[[keep(*label) for label in labelled]]
        if "CPM" in self.unit:
            return column_c, None
        table = bundled_genes()
        length_c = table.lengths([table.identify(*labelled[c]) or "" for c in column_c])
        known = length_c > 0
        if not known.any():
            raise DataError(
                f"{matrix.source.path}: holds counts, the model takes {self.unit}, and the lengths of its genes "
                f"({', '.join(matrix.gene_ids[:3])}...) are unknown; give TPM"
            )
        return column_c[known], length_c[known]


def wanted_genes(gene_ids: Sequence[str], gene_names: Sequence[str]) -> KeepGene | None:
    """Return a predicate of the genes that a model can use: its own, and all genes of their biotypes.

    The latter are what `gtex_vae.data.preprocess.prepare` scales counts over. None if the annotation contains none of the genes,
    so that all genes must be read.

    Examples
    --------
    >>> keep = wanted_genes(["ENSG00000000003"], ["TSPAN6"])
    >>> keep("ENSG00000000003.15", None), keep("TP53", None), keep("ENSG00000223972", "DDX11L1")
    (True, True, False)
    """
    table = bundled_genes()
    biotypes = set(table.frame["biotype"].reindex(list(gene_ids)).dropna())
    if not biotypes:
        return None
    kept = table.of_biotype(sorted(biotypes))
    own = {*gene_ids, *(name.upper() for name in gene_names if name)}

    def keep(label: str, name: str | None) -> bool:
        ensembl = parse_ensembl(label)
        found = (ensembl.gene_id if ensembl else label.upper()) in own
        return found or (name or "").upper() in own or kept.trace(label, name) is not None

    return keep


def _same(found: str, wanted: str) -> bool:
    """Whether two units are one, as far as is known: ``TPM or RPKM`` may be either."""
    units = {canonical_unit(found), canonical_unit(wanted)}
    return len(units) == 1 or ("log2(tpm/rpkm+1)" in units and units <= set(UNITS))
