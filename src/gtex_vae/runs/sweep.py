"""A sweep on disk: its runs with their overrides, status and metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gtex_vae.config import slug
from gtex_vae.errors import RunError
from gtex_vae.runs import directory

SEED = "seed"  # runs that differ by this key alone are repeats of one setting
BEST_VALIDATION = "checkpoints/best.json"
MOST_CHARACTERS = 120  # of a file name, for the settings of a job
OWN_KEYS = (".search.storage", ".search.trial", ".search.startup_trials", ".search.startup_epochs")


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes
    ----------
    name
        Name of its directory.
    status
        See `gtex_vae.runs.directory.status`.
    reason
        Why it failed or was pruned.
    overrides
        Key to value, as on the command line.
    metrics
        Final metrics on held-out donors, and ``val/...`` of the best epoch.
    """

    name: str
    status: str
    reason: str = ""
    overrides: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """Number of its job, if its name starts with one."""
        number = self.name.partition("_")[0]
        return number if number.isdigit() else self.name


def read_sweep(sweep_dir: Path) -> list[SweepRun]:
    """Read all runs of a sweep, sorted by job number."""
    entries = [entry.parent for entry in sweep_dir.glob(f"[!.]*/{directory.CONFIG}")]
    return [_read(run_dir) for run_dir in sorted(entries, key=_job_order)]


def find_sweep(sweep: str, outputs: Path) -> Path:
    """Find the directory of ``sweep=``: a path, or ``latest``.

    Raises
    ------
    RunError
        The directory does not exist or contains no runs.
    """
    if sweep == "latest":
        places = (outputs.glob(f"train/{kind}/*/[!.]*/{directory.CONFIG}") for kind in ("sweeps", "searches"))
        started = {path.parents[1] for found in places for path in found}
        if not started:
            raise RunError(
                f"sweep=latest: no sweep under {outputs / 'train'}; start one with python -m gtex_vae.train -m seed=1,2,3"
            )
        return max(started, key=lambda folder: folder.stat().st_mtime)
    folder = Path(sweep)
    if not folder.is_dir():
        raise RunError(f"sweep={sweep} does not exist")
    if (folder / directory.CONFIG).exists() or not any(folder.glob(f"[!.]*/{directory.CONFIG}")):
        raise RunError(
            f"sweep={sweep} is not the folder of a sweep: it must contain one run directory per job"
        )
    return folder


def overrides_of(run_dir: Path) -> dict[str, str]:
    """Overrides of a run's command, key to value."""
    path = run_dir / ".hydra" / "overrides.yaml"
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) or [] if path.exists() else []
    split = (str(override).partition("=") for override in listed)
    return {key: value for key, _, value in split if not key.endswith(OWN_KEYS)}


def separate_data(config: dict[str, Any], run_dir: Path) -> None:
    """Name the processed file of a job after its settings if the sweep varies ``data.prepare`` or ``data.path``.

    Otherwise each job would replace the file of the job before, and only the last one could be evaluated. A stated
    ``data.processed`` stays.

    Parameters
    ----------
    config
        Plain config of the job, changed in place.
    run_dir
        Its directory, in the directory of the sweep.
    """
    overrides = overrides_of(run_dir)
    of_data = [key for key in swept(run_dir) if key.lstrip("+").startswith(("data.prepare.", "data.path"))]
    if not of_data or "data.processed" in overrides:
        return
    values = [f"{key.rpartition('.')[2]}={overrides[key]}" for key in of_data]
    suffix = slug(*values)[:MOST_CHARACTERS]
    data = config["data"]
    before = directory.read_config(run_dir)["data"] if directory.status(run_dir) != "new" else {}
    nodes = (data, before, "processed"), (data.get("prepare") or {}, before.get("prepare") or {}, "qc")
    for node, started, key in nodes:
        if node.get(key):
            path = Path(node[key])
            # a job that is given again keeps the file that it started with
            node[key] = started.get(key) or str(path.with_name(f"{path.stem}_{suffix}{path.suffix}"))


def swept(run_dir: Path) -> list[str]:
    """Keys that vary in the sweep: those whose override is not in the sweep's own command."""
    try:
        sweep = yaml.safe_load((run_dir.parent / "multirun.yaml").read_text(encoding="utf-8"))
        given = dict(str(override).split("=", 1) for override in sweep["hydra"]["overrides"]["task"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return []
    return [key for key, value in overrides_of(run_dir).items() if given.get(key) != value]


def _job_order(run_dir: Path) -> tuple[int, str]:
    """Sort key: the job number at the start of the folder's name."""
    number = run_dir.name.partition("_")[0]
    return (int(number), "") if number.isdigit() else (1 << 30, run_dir.name)


def _read(run_dir: Path) -> SweepRun:
    status = directory.status(run_dir)
    marker = {"failed": directory.FAILED, "pruned": directory.PRUNED}.get(status)
    reason = (run_dir / marker).read_text(encoding="utf-8").splitlines()[0] if marker else ""
    metrics: dict[str, Any] = {}
    for name in (BEST_VALIDATION, "metrics.json"):
        if (run_dir / name).exists():
            metrics |= json.loads((run_dir / name).read_text(encoding="utf-8"))
    return SweepRun(run_dir.name, status, reason, overrides_of(run_dir), metrics)
