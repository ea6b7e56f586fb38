"""Fingerprint of a processed file: whether an existing file is what its settings would give today."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gtex_vae import provenance

log = logging.getLogger(__name__)

# Raise this when a correction of preprocessing changes its output: existing processed files are then made again.
# 1: files without the key. 2: units such as CPM and log2(count+1) are recognised, retired gene ids get a length.
PREPARE_VERSION = 2
SOURCES = ("path", "annotations", "gene_list")  # arguments that name files


def fingerprint(prepare: Mapping[str, Any]) -> str:
    """Hash the settings, the state of the source files and `PREPARE_VERSION`.

    Of ``_target_`` only the function's name counts, and of a source file its resolved path, so that the file stays valid
    when a module moves or the command runs in another folder.

    Parameters
    ----------
    prepare
        ``_target_`` and arguments of the function that makes the processed AnnData.
    """
    settings = {key: value for key, value in prepare.items() if key not in SOURCES}
    settings["_target_"] = str(prepare.get("_target_")).rpartition(".")[2]
    return provenance.fingerprint(
        {**settings, "source": _source_state(prepare), "prepare_version": PREPARE_VERSION}
    )


def stored_fingerprint(processed: Path) -> str | None:
    """Read the fingerprint of a processed file; None if the file is missing, broken or not written by this package."""
    return _read_text(processed, "settings")


def why_stale(processed: Path, prepare: Mapping[str, Any]) -> str | None:
    """Return why an existing processed file must be made again, or None if it is valid.

    A file whose sources are missing cannot be made again; it is valid if its settings are the same.

    Parameters
    ----------
    processed
        The file; it exists.
    prepare
        As for `fingerprint`.
    """
    stored = stored_fingerprint(processed)
    if stored is None:
        return "it was not written by preprocess"
    if stored == fingerprint(prepare):
        return None
    if different := different_settings(processed, prepare):
        return f"other settings: {', '.join(different)}"
    version = int(_read_text(processed, "prepare_version") or 1)
    missing = [source for source in _sources(prepare) if not Path(source).exists()]
    if missing:
        log.warning(
            "%s, made by version %d of preprocessing (now %d), is used as it is: its source file %s does not exist",
            processed, version, PREPARE_VERSION, missing[0],
        )  # fmt: skip
        return None
    if version != PREPARE_VERSION:
        return f"it was made by version {version} of preprocessing, the present version is {PREPARE_VERSION}"
    return "its source files changed"


def different_settings(processed: Path, prepare: Mapping[str, Any]) -> list[str]:
    """Return the arguments that a processed file was made with other values of; source files do not count."""
    made_with = json.loads(_read_text(processed, "record") or "{}").get("config") or {}
    keys = [key for key in {**made_with, **prepare} if key not in ("_target_", *SOURCES)]
    return [key for key in keys if made_with.get(key) != prepare.get(key)]


def _source_state(prepare: Mapping[str, Any]) -> list[Any]:
    """Return resolved path, size and modification time of each file that the processed AnnData is made from."""
    state: list[Any] = []
    for source in _sources(prepare):
        if Path(source).exists():
            found = Path(source).stat()
            state += [str(Path(source).resolve()), found.st_size, found.st_mtime_ns]
    return state


def _sources(prepare: Mapping[str, Any]) -> list[str]:
    """Return the paths of the files that the processed AnnData is made from."""
    sources = [prepare.get("path"), *(prepare.get("annotations") or ()), prepare.get("gene_list")]
    return [source for source in sources if source is not None]


def _read_text(processed: Path, key: str) -> str | None:
    """Read one text of ``uns["provenance"]``; None if the file has no such text."""
    import h5py

    try:
        with h5py.File(processed) as file:
            return file[f"uns/provenance/{key}"].asstr()[()]
    except (OSError, KeyError, TypeError, AttributeError):
        return None
