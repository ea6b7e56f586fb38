"""The lock file of the downloads: what was got, where from, and with which checksum."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from gtex_vae.errors import DownloadError
from gtex_vae.files import write_text

LOCK_NAME = "downloads.lock.json"


@dataclass(frozen=True)
class Recorded:
    """What the lock file knows of one file: its address, size in bytes and sha256."""

    url: str
    size: int
    sha256: str
    recorded: str


class DownloadLock:
    """`downloads.lock.json`: what was got, where from and with which checksum, by path below its folder.

    Parameters
    ----------
    path
        The JSON file. It need not exist.
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
                f"{self.path} is damaged ({error}): restore it, or delete it to record the checksums anew"
            ) from error
        return entries

    def get(self, destination: Path) -> Recorded | None:
        """Look up what was recorded for a file; None where it is new.

        Raises
        ------
        DownloadError
            The lock file cannot be understood.
        """
        return self._read().get(self._key(destination))

    def record(self, destination: Path, url: str, size: int, sha256: str) -> None:
        """Add or replace one entry, safely beside other processes."""
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            entries = self._read()
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            entries[self._key(destination)] = Recorded(url, size, sha256, stamp)
            plain = {name: asdict(entry) for name, entry in sorted(entries.items())}
            write_text(self.path, json.dumps(plain, indent=2) + "\n")
