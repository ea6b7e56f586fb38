"""Checksums of downloads: the lock file that records them, and verification of a file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gtex_vae.errors import DownloadError
from gtex_vae.files import write_text

LOCK_NAME = "downloads.lock.json"
BLOCK = 1 << 18


class ChecksumError(Exception):
    """A file is not the expected one."""


@dataclass(frozen=True)
class Expected:
    """Known checksum and size of a file, and their source, for messages."""

    sha256: str | None
    size: int | None
    source: str


@dataclass(frozen=True)
class Recorded:
    """Entry of the lock file: address, size in bytes and sha256 of one file."""

    url: str
    size: int
    sha256: str
    recorded: str


class DownloadLock:
    """`downloads.lock.json`: address and checksum of each download, by path relative to its folder.

    Parameters
    ----------
    path
        The JSON file, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def _key(self, destination: Path) -> str:
        return Path(os.path.relpath(destination, self.path.parent)).as_posix()

    def _read(self) -> dict[str, Recorded]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        try:
            entries = {name: Recorded(**entry) for name, entry in json.loads(text).items()}
            if not all(re.fullmatch("[0-9a-f]{64}", entry.sha256) for entry in entries.values()):
                raise ValueError("a sha256 is not 64 hexadecimal digits")
        except (ValueError, TypeError, AttributeError) as error:
            raise DownloadError(
                f"{self.path} is damaged ({error}): restore it, or delete it to record the checksums again"
            ) from error
        return entries

    def get(self, destination: Path) -> Recorded | None:
        """Return the entry of a file; None if it has none.

        Raises
        ------
        DownloadError
            The lock file is damaged.
        """
        return self._read().get(self._key(destination))

    def record(self, destination: Path, url: str, size: int, sha256: str) -> None:
        """Add or replace one entry; other processes may do so at the same time."""
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            entries = self._read()
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            entries[self._key(destination)] = Recorded(url, size, sha256, stamp)
            plain = {name: asdict(entry) for name, entry in sorted(entries.items())}
            write_text(self.path, json.dumps(plain, indent=2) + "\n")


def verify(path: Path, expected: Expected, md5: str | None = None) -> str:
    """Compare size and checksums of a file with the expected ones.

    Returns
    -------
    str
        The sha256 of the file.

    Raises
    ------
    ChecksumError
        Size or a checksum differs.
    """
    from tqdm import tqdm

    size = path.stat().st_size
    if expected.size not in (None, size):
        raise ChecksumError(f"{size} bytes instead of {expected.size} ({expected.source})")
    sha256, stored = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with (
        open(path, "rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=f"verify {path.name}", disable=None, delay=2) as bar,
    ):
        while block := file.read(BLOCK):
            sha256.update(block)
            if md5:
                stored.update(block)
            bar.update(len(block))
    if expected.sha256 not in (None, sha256.hexdigest()):
        raise ChecksumError(f"sha256 {sha256.hexdigest()} instead of {expected.sha256} ({expected.source})")
    if md5 and base64.b64encode(stored.digest()).decode() != md5:
        raise ChecksumError(f"its md5 differs from {md5}, which the server states")
    return sha256.hexdigest()
