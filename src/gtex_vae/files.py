"""Atomic writes: a killed job never leaves half a file."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def write_beside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder and rename it into place on success.

    On failure the old file at ``path`` is kept and the temporary file or folder is removed.

    Parameters
    ----------
    path
        Final path. Missing parent folders are created.

    Yields
    ------
    Path
        Path to write to. It has the suffixes of ``path``, which writers use.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "metrics.json"
    >>> with write_beside(target) as temporary:
    ...     _ = temporary.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        if temporary.is_dir():
            replaced = temporary.with_name(temporary.name + ".old")
            try:
                if path.exists():
                    path.rename(replaced)
                temporary.rename(path)
            except BaseException:
                if replaced.exists() and not path.exists():
                    replaced.rename(path)
                raise
            _remove(replaced)
        else:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path | str, data: Mapping[str, Any]) -> None:
    """Write plain data as JSON; NaN and infinite values become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_text(path, json.dumps(plain(data), indent=1, allow_nan=False) + "\n")


def remove_temporaries(folder: Path | str) -> None:
    """Remove temporary files of `write_beside` that a killed process left below a folder."""
    for leftover in Path(folder).glob("**/.????????.*"):
        if re.match(r"\.[0-9a-f]{8}\.", leftover.name):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
