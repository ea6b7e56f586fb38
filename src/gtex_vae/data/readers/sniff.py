"""Recognition of format and compression from the first bytes of a file, never from its name."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from gtex_vae.data.readers.registry import Format, format_of_folder, format_of_head, readable_formats
from gtex_vae.errors import DataError

Compression = Literal["gzip", "zstd"]

_HEAD = 1 << 16

_COMPRESSIONS: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

# first bytes of files that users often give by mistake, and what to do about them
_REFUSED = {
    b"PK\x03\x04": "an Excel workbook or a zip archive: export the sheet as TSV, or unzip it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: export the sheet as TSV",
    b"BZh": "bzip2-compressed: recompress it with gzip or zstd",
    b"\xfd7zXZ": "xz-compressed: recompress it with gzip or zstd",
    b"RDX": "an R data file: write the matrix from R with write.table(..., sep='\\t')",
    b"X\n\0\0": "an R data file: write the matrix from R with write.table(..., sep='\\t')",
    b"\x93NUMPY": "a bare NumPy array without gene and sample ids: store it as .h5ad or TSV",
    b"%PDF": "a PDF document, not a matrix",
    b"%%MatrixMarket": "a MatrixMarket file without ids: store it as .h5ad together with its barcodes and features",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run `git lfs pull`",
    b"!Series_": "a GEO series matrix: remove the lines that begin with '!' or use the supplementary table",
    b"!series_": "a GEO series matrix: remove the lines that begin with '!' or use the supplementary table",
    b"^DATABASE": "a GEO SOFT file: use the supplementary table",
    b"<!doctype html": "a web page (perhaps an error page saved by a download): fetch the file again",
    b"<html": "a web page (perhaps an error page saved by a download): fetch the file again",
    b"<?xml": "an XML document (perhaps an error page saved by a download): fetch the file again",
    b"{": "JSON, not a matrix",
}
_UTF16_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True)
class Kind:
    """Format and compression of a file."""

    format: Format
    compression: Compression | None = None


def open_decompressed(file: BinaryIO, compression: str | None) -> BinaryIO:
    """Wrap an open file so that reading it gives the decompressed bytes."""
    if compression == "gzip":
        from isal import igzip

        return cast(BinaryIO, igzip.IGzipFile(fileobj=file, mode="rb"))
    if compression == "zstd":
        import pyarrow as pa

        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    return file


def damage_errors(compression: str | None) -> tuple[type[BaseException], ...]:
    """Exceptions that the decompressor and the system raise for a bad file."""
    if compression == "gzip":
        from isal import isal_zlib

        return (EOFError, OSError, cast(type[Exception], isal_zlib.error))
    if compression == "zstd":
        import pyarrow as pa

        return (OSError, pa.ArrowException)
    return (OSError,)


def explain_stream_damage(path: Path, compression: str | None, error: BaseException) -> DataError:
    """Explain a file that does not decompress."""
    if isinstance(error, EOFError) or "Truncated" in str(error) or "ended before" in str(error):
        return DataError(
            f"{path}: the {compression} stream ends too early, so the file was cut short; fetch it again"
        )
    return DataError(f"{path}: the {compression} stream is damaged ({error}); fetch the file again")


def sniff(path: Path) -> Kind:
    """Recognise format, compression and encoding from the content.

    Parameters
    ----------
    path
        A file, or a zarr folder.

    Returns
    -------
    Kind
        ``delimited`` is any text that no other format claims.

    Raises
    ------
    DataError
        The file is missing, unreadable, empty, damaged, not UTF-8 text, or of an unsupported format.
    """
    if path.is_dir():
        if (folder_format := format_of_folder(path)) is not None:
            return Kind(folder_format)
        raise DataError(f"{path}: a folder that is no zarr store; name the matrix file inside it")
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path (relative ones start at {os.getcwd()})")
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; copy the matrix to a file first")
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the permissions") from error
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes); fetch it again")

    compression = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
    if compression is not None:
        head = _decompressed_head(path, compression)
        if not head:
            raise DataError(f"{path}: decompresses to nothing; fetch it again")
    return Kind(_format_of(path, head, compression), compression)


def _decompressed_head(path: Path, compression: Compression) -> bytes:
    """Read the first bytes after decompression."""
    parts, size = [], 0
    with open(path, "rb") as file:
        try:
            stream = open_decompressed(file, compression)
            while size < _HEAD and (part := stream.read(_HEAD - size)):
                parts.append(part)
                size += len(part)
        except damage_errors(compression) as error:
            # the bytes before the damage still show the format; the reader will meet the damage again
            if not parts:
                raise explain_stream_damage(path, compression, error) from error
    return b"".join(parts)


def _format_of(path: Path, head: bytes, compression: str | None) -> Format:
    """Find the format of decompressed bytes, or refuse them."""
    start = head.removeprefix(b"\xef\xbb\xbf")
    format = format_of_head(start)
    if not format.text:
        if compression:
            raise DataError(f"{path}: a {compression}-compressed {format.name} file; decompress it first")
        return format
    lowered = start[:32].lstrip().lower()
    for magic, what in _REFUSED.items():
        if start.startswith(magic) or (magic.startswith(b"<") and lowered.startswith(magic)):
            raise DataError(f"{path}: this is {what}")
    if start.startswith(_UTF16_32) or _looks_utf16(start):
        raise DataError(
            f"{path}: the text is UTF-16 or UTF-32; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)"
        )
    if b"\0" in start:
        raise DataError(f"{path}: binary content of an unknown kind; expected {readable_formats()}")
    control = sum(byte < 32 and byte not in (9, 10, 13) for byte in start[:4096])
    if control > len(start[:4096]) // 50:
        raise DataError(f"{path}: binary content of an unknown kind; expected {readable_formats()}")
    if not start.strip():
        raise DataError(f"{path}: contains only white space; fetch it again")
    if b"\n" not in start and b"\r" in start:
        raise DataError(
            f"{path}: lines end in a lone CR (old Mac style); convert them to LF (`tr '\\r' '\\n'`)"
        )
    return format


def _looks_utf16(head: bytes) -> bool:
    """Recognise UTF-16 without a byte order mark: every second byte of Latin text is zero."""
    sample = io.BytesIO(head).read(2048)
    if len(sample) < 8:
        return False
    return max(sample[0::2].count(0), sample[1::2].count(0)) > 0.8 * (len(sample) // 2)
