"""Measure a run on donors it never saw: ``python -m gtex_vae.evaluate run=<run>|latest [genesets=...]``.

Or on any other matrix, brought to its genes: ``python -m gtex_vae.evaluate run=<run> input=<matrix>``. An alignment of
donors with their cell types is measured by retrieval.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtex_vae.paths import matrix_name
from gtex_vae.runs import data_paths
from gtex_vae.runs.directory import find_run
from gtex_vae.stage import stage

if TYPE_CHECKING:
    from gtex_vae.analysis.evaluation.evaluate import Evaluation
    from gtex_vae.inference.trained_model import TrainedModel

    Measured = tuple[Evaluation, Path]

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
    supervised_terms: int
    seed: int
    data: dict[str, str | None]
    paths: dict[str, Any]


@stage("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> None:
    """Score the model and its baselines; write metrics, intervals and tables into the run."""
    from gtex_vae.analysis.alignment.run import is_alignment
    from gtex_vae.inference.trained_model import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    if is_alignment(run):
        _alignment(config, run)
        return
    data_paths.move(run, config.data)
    model = TrainedModel.load(run / "model")
    if config.input is not None:
        result, folder = _matrix(config, run, model, config.input)
    else:
        result, folder = _samples(config, run, model)
    for line in result.lines():
        log.info("%s", line)
    log.info("written to %s", folder)


def _alignment(config: EvaluateConfig, run: Path) -> None:
    """An alignment of donors with their cell types, by retrieval."""
    from gtex_vae.analysis.alignment.run import evaluate_alignment

    compared, folder = evaluate_alignment(run, Path(config.input) if config.input else None, seed=config.seed)
    log.info("%s\nwritten to %s", compared.intervals.round(4).to_string(), folder)


def _samples(config: EvaluateConfig, run: Path, model: TrainedModel) -> Measured:
    """Evaluate a run on its held-out donors."""
    from gtex_vae.analysis.evaluate_run import evaluate_run

    log.info("measuring %s on held-out donors", run)
    return evaluate_run(
        run, model, config.genesets, supervised_terms=config.supervised_terms, seed=config.seed
    ), run / "evaluation"


def _matrix(config: EvaluateConfig, run: Path, model: TrainedModel, matrix: str) -> Measured:
    """A run of samples, on any other matrix, brought to its genes."""
    from gtex_vae.analysis.evaluation.other_matrix import evaluate_matrix, read_other_matrix

    external = read_other_matrix(
        model, matrix, annotations=config.annotations, unit=config.unit,
        orientation=config.orientation, layer=config.layer, min_overlap=config.min_overlap,
    )  # fmt: skip
    log.info("measuring %s on %s: %d samples, %.1f %% of the model's genes", run, matrix,
             len(external.obs), 100 * external.present_g.mean())  # fmt: skip
    folder = run / "evaluation" / matrix_name(matrix)
    return evaluate_matrix(run, model, external, folder, seed=config.seed), folder


if __name__ == "__main__":
    main()
