"""Measure a run on donors it never saw: ``python -m gtex_vae.evaluate run=<run>|latest [genesets=...]``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.paths import write_beside, write_json
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
    from gtex_vae.analysis.evaluation import evaluate
    from gtex_vae.analysis.gene_sets import collections_for
    from gtex_vae.analysis.held_out import open_samples
    from gtex_vae.models.trained import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    model = TrainedModel.load(run / "model")
    adata = open_samples(run, model)
    parts = {
        split: (adata.X[(chosen := (adata.obs["split"] == split).to_numpy())], adata.obs[chosen])
        for split in ("train", "test")
    }
    log.info("measuring %s on %d held-out samples", run, len(parts["test"][0]))
    gene_sets = collections_for(adata, config.genesets)
    result = evaluate(model, parts["train"], parts["test"], gene_sets=gene_sets, seed=config.seed)
    folder = run / "evaluation"
    write_json(folder / "metrics.json", result.metrics)
    for name, table in result.tables.items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    log.info("%s\n\nwritten to %s", result.tables["intervals"].round(4).to_string(), folder)


if __name__ == "__main__":
    main()
