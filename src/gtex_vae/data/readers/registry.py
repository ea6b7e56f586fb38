"""Formats that `read_matrix` reads: one row of `FORMATS` each.

To add a format, write ``readers/<format>.py`` with a function ``read(path, options)``, add its row here, and add a test.
Recognition (`gtex_vae.data.readers.sniff`) and messages follow from the row; the README lists the formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeAlias, cast

from gtex_vae.data.readers.matrix import KeepGene, RawMatrix

_READERS = "gtex_vae.data.readers"


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of `gtex_vae.data.readers.read.read_matrix` that a reader receives.

    Parameters
    ----------
    compression
        ``gzip`` or ``zstd``, as recognised; None for a plain file.
    keep_gene, orientation, layer, allow_shape_mismatch, scratch, unit
        See `gtex_vae.data.readers.read.read_matrix`. A reader may ignore those that its format does not need.
    """

    compression: str | None = None
    keep_gene: KeepGene | None = None
    orientation: str | None = None
    layer: str | None = None
    allow_shape_mismatch: bool = False
    scratch: Path | None = None
    unit: str | None = None


Reader: TypeAlias = Callable[[Path, ReadOptions], RawMatrix]


@dataclass(frozen=True)
class Format:
    """One input format.

    Parameters
    ----------
    name
        As in `gtex_vae.data.readers.matrix.Source`.
    label
        Name in messages.
    suffixes
        Usual file names, for documentation only: formats are recognised by content.
    module
        Module below ``gtex_vae.data.readers`` whose function ``read`` reads the format. It is imported on first use.
    magic
        First bytes after decompression. Empty matches any text, so such a row comes last.
    folder_files
        For a format that is a folder: files of which it has at least one.
    text
        Whether the file may be compressed with gzip or zstd.
    store
        Whether it is an AnnData store: it has layers, and its values can stay on disk.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    module: str
    magic: bytes = b""
    folder_files: tuple[str, ...] = ()
    text: bool = False
    store: bool = False

    def reader(self) -> Reader:
        """Import the function that reads this format."""
        return cast(Reader, import_module(f"{_READERS}.{self.module}").read)


FORMATS = (
    Format("gct", "GCT", (".gct",), "text.gct", magic=b"#1.", text=True),
    Format("parquet", "parquet", (".parquet",), "parquet", magic=b"PAR1"),
    Format("h5ad", "h5ad", (".h5ad",), "anndata", magic=b"\x89HDF\r\n\x1a\n", store=True),
    Format(
        "zarr", "zarr", (".zarr",), "anndata", folder_files=("zarr.json", ".zgroup", ".zattrs"), store=True
    ),
    Format("delimited", "CSV or TSV", (".tsv", ".csv", ".txt"), "text.delimited", text=True),
)


def format_of_head(head: bytes) -> Format:
    """Find the format whose first bytes a decompressed file has.

    >>> format_of_head(b"#1.2").name, format_of_head(b"gene,s1").name
    ('gct', 'delimited')
    """
    return next(format for format in FORMATS if not format.folder_files and head.startswith(format.magic))


def format_of_folder(folder: Path) -> Format | None:
    """Find the format of a folder."""
    return next(
        (format for format in FORMATS if any((folder / name).is_file() for name in format.folder_files)), None
    )


def readable_formats() -> str:
    """List the formats for messages.

    >>> readable_formats()
    'GCT, CSV or TSV text (plain, .gz, .zst), parquet, h5ad or zarr'
    """
    text = ", ".join(format.label for format in FORMATS if format.text)
    *others, last = (format.label for format in FORMATS if not format.text)
    return f"{', '.join([f'{text} text (plain, .gz, .zst)', *others])} or {last}"


def readable_suffixes() -> str:
    """List the usual file names, as in the README.

    >>> readable_suffixes()
    '.gct, .tsv, .csv, .txt (.gz, .zst), .parquet, .h5ad, .zarr'
    """
    text = [suffix for format in FORMATS if format.text for suffix in format.suffixes]
    others = [suffix for format in FORMATS if not format.text for suffix in format.suffixes]
    return f"{', '.join(text)} (.gz, .zst), {', '.join(others)}"
