"""Every format is one row of the registry, and the lists of formats in messages and README follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtex_vae.data.readers import read_matrix
from gtex_vae.data.readers.registry import FORMATS, readable_formats, readable_suffixes
from gtex_vae.data.readers.sniff import sniff
from gtex_vae.errors import DataError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", [format.name for format in FORMATS])
def test_each_format_has_a_reader_and_is_recognised(name: str, tmp_path: Path) -> None:
    (format,) = (format for format in FORMATS if format.name == name)
    assert callable(format.reader())
    path = tmp_path / "x"
    if format.folder_files:
        path.mkdir()
        (path / format.folder_files[0]).touch()
    else:
        path.write_bytes(format.magic or b"gene\ts1\n")
    assert sniff(path).format is format


def test_readme_lists_the_formats() -> None:
    """The only list in the docs; configs and docstrings refer to it or to the registry."""
    assert readable_suffixes() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_messages_list_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError) as caught:
        read_matrix(path)
    assert readable_formats() in str(caught.value)
