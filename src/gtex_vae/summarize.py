"""Write a sweep's table and page again: ``python -m gtex_vae.summarize sweep=<dir>|latest [metric=<name>]``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.analysis.report.sweep_summary import PAGE, STABILITY, summarize_sweep
from gtex_vae.config import nearest
from gtex_vae.errors import ConfigError
from gtex_vae.files import write_beside
from gtex_vae.runs.sweep import find_sweep, read_sweep
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
    """Read every run of the sweep, compare repeats with different seeds, and write table and page into the sweep."""
    from gtex_vae.analysis.evaluation.seed_stability import stability
    from gtex_vae.analysis.report.sweep_page import first_metric, headline, metrics_of

    folder = find_sweep(config.sweep, Path(config.paths["outputs"]))
    runs = read_sweep(folder)
    metrics = metrics_of(runs)
    if config.metric is not None and config.metric not in metrics:
        known = nearest(config.metric, metrics) if metrics else "; no run has metrics yet"
        raise ConfigError(f"metric={config.metric} is in no run of {folder}{known}")
    if config.stability:
        pairs = stability(folder, runs, seed=config.seed)
        path = folder / STABILITY
        if pairs.empty:
            path.unlink(missing_ok=True)
            log.info("no two finished runs differ by the seed alone: stability is not computed")
        else:
            with write_beside(path) as temporary:
                pairs.to_csv(temporary, index=False, float_format="%.6g")
            shown = pairs.drop(columns=["sample_chance", "gene_chance"]).round(3)
            log.info("%s\n", shown.to_string(index=False))
    summarize_sweep(folder, config.metric)
    log.info("%s\npage: %s", headline(runs, config.metric or first_metric(metrics)), folder / PAGE)


if __name__ == "__main__":
    main()
