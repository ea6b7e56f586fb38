"""Evaluate a run on held-out donors: ``python -m gtex_vae.evaluate run=<run>|latest [genesets=...]``.

``input=<matrix>`` evaluates it on another matrix. Alignments of donors with cell types are evaluated by retrieval.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.paths import matrix_name
from gtex_vae.runs import data_paths
from gtex_vae.runs.directory import find_run, results_folder
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class EvaluateConfig:
    """Root keys of ``conf/evaluate.yaml``."""

    run: str
    to: str | None
    input: str | None
    annotations: list[str]
    unit: str | None
    orientation: str | None
    layer: str | None
    min_overlap: float
    genesets: list[str]
    supervised_terms: int
    seed: int
    data: dict[str, str | None]
    paths: dict[str, Any]


@stage("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> None:
    """Score the model and its baselines; write metrics, intervals and tables into the run."""
    from gtex_vae.analysis.alignment.run import evaluate_alignment, is_alignment
    from gtex_vae.analysis.evaluate_run import evaluate_run
    from gtex_vae.analysis.evaluation.other_matrix import evaluate_input
    from gtex_vae.inference.trained_model import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    results = results_folder(run, config.to, fixed=is_alignment(run))
    if is_alignment(run):
        matrix = Path(config.input) if config.input else None
        compared, folder = evaluate_alignment(run, matrix, seed=config.seed)
        log.info("%s\nwritten to %s", compared.intervals.round(4).to_string(), folder)
        return
    data_paths.move(run, config.data)
    model = TrainedModel.load(run / "model")
    if config.input is None:
        folder = results / "evaluation"
        log.info("measuring %s on held-out donors", run)
        result = evaluate_run(
            run,
            model,
            config.genesets,
            results=results,
            supervised_terms=config.supervised_terms,
            seed=config.seed,
        )
    else:
        folder = results / "evaluation" / matrix_name(config.input)
        result = evaluate_input(
            run, folder, model, config.input, annotations=config.annotations, unit=config.unit, layer=config.layer,
            orientation=config.orientation, min_overlap=config.min_overlap, seed=config.seed,
        )  # fmt: skip
    for line in result.lines():
        log.info("%s", line)
    log.info("written to %s", folder)


if __name__ == "__main__":
    main()
