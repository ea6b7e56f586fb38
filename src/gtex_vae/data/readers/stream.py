"""Blocks of whole lines, decompressed and hashed in one thread while another parses them."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from tqdm import tqdm

from gtex_vae.data.readers.sniff import broken, damage, open_decompressed
from gtex_vae.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 4 << 20
# a line longer than this is no row of numbers but a file without line ends
_LONGEST_LINE = 1 << 30
_BOM = b"\xef\xbb\xbf"


class _HashingFile(io.RawIOBase):
    """A file that hashes and counts what is read from it."""

    def __init__(self, file: io.FileIO) -> None:
        self._raw = file
        self._sha256 = hashlib.sha256()
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        size = self._raw.readinto(view) or 0
        self._sha256.update(view[:size])
        self.position += size
        return size

    def hexdigest(self) -> str:
        while self.read(1 << 20):
            pass
        return self._sha256.hexdigest()


class LineBlocks:
    """Iterate over a text file in blocks of whole lines; a byte order mark is dropped.

    A thread reads, hashes and decompresses; at most a few blocks wait, which bounds the memory.

    Parameters
    ----------
    path
        The file.
    compression
        ``gzip``, ``zstd`` or None.

    Attributes
    ----------
    sha256
        Digest of the file on disk, known once the iteration has ended.
    """

    def __init__(self, path: Path, compression: str | None) -> None:
        self.path = path
        self.sha256: str | None = None
        self._compression = compression
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=4)
        self._stop = threading.Event()
        self._file: _HashingFile | None = None
        self._peeked: list[bytes] = []
        self._ended = False
        self._thread = threading.Thread(target=self._produce, name="decompress", daemon=True)
        # seconds of silence first: small files need no bar
        self._bar = tqdm(
            total=path.stat().st_size,
            desc=f"reading {path.name}",
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def __iter__(self) -> Iterator[bytes]:
        while self._peeked:
            yield self._peeked.pop(0)
        while (block := self._next()) is not None:
            yield block

    def peek(self, lines: int) -> list[bytes]:
        """Return up to that many first lines, without their ends; the iteration still begins with them."""
        while not self._ended and sum(block.count(b"\n") for block in self._peeked) < lines:
            block = self._next()
            if block is not None:
                self._peeked.append(block)
        found: list[bytes] = []
        for block in self._peeked:
            found += block.split(b"\n", lines - len(found))[: min(lines - len(found), block.count(b"\n"))]
        return [line.removesuffix(b"\r") for line in found]

    def _next(self) -> bytes | None:
        """Take one block from the thread, or the error it met."""
        if self._ended:
            return None
        item = self._queue.get()
        if isinstance(item, bytes):
            if self._file is not None:
                self._bar.update(self._file.position - self._bar.n)
            return item
        self._ended = True
        if isinstance(item, BaseException):
            raise item
        return None

    def _put(self, item: bytes | BaseException | None) -> None:
        """Hand one block over, unless nobody listens any more."""
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def _produce(self) -> None:
        """Body of the thread."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                self._file = _HashingFile(file)
                self._cut_lines(open_decompressed(cast(BinaryIO, self._file), self._compression))
                if not self._stop.is_set():
                    self.sha256 = self._file.hexdigest()
            self._put(None)
        except damage() as error:
            if self._compression:
                self._put(broken(self.path, self._compression, error))
            else:
                self._put(DataError(f"{self.path}: reading failed ({error}); check the disk"))
        except BaseException as error:
            self._put(error)

    def _cut_lines(self, file: BinaryIO) -> None:
        """Cut the bytes at line ends and hand them over."""
        rest: list[bytes] = []
        first = True
        while not self._stop.is_set() and (chunk := file.read(_CHUNK)):
            if first:
                first, chunk = False, chunk.removeprefix(_BOM)
            cut = chunk.rfind(b"\n") + 1
            if cut:
                self._put(b"".join([*rest, chunk[:cut]]))
                rest = [chunk[cut:]]
            else:
                rest.append(chunk)
                if len(rest) * _CHUNK > _LONGEST_LINE:
                    raise DataError(
                        f"{self.path}: a line is longer than {_LONGEST_LINE >> 20} MiB; no matrix text"
                    )
        if last := b"".join(rest):
            self._put(last + b"\n")
