"""Make a run's report: ``python -m gtex_vae.analyze run=<run>|latest``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.files import write_beside
from gtex_vae.runs import data_paths
from gtex_vae.runs.directory import find_run, results_folder
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class AnalyzeConfig:
    """Root keys of ``conf/analyze.yaml``."""

    run: str
    to: str | None
    genesets: list[str]
    gene_embedding: str
    seed: int
    data: dict[str, str | None]
    paths: dict[str, Any]


@stage("analyze", AnalyzeConfig)
def main(config: AnalyzeConfig, run_dir: Path) -> None:
    """Write maps, figures and the report into the run; evaluate it first if needed."""
    from gtex_vae.analysis.alignment.run import is_alignment
    from gtex_vae.analysis.evaluate_run import evaluate_run
    from gtex_vae.analysis.report.alignment_page import write_report
    from gtex_vae.analysis.report.figures import figures, write_figure
    from gtex_vae.analysis.report.page import report, tables
    from gtex_vae.analysis.report.report_data import collect_report_data
    from gtex_vae.analysis.report.tensorboard import show_figures
    from gtex_vae.inference.trained_model import TrainedModel

    run = find_run(config.run, Path(config.paths["outputs"]))
    results = results_folder(run, config.to, fixed=is_alignment(run))
    if is_alignment(run):
        log.info("report: %s", write_report(run, seed=config.seed))
        return
    data_paths.move(run, config.data)
    model = TrainedModel.load(run / "model")
    evaluated = run if (run / "evaluation" / "metrics.json").exists() else results
    if not (evaluated / "evaluation" / "metrics.json").exists():
        log.info("measuring %s on held-out donors first", run)
        evaluate_run(run, model, config.genesets, results=results, seed=config.seed)
    log.info("analyzing %s", run)
    data = collect_report_data(
        run, model, results=evaluated, gene_embedding=config.gene_embedding, seed=config.seed
    )
    folder = results / "analysis"
    for name, table in tables(data).items():
        with write_beside(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.6g")
    drawn = {name: write_figure(folder / "figures" / name, figure) for name, figure in figures(data)}
    if results == run:
        show_figures(run, [folder / "figures" / f"{name}.png" for name in drawn])
    with write_beside(folder / "report.html") as temporary:
        temporary.write_text(report(data, drawn), encoding="utf-8")
    log.info("report: %s", folder / "report.html")


if __name__ == "__main__":
    main()
