"""Every format is one row of the registry, and the lists of formats in configs and docs follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtex_vae.data.preprocess.prepare import prepare_matrix
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


@pytest.mark.parametrize("page", ["conf/encode.yaml", "conf/evaluate.yaml"])
def test_configs_list_the_formats(page: str) -> None:
    assert readable_suffixes() in (ROOT / page).read_text(encoding="utf-8")


def test_docs_list_the_formats() -> None:
    for text in (
        (ROOT / "README.md").read_text(encoding="utf-8"),
        prepare_matrix.__doc__,
        read_matrix.__doc__,
    ):
        assert text
        assert not [format.label for format in FORMATS if format.label.split()[0].lower() not in text.lower()]


def test_messages_list_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError) as caught:
        read_matrix(path)
    assert readable_formats() in str(caught.value)
