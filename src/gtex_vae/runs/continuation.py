"""Continuation of a run with other settings: more epochs, another learning rate, data that has moved."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gtex_vae.errors import ConfigError
from gtex_vae.files import write_text
from gtex_vae.runs import directory

CHANGEABLE = (
    "trainer", "optimizer", "learning_rate", "objective", "callbacks", "logger", "compile", "metrics_seed", "data.path",
    "data.processed", "data.memory_gib",
)  # fmt: skip
CONFIGS = "configs"  # former configs of a run
PER_CALL = ("overwrite", "run", "finish")  # keys that say how to start, not what to compute
RESULTS = ("SUCCESS", "metrics.json", "model", "evaluation", "analysis")


def resumed_config(
    composed: Mapping[str, Any], run_dir: Path, overrides: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """Return the config of the run to resume, and True if the run must be reopened for it.

    Parameters
    ----------
    composed
        Config of the command.
    run_dir
        Directory of the run.
    overrides
        Of the command line.

    Raises
    ------
    ConfigError
        A setting cannot change within a run, or there is nothing to resume.
    """
    own = tuple(f"{key}=" for key in PER_CALL)
    changes = [override for override in overrides if not override.startswith(own)]
    old = directory.read_config(run_dir)
    config = continued_config(old, composed, changes, run_dir)
    changed = bool(directory.differing_keys(old, config))
    state = directory.status(run_dir)
    config |= {key: composed[key] for key in PER_CALL if key in composed}
    if composed.get("overwrite"):
        return config, False
    if composed.get("finish") and state == "finished":
        raise ConfigError(f"finish=true: {run_dir} has finished already")
    if (changed and state == "finished") or composed.get("finish"):
        if old.get("alignment") is not None:
            raise ConfigError(f"finish=true is for the training of a VAE; {run_dir} contains an alignment")
        if not (run_dir / directory.LAST).exists():
            raise ConfigError(
                f"{run_dir} has no {directory.LAST} to continue from: leave out "
                f"{'finish=true' if composed.get('finish') else ', '.join(changes)}"
            )
    return config, changed or (state == "pruned" and bool(composed.get("finish")))


def continued_config(
    old: Mapping[str, Any], composed: Mapping[str, Any], overrides: Sequence[str], run_dir: Path
) -> dict[str, Any]:
    """Return the config of a run with the settings that the command line changes.

    Parameters
    ----------
    old
        Config of the run.
    composed
        Config of the command, from which the values are taken.
    overrides
        Of the command line, without ``run=`` and other keys of the call.
    run_dir
        Directory of the run.

    Raises
    ------
    ConfigError
        A setting cannot change within a run.
    """
    keys = [
        override.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".") for override in overrides
    ]
    known = CHANGEABLE if old.get("alignment") is None else ()
    fixed = [text for key, text in zip(keys, overrides, strict=True) if not _is_under(key, known)]
    if fixed:
        changeable = f" or change only {', '.join(known)}" if known else ""
        raise ConfigError(
            f"run= resumes with the config in {run_dir}: leave out {', '.join(fixed)}{changeable}; to train with other "
            "settings use another directory"
        )
    config = copy.deepcopy(dict(old))
    for key in keys:
        *groups, name = key.split(".")
        node: Any = config
        value: Any = composed
        for group in groups:
            if node.get(group) is None:
                node[group] = {}
            node, value = node[group], (value or {}).get(group)
        node[name] = copy.deepcopy((value or {}).get(name))
    return config


def _is_under(key: str, parents: Sequence[str]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def reopen(run_dir: Path) -> None:
    """Keep the present config among the former ones, and set the results of a finished run aside."""
    former = run_dir / CONFIGS
    former.mkdir(exist_ok=True)
    number = len(list(former.glob("*.yaml"))) + 1
    write_text(former / f"{number}.yaml", (run_dir / directory.CONFIG).read_text(encoding="utf-8"))
    for marker in (directory.FAILED, directory.PRUNED):
        (run_dir / marker).unlink(missing_ok=True)
    directory.set_aside(run_dir, only=RESULTS)
