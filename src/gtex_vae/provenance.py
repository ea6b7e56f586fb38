"""Provenance of a file or run: versions, git revision, sources and their hashes."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gtex_vae import __version__
from gtex_vae.paths import PACKAGE

PACKAGES = ("torch", "lightning", "hydra-core", "numpy", "scikit-learn", "anndata")


def sha256(path: Path | str) -> str:
    """Hex digest of a file, read in blocks; of a folder, over the names and digests of its files."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return fingerprint([[file.relative_to(path).as_posix(), sha256(file)] for file in files])
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(config: Any) -> str:
    """Hex digest of a plain config, independent of the order of its keys.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def git_revision() -> dict[str, Any]:
    """Git revision of the running code and whether it was edited; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        # an installed wheel may be inside another repository, where this file is not tracked
        git("ls-files", "--error-unmatch", "paths.py")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def describe(sources: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Plain, JSON-ready record of the software, the machine and the sources.

    Parameters
    ----------
    sources
        Path to sha256 of the files that were read.
    **more
        Further entries (config, numbers of dropped samples).
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "package": "gtex-vae",
        "version": __version__,
        "git": git_revision(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": versions,
        "sources": sources or {},
        **more,
    }
