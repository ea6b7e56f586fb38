"""The run directory: its files, its status, and how a stage claims it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from gtex_vae.config import update_targets
from gtex_vae.errors import RunError
from gtex_vae.files import remove_temporaries, write_text

CONFIG, SUCCESS, FAILED, PRUNED = "config.yaml", "SUCCESS", "FAILED", "PRUNED"
LAST = "checkpoints/last.ckpt"
RETIRED = {
    "data.axis": "samples",
    "gene_run": None,
}  # retired key: the only value that is still supported
REPLACED = ".replaced"  # the finished run that this one replaces


def status(run_dir: Path) -> Literal["new", "finished", "failed", "pruned", "unfinished"]:
    """Status of the run in this directory."""
    if (run_dir / SUCCESS).exists():
        return "finished"
    if (run_dir / FAILED).exists():
        return "failed"
    if (run_dir / PRUNED).exists():
        return "pruned"
    return "unfinished" if (run_dir / CONFIG).exists() else "new"


def is_first_process() -> bool:
    """Return True in the process that writes the run's files: rank 0, or the only process.

    The rank is read from the variables of Lightning and SLURM, since the process group does not exist yet.
    """
    ranks = [os.environ.get(name, "0") for name in ("NODE_RANK", "LOCAL_RANK")]
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        ranks.append(os.environ.get("SLURM_PROCID", "0"))
    return all(rank == "0" for rank in ranks)


def read_config(run_dir: Path) -> dict[str, Any]:
    """Read the resolved config of a run; targets that moved since get their present path.

    Raises
    ------
    RunError
        The directory is not a run directory, or the run used a retired option.
    """
    try:
        config = yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RunError(f"run={run_dir} is not a run directory: its {CONFIG} cannot be read") from error
    if not isinstance(config, dict):
        raise RunError(f"run={run_dir}: {CONFIG} does not contain a mapping")
    _drop_retired_keys(config, run_dir)
    if "pretrained" in config:  # a training, maybe of a version without this key
        config.setdefault("finish", False)
    return update_targets(config)


def _drop_retired_keys(config: dict[str, Any], run_dir: Path) -> None:
    """Remove retired keys from the config of an older run.

    Raises
    ------
    RunError
        The run used one of them.
    """
    for key, default in RETIRED.items():
        *groups, name = key.split(".")
        node: Any = config
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if isinstance(node, dict) and name in node:
            value = node.pop(name)
            if value != default:
                raise RunError(
                    f"run={run_dir} was made with {key}={value}, an option that was removed: use the version of "
                    "gtex-vae named in its provenance.json"
                )


def claim(run_dir: Path, config: dict[str, Any], *, per_call: Sequence[str] = ("overwrite",)) -> bool:
    """Claim a directory for a new or a resumed run.

    The config is written first, so that the same command recognises its own unfinished run. A finished run is kept
    unless ``config["overwrite"]``. An unfinished run with another config is kept too, unless it failed before its first
    checkpoint. A run that is replaced is set aside until the new one succeeds, see `mark`.

    Parameters
    ----------
    run_dir
        The directory.
    config
        Resolved config, plain.
    per_call
        Root keys that may differ from the unfinished run's, because they do not change the result.

    Returns
    -------
    bool
        Whether an unfinished run with the same config is resumed.

    Raises
    ------
    RunError
        The directory contains a finished run, or an unfinished one with another config.
    """
    way_out = "another hydra.run.dir" + (", or overwrite=true to replace it" if "overwrite" in config else "")
    state = status(run_dir)
    resumed = state in ("unfinished", "failed")
    if resumed:
        different = differing_keys(read_config(run_dir), config, per_call)
        nothing_lost = state == "failed" and not (run_dir / LAST).exists()
        if different and not nothing_lost and not config.get("overwrite"):
            raise RunError(
                f"{run_dir} contains an unfinished run with other settings ({', '.join(different[:5])}): "
                f"repeat its command to resume it, or set {way_out}"
            )
        resumed = not different
    if state in ("finished", "pruned") and not config.get("overwrite"):
        raise RunError(f"{run_dir} contains a {state} run: set {way_out}")
    if resumed:
        remove_temporaries(run_dir)
    elif state == "finished" or (
        state != "new" and config.get("overwrite") and not (run_dir / REPLACED).exists()
    ):
        set_aside(run_dir)
    elif state != "new":
        clear(run_dir)  # what is set aside already is worth more than this unfinished attempt
    (run_dir / FAILED).unlink(missing_ok=True)
    write_config(run_dir, config)
    return resumed


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Write the config of a run."""
    write_text(run_dir / CONFIG, yaml.safe_dump(config, sort_keys=False))


def clear(run_dir: Path) -> None:
    """Remove the files of an earlier run, but not the open log and Hydra's record of this command."""
    for entry in _entries(run_dir):
        _remove(entry)


def set_aside(run_dir: Path, only: Sequence[str] | None = None) -> None:
    """Move a run, or only some of its files, into ``.replaced`` until the new run succeeds."""
    entries = _entries(run_dir) if only is None else [run_dir / name for name in only]
    for entry in [entry for entry in entries if entry.exists()]:
        (run_dir / REPLACED).mkdir(exist_ok=True)
        _remove(run_dir / REPLACED / entry.name)
        entry.rename(run_dir / REPLACED / entry.name)


def _remove(entry: Path) -> None:
    shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def _entries(run_dir: Path) -> list[Path]:
    """List the files of a run in the order in which they can be removed.

    The config and the markers come last, so that an interrupted removal never leaves weights that look resumable.
    """
    last = (FAILED, CONFIG, SUCCESS, PRUNED)
    entries = sorted(
        run_dir.iterdir(), key=lambda entry: last.index(entry.name) if entry.name in last else -1
    )
    return [entry for entry in entries if entry.name != "log.txt" and not entry.name.startswith(".")]


def mark(
    run_dir: Path, reason: str | None = None, *, marker: str = FAILED, result: float | None = None
) -> None:
    """Write ``SUCCESS`` with the result, or with a reason ``FAILED`` or ``PRUNED``; success removes a replaced run."""
    if reason is None:
        shutil.rmtree(run_dir / REPLACED, ignore_errors=True)
        (run_dir / FAILED).unlink(missing_ok=True)
        write_text(run_dir / SUCCESS, "" if result is None else f"{float(result)!r}\n")
    else:
        write_text(run_dir / marker, reason + "\n")


def is_done(run_dir: Path, config: dict[str, Any], per_call: Sequence[str] = ("overwrite",)) -> bool:
    """Return whether the run in this directory has finished with this config.

    Parameters
    ----------
    run_dir, config, per_call
        See `claim`.
    """
    return status(run_dir) == "finished" and not differing_keys(read_config(run_dir), config, per_call)


def result(run_dir: Path) -> float | None:
    """Result of a finished run: the metric that its stage returned, if any."""
    text = (run_dir / SUCCESS).read_text(encoding="utf-8").strip()
    return float(text) if text else None


def differing_keys(old: Any, new: Any, leave_out: Sequence[str] = (), path: str = "") -> list[str]:
    """Full keys whose values differ between two configs, except the root keys in ``leave_out``.

    >>> differing_keys({"a": {"b": 1}, "run": None}, {"a": {"b": 2}, "run": "x"}, leave_out=["run"])
    ['a.b']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if path or key not in leave_out]
        nested = (
            differing_keys(old.get(k), new.get(k), leave_out, f"{path}.{k}" if path else k) for k in keys
        )
        return [key for part in nested for key in part]
    return [] if old == new else [path]


def find_run(run: str, outputs: Path, stage: str = "train") -> Path:
    """Find the directory of ``run=``: a path, or ``latest`` for the newest finished run.

    Raises
    ------
    RunError
        The run does not exist or has not finished.
    """
    if run == "latest":
        markers = (outputs / stage).glob(f"**/{SUCCESS}")
        finished = [marker.parent for marker in markers if marker.parent.name != REPLACED]
        if not finished:
            raise RunError(f"run=latest: no finished run under {outputs / stage}; train one first")
        newest = max(finished, key=lambda run_dir: (run_dir / SUCCESS).stat().st_mtime)
        read_config(newest)  # refuses retired options
        return newest
    run_dir = Path(run)
    if not run_dir.is_dir():
        raise RunError(f"run={run} does not exist")
    state = status(run_dir)
    if state == "new":
        raise RunError(f"run={run} is not a run directory: it has no {CONFIG}")
    if state != "finished":
        reason = f": {(run_dir / FAILED).read_text().splitlines()[0]}" if state == "failed" else ""
        raise RunError(f"run={run} is {state}{reason}; finish it with `python -m gtex_vae.train run={run}`")
    read_config(run_dir)  # refuses retired options
    return run_dir


def find_model(run: str, outputs: Path) -> Path:
    """Return the folder of a trained model: ``run`` itself if it holds ``model.json``, else that of the run `find_run` returns."""
    if (Path(run) / "model.json").is_file():
        return Path(run)
    return find_run(run, outputs) / "model"


def results_folder(run: Path, to: str | None, *, fixed: bool = False) -> Path:
    """Return the folder for results about a run: ``to``, or the run itself.

    Raises
    ------
    RunError
        The folder is not writable; or ``to`` is given though the results are ``fixed`` to the run.
    """
    if fixed and to is not None:
        raise RunError(f"to={to}: results of an alignment are written into its run; leave out to=")
    folder = Path(to) if to is not None else run
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise RunError(f"{folder} is not writable; add to=FOLDER to write the results elsewhere")
    return folder
