"""Measure a run on donors it never saw: ``python -m gtex_vae.evaluate run=<run>|latest [genesets=...]``.

Or on any other matrix, brought to its genes: ``python -m gtex_vae.evaluate run=<run> input=<matrix>``. An alignment of
donors with their cell types is measured by retrieval.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.paths import matrix_name
from gtex_vae.runs import find_run
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class EvaluateConfig:
    """Root keys of ``conf/evaluate.yaml``."""

    run: str
    input: str | None
    annotations: list[str]
    unit: str | None
    orientation: str | None
    layer: str | None
    min_overlap: float
    genesets: list[str]
    gene_run: str | None
    supervised_terms: int
    seed: int
    paths: dict[str, Any]


@stage("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> None:
    """Score the model and its baselines; write metrics, intervals and tables into the run."""
    from gtex_vae.analysis.alignment_run import evaluate_alignment, is_alignment
    from gtex_vae.analysis.evaluation import evaluate_run
    from gtex_vae.analysis.external import evaluate_matrix, read_external
    from gtex_vae.analysis.gene_embedding import GENE_WISE
    from gtex_vae.analysis.gene_run import evaluate_gene_run, read_gene_wise
    from gtex_vae.analysis.out_of_distribution import sentence
    from gtex_vae.data.gene_axis import of_genes, refuse_gene_run
    from gtex_vae.models.trained import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    if is_alignment(run):
        compared, folder = evaluate_alignment(
            run, Path(config.input) if config.input else None, seed=config.seed
        )
        log.info("%s\nwritten to %s", compared.intervals.round(4).to_string(), folder)
        return
    model, folder = TrainedModel.load(run / "model"), run / "evaluation"
    how: dict[str, Any] = {"supervised_terms": config.supervised_terms, "seed": config.seed}
    if config.input is None and of_genes(run):
        log.info("measuring %s on held-out genes", run)
        result = evaluate_gene_run(run, model, config.genesets, **how)
    elif config.input is None:
        log.info("measuring %s on held-out donors", run)
        if config.gene_run is not None:
            gene_run = find_run(config.gene_run, Path(config.paths["outputs"]))
            how["further_genes"] = {GENE_WISE: read_gene_wise(gene_run, run, model.gene_ids)}
        result = evaluate_run(run, model, config.genesets, **how)
    else:
        refuse_gene_run(run, "input= is for runs of samples")
        folder = folder / matrix_name(config.input)
        external = read_external(
            model, config.input, annotations=config.annotations, unit=config.unit,
            orientation=config.orientation, layer=config.layer, min_overlap=config.min_overlap,
        )  # fmt: skip
        log.info("measuring %s on %s: %d samples, %.1f %% of the model's genes", run, config.input,
                 len(external.obs), 100 * external.present_g.mean())  # fmt: skip
        result = evaluate_matrix(run, model, external, folder, seed=config.seed)
    log.info("%s", result.tables["intervals"].round(4).to_string())
    if "gene_function" in result.tables:
        log.info("gene function\n%s", result.tables["gene_function"].iloc[:, :8].round(3).to_string())
    if "out_of_distribution" in result.tables:
        log.info("%s", sentence(result.tables["out_of_distribution"]["verdict"]))
    log.info("written to %s", folder)


if __name__ == "__main__":
    main()
