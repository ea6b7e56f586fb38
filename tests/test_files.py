"""Atomic writes: a failure leaves the old file or folder in place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gtex_vae.files import write_beside, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    """Make a folder with a file and a folder in it."""
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def write_half(target: Path, write: Callable[[Path], object], error: type[BaseException]) -> None:
    """Be stopped in the middle."""
    with write_beside(target) as temporary:
        write(temporary)
        raise error


def test_a_file_is_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "x.tar.gz"
    for text in ("first", "second"):
        with write_beside(target) as temporary:
            temporary.write_text(text)
            assert temporary.parent == target.parent
            assert temporary.name.endswith(".x.tar.gz")  # writers look at the suffixes
        assert target.read_text() == text
        assert names(target.parent) == ["x.tar.gz"]


def test_a_folder_replaces_the_one_before_and_holds_nothing_of_it(tmp_path: Path) -> None:
    target = tmp_path / "model"
    fill(target, "old")
    (target / "only in the old one").touch()
    with write_beside(target) as temporary:
        fill(temporary, "new")
        assert (target / "inner" / "file").read_text() == "old"
    assert (target / "inner" / "file").read_text() == "new"
    assert names(target) == ["inner"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(error):
        write_half(target, lambda path: path.write_text("half"), error)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model"
    fill(target, "old")
    with pytest.raises(error):
        write_half(target, lambda path: fill(path, "half"), error)
    assert (target / "inner" / "file").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    fill(target, "old")
    rename = Path.rename

    def full(source: Path, destination: Path) -> Path:
        if Path(destination) == target and source.name.endswith(".model"):
            raise OSError(28, "No space left on device")
        return rename(source, destination)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match=r"No space"), write_beside(target) as temporary:
        fill(temporary, "new")
    assert (target / "inner" / "file").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_folder_may_take_the_place_of_a_file(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    with write_beside(target) as temporary:
        fill(temporary, "new")
    assert (target / "inner" / "file").read_text() == "new"
    assert names(tmp_path) == ["x"]


def test_writing_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), write_beside(target):
        pass
    assert target.read_text() == "old"


def test_two_writers_at_once_both_write_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with write_beside(target) as first, write_beside(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # whose block ended last
    assert names(tmp_path) == ["x"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "β-VAE\n")
    assert (tmp_path / "x").read_bytes() == "β-VAE\n".encode()


def test_json_has_null_for_what_is_undefined(tmp_path: Path) -> None:
    data = {"a": float("nan"), "b": {"c": [1.5, float("inf"), -float("inf")], "d": None}, "e": (True, "x", 3)}
    write_json(tmp_path / "x.json", data)
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {
        "a": None, "b": {"c": [1.5, None, None], "d": None}, "e": [True, "x", 3]
    }  # fmt: skip
