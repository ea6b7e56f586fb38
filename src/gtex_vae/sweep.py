"""A sweep: one run per job, and a table of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from gtex_vae import runs
from gtex_vae.paths import write_beside

SUMMARY = "summary.csv"


def summarise(sweep_dir: Path) -> Path:
    """Write ``summary.csv``: a row for every run of a sweep, with its overrides, what became of it and its metrics.

    Every job does this when it ends, whoever started it, so the table is complete when the last one has ended and
    tells of killed jobs too (as ``unfinished``). It can be made anew at any time.

    Parameters
    ----------
    sweep_dir
        Folder with one run directory per job.

    Returns
    -------
    Path
        The table.
    """
    import pandas as pd

    with FileLock(sweep_dir / ".summary.lock"):
        rows = [_row(run_dir) for run_dir in sorted(_run_dirs(sweep_dir), key=_job_order)]
        path = sweep_dir / SUMMARY
        with write_beside(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    return path


def _run_dirs(sweep_dir: Path) -> list[Path]:
    return [entry.parent for entry in sweep_dir.glob(f"*/{runs.CONFIG}")]


def _job_order(run_dir: Path) -> tuple[int, str]:
    """By the job's number, which its folder's name begins with."""
    number = run_dir.name.partition("_")[0]
    return (int(number), "") if number.isdigit() else (1 << 30, run_dir.name)


def _row(run_dir: Path) -> dict[str, Any]:
    """Overrides, status, reason of a failure, metrics of one run."""
    row: dict[str, Any] = {"run": run_dir.name, "status": runs.status(run_dir), "reason": ""}
    if row["status"] == "failed":
        row["reason"] = (run_dir / runs.FAILED).read_text(encoding="utf-8").splitlines()[0]
    overrides = run_dir / ".hydra" / "overrides.yaml"
    if overrides.exists():
        for override in yaml.safe_load(overrides.read_text(encoding="utf-8")) or []:
            key, _, value = str(override).partition("=")
            row[key] = value
    metrics = run_dir / "metrics.json"
    if metrics.exists():
        row |= json.loads(metrics.read_text(encoding="utf-8"))
    return row
