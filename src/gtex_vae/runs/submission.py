"""Record of code, configs and data at submission, compared with those at the start of the job.

A job may wait for days and reads code, configs and data only when it starts, including later edits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gtex_vae import provenance
from gtex_vae.errors import RunError
from gtex_vae.files import write_json
from gtex_vae.paths import PACKAGE, conf_dir
from gtex_vae.runs import directory

log = logging.getLogger(__name__)

VARIABLE = "GTEX_VAE_SUBMITTED"  # environment variable of a job: path of its record
FILE = "submitted.json"
SHOWN = 5


def record(config: Mapping[str, Any], *, refuse: bool = False) -> dict[str, Any]:
    """Record the present state of code, configs and data.

    Parameters
    ----------
    config
        Plain config of the job, or the common part of a sweep's configs. Its existing data files are hashed.
    refuse
        If true, the job does not start when something differs; otherwise it warns.

    Returns
    -------
    dict
        ``git`` (revision, dirty), ``files`` (code and configs: name to sha256), ``data`` (path to sha256),
        ``latest`` (the run of ``run=latest``, or null), ``config`` (hash of ``config``), ``refuse``.
    """
    return {
        "git": provenance.git_revision(),
        "files": _files(),
        "data": {str(path): provenance.sha256(path) for path in _data(config)},
        "latest": _latest(config),
        "outputs": _outputs(config),
        "config": provenance.fingerprint(config),
        "refuse": refuse,
    }


def write(path: Path, config: Mapping[str, Any], *, refuse: bool = False) -> None:
    """Write the present `record`, before jobs are submitted."""
    write_json(path, record(config, refuse=refuse))


def check(path: Path) -> list[str]:
    """Compare a record with the present state; warn of differences, or raise if the record requires it.

    Returns
    -------
    list of str
        The differences.

    Raises
    ------
    RunError
        Something differs and the job was submitted with ``if_changed=refuse``.
    """
    then = json.loads(path.read_text(encoding="utf-8"))
    found = differences(then)
    if not found:
        return []
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    text = f"changed since submission ({path}): {'; '.join(found[:SHOWN])}{more}"
    if then["refuse"]:
        raise RunError(
            f"{text}; submit again to run the present version, or set hydra.launcher.if_changed=warn"
        )
    log.warning("%s", text)
    return found


def differences(then: Mapping[str, Any]) -> list[str]:
    """List what differs from a `record`."""
    found = []
    git = provenance.git_revision()
    for key in ("revision", "dirty"):
        if then["git"].get(key) != git.get(key):
            found.append(f"git {key} was {then['git'].get(key)}, is {git.get(key)}")
    files = _files()
    for name in sorted({*then["files"], *files}):
        if then["files"].get(name) != files.get(name):
            how = "new" if name not in then["files"] else "missing" if name not in files else "changed"
            found.append(f"{name} {how}")
    for name, digest in then["data"].items():
        if not Path(name).exists():
            found.append(f"{name} missing")
        elif provenance.sha256(name) != digest:
            found.append(f"{name} changed")
    if then["latest"] is not None:
        latest = str(directory.find_run("latest", Path(then["outputs"])))
        if latest != then["latest"]:
            found.append(f"run=latest was {then['latest']}, is {latest}")
    return found


def _files() -> dict[str, str]:
    """Digests of code and configs, by name."""
    found = {}
    for folder, pattern, name in ((PACKAGE, "*.py", "gtex_vae"), (conf_dir(), "*.yaml", "conf")):
        for path in sorted(folder.rglob(pattern)):
            if (
                "conf" not in path.relative_to(folder).parts
            ):  # the configs of an installed package are listed as conf
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = provenance.sha256(path)
    return found


def _data(config: Mapping[str, Any]) -> list[Path]:
    """Existing data files of the config: the processed matrix if there is one, else the raw one."""
    data = config.get("data") or {}
    wanted = [
        next((p for p in (data.get("processed"), data.get("path")) if _there(p)), None),
        config.get("input"),
    ]
    for run in (config.get("run"), config.get("pretrained")):
        if _there(run):
            wanted.append(str(Path(str(run)) / "model" / "weights.safetensors"))
    latest = _latest(config)
    if latest is not None:
        wanted.append(str(Path(latest) / "model" / "weights.safetensors"))
    return list(dict.fromkeys(Path(str(path)).absolute() for path in wanted if _there(path)))


def _there(path: Any) -> bool:
    return isinstance(path, str) and Path(path).exists()


def _outputs(config: Mapping[str, Any]) -> str:
    return str(Path((config.get("paths") or {}).get("outputs", "outputs")).absolute())


def _latest(config: Mapping[str, Any]) -> str | None:
    """Present directory of ``run=latest``."""
    if config.get("run") != "latest":
        return None
    return str(directory.find_run("latest", Path(_outputs(config))))
