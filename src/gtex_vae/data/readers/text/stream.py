"""Blocks of whole lines, decompressed and hashed in one thread while another parses them."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self, cast

from tqdm import tqdm

from gtex_vae.data.readers.sniff import damage_errors, explain_stream_damage, open_decompressed
from gtex_vae.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFERS = 4
_BUFFER_BYTES = 1 << 20
# a longer line is not a row of numbers but a file without line ends
_LONGEST_LINE = 1 << 30
_BOM = b"\xef\xbb\xbf"


class _HashingFile(io.RawIOBase):
    """A file that hashes and counts the bytes read from it."""

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


class Block(NamedTuple):
    """Whole lines: ``text[:stop]`` ends with a line end. The buffer is reused once the next block is taken."""

    text: bytearray
    stop: int


class LineBlocks:
    """Iterator over a text file in blocks of whole lines; a byte order mark is dropped.

    A thread reads, hashes and decompresses into a few reused buffers, which limits the memory and avoids page faults.

    Parameters
    ----------
    path
        The file.
    compression
        ``gzip``, ``zstd`` or None.

    Attributes
    ----------
    sha256
        Digest of the file as stored, known once the iteration has ended.
    """

    def __init__(self, path: Path, compression: str | None) -> None:
        self.path = path
        self.sha256: str | None = None
        self._compression = compression
        self._full: queue.Queue[Block | BaseException | None] = queue.Queue()
        self._free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(_BUFFER_BYTES))
        self._stop = threading.Event()
        self._position = 0
        self._peeked: list[Block] = []
        self._ended = False
        self._thread = threading.Thread(target=self._produce, name="decompress", daemon=True)
        # the bar appears after two seconds: small files need none
        self._bar = tqdm(
            total=path.stat().st_size,
            desc=f"reading {path.name}",
            unit="B",
            unit_scale=True,
            delay=2,
            leave=False,
            disable=None,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._free.put(bytearray())
        self._thread.join()
        self._bar.close()

    def __iter__(self) -> Iterator[Block]:
        while (block := self._peeked.pop(0) if self._peeked else self._next()) is not None:
            yield block
            self._free.put(block.text)

    def peek(self, lines: int) -> list[bytes]:
        """Return up to ``lines`` first lines without their ends; the iteration still starts with them."""
        found: list[bytes] = []
        at = 0
        while len(found) < lines:
            if at == len(self._peeked):
                block = self._next()
                if block is None:
                    break
                self._peeked.append(block)
                # this buffer is not reused until the block is read
                self._free.put(bytearray(_BUFFER_BYTES))
            text, stop = self._peeked[at]
            found += bytes(text[: stop - 1]).split(b"\n", lines - len(found))[: lines - len(found)]
            at += 1
        return [line.removesuffix(b"\r") for line in found]

    def _next(self) -> Block | None:
        """Take one block from the thread, or raise its error."""
        if self._ended:
            return None
        item = self._full.get()
        if isinstance(item, Block):
            self._bar.update(self._position - self._bar.n)
            return item
        self._ended = True
        if item is not None:
            raise item
        return None

    def _produce(self) -> None:
        """Read the file; runs in the thread."""
        try:
            with open(self.path, "rb", buffering=0) as raw:
                file = _HashingFile(raw)
                self._cut_lines(file, open_decompressed(cast(BinaryIO, file), self._compression))
                if not self._stop.is_set():
                    self.sha256 = file.hexdigest()
            self._full.put(None)
        except damage_errors(self._compression) as error:
            if self._compression:
                self._full.put(explain_stream_damage(self.path, self._compression, error))
            else:
                self._full.put(DataError(f"{self.path}: reading failed ({error}); check the disk"))
        except BaseException as error:
            self._full.put(error)

    def _cut_lines(self, file: _HashingFile, text: BinaryIO) -> None:
        """Fill buffers and pass on the whole lines in each."""
        rest = b""
        first = True
        while True:
            buffer = self._free.get()
            if self._stop.is_set():
                return
            if len(buffer) < len(rest) + _BUFFER_BYTES // 2:
                buffer = bytearray(len(rest) + _BUFFER_BYTES)
            buffer[: len(rest)] = rest
            filled = len(rest)
            cut = 0
            while not cut:
                if filled == len(buffer):
                    if filled > _LONGEST_LINE:
                        raise DataError(
                            f"{self.path}: a line is longer than {_LONGEST_LINE >> 20} MiB; this is not a matrix as text"
                        )
                    buffer += bytes(filled)
                size = self._fill(text, buffer, filled)
                if first:
                    first = False
                    if buffer.startswith(_BOM):
                        del buffer[: len(_BOM)]
                        size -= len(_BOM)
                ended = filled + size < len(buffer)
                filled += size
                if ended:
                    break
                cut = buffer.rfind(b"\n", 0, filled) + 1
            self._position = file.position
            if ended:
                if filled:
                    buffer[filled : filled + 1] = b"\n"
                    self._full.put(Block(buffer, filled if buffer[filled - 1] == 10 else filled + 1))
                return
            rest = bytes(memoryview(buffer)[cut:filled])
            self._full.put(Block(buffer, cut))

    def _fill(self, text: BinaryIO, buffer: bytearray, start: int) -> int:
        """Read until the buffer is full or the file ends."""
        position = start
        with memoryview(buffer) as view:
            while position < len(buffer) and (size := text.readinto(view[position:])):  # type: ignore[attr-defined]
                position += size
        return position - start
