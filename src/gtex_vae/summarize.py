"""Make a sweep's table and page anew: ``python -m gtex_vae.summarize sweep=<dir>|latest [metric=<name>]``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.config import nearest
from gtex_vae.errors import ConfigError
from gtex_vae.files import write_beside
from gtex_vae.runs import sweep
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class SummarizeConfig:
    """Root keys of ``conf/summarize.yaml``."""

    sweep: str
    metric: str | None
    stability: bool
    seed: int
    paths: dict[str, Any]


@stage("summarize", SummarizeConfig)
def main(config: SummarizeConfig, run_dir: Path) -> None:
    """Read every run of the sweep, compare those that differ by the seed alone, and write table and page into it."""
    from gtex_vae.analysis.evaluation.seed_stability import stability
    from gtex_vae.analysis.report.sweep_page import first_metric, headline, metrics_of

    folder = sweep.find_sweep(config.sweep, Path(config.paths["outputs"]))
    runs = sweep.read_sweep(folder)
    metrics = metrics_of(runs)
    if config.metric is not None and config.metric not in metrics:
        known = nearest(config.metric, metrics) if metrics else "; none has metrics yet"
        raise ConfigError(f"metric={config.metric} is in no run of {folder}{known}")
    if config.stability:
        pairs = stability(folder, runs, seed=config.seed)
        path = folder / sweep.STABILITY
        if pairs.empty:
            path.unlink(missing_ok=True)
            log.info("no two finished runs differ by the seed alone: nothing to compare")
        else:
            with write_beside(path) as temporary:
                pairs.to_csv(temporary, index=False, float_format="%.6g")
            log.info(
                "%s\n", pairs.drop(columns=["sample_chance", "gene_chance"]).round(3).to_string(index=False)
            )
    sweep.summarise(folder, config.metric)
    log.info("%s\npage: %s", headline(runs, config.metric or first_metric(metrics)), folder / sweep.PAGE)


if __name__ == "__main__":
    main()
