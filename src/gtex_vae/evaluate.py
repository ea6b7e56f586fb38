"""Measure a run on donors it never saw: ``python -m gtex_vae.evaluate run=<run>|latest [genesets=...]``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.runs import find_run
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class EvaluateConfig:
    """Root keys of ``conf/evaluate.yaml``."""

    run: str
    genesets: list[str]
    seed: int
    paths: dict[str, Any]


@stage("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> None:
    """Score the model and its baselines; write metrics, intervals and tables into the run."""
    from gtex_vae.analysis.evaluation import evaluate_run
    from gtex_vae.models.trained import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    log.info("measuring %s on held-out donors", run)
    result = evaluate_run(run, TrainedModel.load(run / "model"), config.genesets, seed=config.seed)
    log.info("%s\n\nwritten to %s", result.tables["intervals"].round(4).to_string(), run / "evaluation")


if __name__ == "__main__":
    main()
