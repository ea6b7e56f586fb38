"""Paths of a run's data: stored absolute when training starts, found again after the run or the data has moved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gtex_vae.errors import RunError
from gtex_vae.files import write_json
from gtex_vae.runs import directory

FILE = "data_paths.json"  # path as the config has it -> absolute path
OF_DATA = ("path", "processed", "splits", "common_with")
OF_PREPARE = ("path", "annotations", "gene_list")


def store(run_dir: Path, data: Mapping[str, Any]) -> None:
    """Store the absolute paths of the data next to those of the config, unless they are stored already.

    Parameters
    ----------
    run_dir
        The run.
    data
        ``data`` of its config.
    """
    if not (run_dir / FILE).exists():
        found: dict[str, str] = {}
        _map_paths(data, lambda path: found.setdefault(path, str(Path(_find(run_dir, path)).absolute())))
        write_json(run_dir / FILE, found)


def locate(run_dir: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the paths of ``data`` by where the files are now.

    Each path is looked for where `move` or `store` recorded it, then relative to the working directory, then relative to
    each folder above the run, so that a project folder can be moved as a whole. A file found nowhere keeps its path.

    Parameters
    ----------
    run_dir
        The run.
    data
        ``data`` of its config.
    """
    return _map_paths(data, lambda path: _find(run_dir, path))


def move(run_dir: Path, given: Mapping[str, str | None]) -> None:
    """Record where the data of a run is now, for this and all later commands.

    Parameters
    ----------
    run_dir
        The run.
    given
        ``path`` and ``processed`` of the command, or None; the file that either names must exist.

    Raises
    ------
    RunError
        A file does not exist, or the run has no such path.
    """
    data = directory.read_config(run_dir)["data"]
    wanted = {key: path for key, path in given.items() if path is not None}
    for key, path in wanted.items():
        if not Path(path).exists():
            raise RunError(f"data.{key}={path} does not exist")
        if data.get(key) is None:
            raise RunError(
                f"data.{key}={path}: {run_dir} was trained without data.{key}; give data.processed=FILE"
            )
    if wanted:
        store(run_dir, data)
        stored = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
        moved = {data[key]: str(Path(path).absolute()) for key, path in wanted.items()}
        write_json(run_dir / FILE, {**stored, **moved})


def _find(run_dir: Path, path: str) -> str:
    """Return where the file is now, or the path as it is."""
    stored = run_dir / FILE
    known = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
    folders = [Path(), *run_dir.absolute().parents]
    places = [*([Path(known[path])] if path in known else []), *(folder / path for folder in folders)]
    return next((str(place) for place in places if place.exists()), path)


def _map_paths(data: Mapping[str, Any], function: Callable[[str], str]) -> dict[str, Any]:
    """Apply a function to every path in ``data``."""

    def of(value: Any) -> Any:
        return (
            [of(entry) for entry in value] if isinstance(value, list) else function(value) if value else value
        )

    mapped = {key: of(value) if key in OF_DATA else value for key, value in data.items()}
    if isinstance(prepare := data.get("prepare"), Mapping):
        mapped["prepare"] = {key: of(value) if key in OF_PREPARE else value for key, value in prepare.items()}
    return mapped
