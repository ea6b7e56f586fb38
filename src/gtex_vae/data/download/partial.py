"""Partial downloads: the bytes received so far and the version they belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gtex_vae.files import write_text


@dataclass(frozen=True)
class Origin:
    """File and version that a partial download belongs to; only the same version may be appended."""

    url: str
    validator: str | None
    size: int | None
    md5: str | None


class PartialFile:
    """Partial download: `NAME.part` next to the destination, with its `Origin` in `NAME.part.json`."""

    def __init__(self, destination: Path) -> None:
        self.path = destination.with_name(destination.name + ".part")
        self.note = destination.with_name(destination.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def origin(self) -> Origin | None:
        """Return where the bytes come from; None if that is unknown."""
        try:
            return Origin(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Discard the bytes received so far and start another file or version."""
        # In this order: a job killed in between must not leave old bytes with a new note.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        write_text(self.note, json.dumps(origin.__dict__))

    def discard(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
