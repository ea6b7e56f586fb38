"""Table and page of a sweep: ``summary.csv`` and ``summary.html``."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from gtex_vae.analysis.report.sweep_page import sweep_page
from gtex_vae.files import write_beside, write_text
from gtex_vae.runs.sweep import read_sweep

SUMMARY, PAGE, STABILITY = "summary.csv", "summary.html", "stability.csv"


def summarize_sweep(sweep_dir: Path, metric: str | None = None) -> Path:
    """Write ``summary.csv``, one row per run, and ``summary.html``, a page in one file.

    Every job calls this when it ends, so both files are complete after the last job. Killed jobs are listed as
    ``unfinished``. ``python -m gtex_vae.summarize`` writes both files again.

    Parameters
    ----------
    sweep_dir
        Folder with one run directory per job.
    metric
        Metric that the page shows first; ``None``: the first of the default metrics that the runs have.

    Returns
    -------
    Path
        The table.
    """
    import pandas as pd

    with FileLock(sweep_dir / ".summary.lock"):
        runs = read_sweep(sweep_dir)
        path = sweep_dir / SUMMARY
        rows = [
            {"run": run.name, "status": run.status, "reason": run.reason, **run.overrides, **run.metrics}
            for run in runs
        ]
        with write_beside(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
        pairs = sweep_dir / STABILITY
        stability = pd.read_csv(pairs, dtype={"run_a": str, "run_b": str}) if pairs.exists() else None
        write_text(sweep_dir / PAGE, sweep_page(sweep_dir.name, runs, metric=metric, stability=stability))
    return path
