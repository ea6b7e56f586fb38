"""The run directory: who may claim it, and what is kept after a failure."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae.errors import RunError
from gtex_vae.runs.directory import (
    CONFIG,
    FAILED,
    LAST,
    REPLACED,
    SUCCESS,
    claim,
    clear,
    differing_keys,
    find_run,
    mark,
    read_config,
    status,
)

SAME: dict[str, Any] = {"seed": 0, "model": {"latent_dim": 8}, "run": None, "overwrite": False}
OTHER: dict[str, Any] = {**SAME, "model": {"latent_dim": 9}}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
configs = st.dictionaries(st.text(min_size=1, max_size=5), plain, max_size=4)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


def leave(run_dir: Path, state: str) -> None:
    """Leave a run in one of its states, with a checkpoint where it has started."""
    if state == "new":
        return
    claim(run_dir, SAME)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "last.ckpt").write_text("weights")
    if state == "finished":
        mark(run_dir)
    if state == "failed":
        mark(run_dir, "because")


@pytest.mark.parametrize("state", ["new", "unfinished", "failed", "finished"])
def test_status(run_dir: Path, state: str) -> None:
    leave(run_dir, state)
    assert status(run_dir) == state


# state, same config, overwrite -> refused, resumes, or (False) starts without files of the old run
@pytest.mark.parametrize(
    ("state", "same", "overwrite", "outcome"),
    [
        ("new", True, False, "begins"),
        ("new", True, True, "begins"),
        ("unfinished", True, False, "resumes"),
        ("unfinished", True, True, "resumes"),
        ("unfinished", False, False, "refused"),
        ("unfinished", False, True, "begins"),
        ("failed", True, False, "resumes"),
        ("failed", True, True, "resumes"),
        ("failed", False, False, "refused"),
        ("failed", False, True, "begins"),
        ("finished", True, False, "refused"),
        ("finished", False, False, "refused"),
        ("finished", True, True, "begins"),
        ("finished", False, True, "begins"),
    ],
)
def test_claim(run_dir: Path, state: str, same: bool, overwrite: bool, outcome: str) -> None:
    leave(run_dir, state)
    config = {**(SAME if same else OTHER), "overwrite": overwrite}
    if outcome == "refused":
        before = sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*"))
        with pytest.raises(RunError, match=r"overwrite=true"):
            claim(run_dir, config)
        assert sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*")) == before
        return
    assert claim(run_dir, config) == (outcome == "resumes")
    assert status(run_dir) == "unfinished"
    assert read_config(run_dir) == config
    assert (run_dir / "checkpoints" / "last.ckpt").exists() == (outcome == "resumes")


def test_refusal_names_the_settings_that_differ(run_dir: Path) -> None:
    leave(run_dir, "unfinished")
    with pytest.raises(RunError, match=r"other settings \(seed, model.latent_dim\)"):
        claim(run_dir, {**OTHER, "seed": 3})


def test_keys_that_say_how_to_start_may_differ(run_dir: Path) -> None:
    leave(run_dir, "unfinished")
    assert claim(run_dir, {**SAME, "overwrite": True})
    with pytest.raises(RunError, match=r"other settings \(run\)"):
        claim(run_dir, {**SAME, "run": str(run_dir)})
    assert claim(run_dir, {**SAME, "run": str(run_dir)}, per_call=("overwrite", "run"))


def test_a_failure_ends_with_its_reason_and_a_success_without_one(run_dir: Path) -> None:
    leave(run_dir, "unfinished")
    mark(run_dir, "out of memory\n\ntraceback")
    assert (run_dir / FAILED).read_text() == "out of memory\n\ntraceback\n"
    claim(run_dir, SAME)
    assert not (run_dir / FAILED).exists()
    mark(run_dir, "again")
    mark(run_dir)
    assert not (run_dir / FAILED).exists()
    assert status(run_dir) == "finished"


def test_clearing_keeps_the_open_log_and_hydras_record(run_dir: Path) -> None:
    leave(run_dir, "finished")
    (run_dir / ".hydra").mkdir()
    (run_dir / "log.txt").write_text("now")
    clear(run_dir)
    assert sorted(path.name for path in run_dir.iterdir()) == [".hydra", "log.txt"]


@pytest.mark.parametrize(("state", "config"), [("finished", SAME), ("unfinished", OTHER), ("failed", OTHER)])
@pytest.mark.parametrize("removed", range(6))
def test_killed_while_clearing_never_goes_on_from_what_is_left(
    run_dir: Path, state: str, config: dict[str, Any], removed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command starts again after an interrupted removal; it does not resume the old weights."""
    leave(run_dir, state)
    for name in ("metrics.json", "zzz"):
        (run_dir / name).write_text("old")
    count = itertools.count()

    def dying(remove: Any) -> Any:
        def maybe_remove(*arguments: Any, **more: Any) -> None:
            if next(count) >= removed:
                raise OSError("killed")
            remove(*arguments, **more)

        return maybe_remove

    again = {**config, "overwrite": True}
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        patch.setattr(Path, "rename", dying(Path.rename))
        with contextlib.suppress(OSError):
            claim(run_dir, again)
    claim(run_dir, again)
    assert not (run_dir / "checkpoints").exists()
    assert not (run_dir / "metrics.json").exists()
    if state == "finished":  # whole, however often it took
        aside = run_dir / REPLACED
        assert status(aside) == "finished"
        assert (aside / LAST).read_text() == "weights"
        assert (aside / "metrics.json").read_text() == "old"


def test_a_finished_run_is_set_aside_until_another_takes_its_place(run_dir: Path) -> None:
    leave(run_dir, "finished")
    aside = run_dir / REPLACED
    for again in (False, True):  # a run that failed on the way is not set aside in its place
        assert not claim(run_dir, {**OTHER, "seed": int(again), "overwrite": True})
        mark(run_dir, "because")
        assert read_config(aside) == SAME
    claim(run_dir, {**OTHER, "overwrite": True})
    mark(run_dir)
    assert not aside.exists()
    # what could not be removed then, on a file system of a network
    aside.mkdir()
    (aside / SUCCESS).mkdir()
    claim(run_dir, {**SAME, "overwrite": True})
    assert read_config(aside)["model"] == OTHER["model"]


def test_config_that_cannot_be_read(run_dir: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory"):
        read_config(run_dir)
    run_dir.mkdir()
    for text, message in (
        ("a: [", "is not a run directory"),
        ("- 1", "does not contain a mapping"),
        ("!!python/object:os.x {}", "is no"),
    ):
        (run_dir / CONFIG).write_text(text)
        with pytest.raises(RunError, match=message):
            read_config(run_dir)


@given(config=configs)
def test_a_config_differs_in_nothing_from_itself_written_and_read(config: dict[str, Any]) -> None:
    again = yaml.safe_load(yaml.safe_dump(config, sort_keys=False))
    assert differing_keys(again, config) == []


@given(old=configs, new=configs)
def test_configs_without_differing_keys_are_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = differing_keys(old, new)
    assert (found == []) == (differing_keys(new, old) == [])
    if not found:
        # a missing key and one that is null say the same
        assert all(old.get(key) == new.get(key) for key in {*old, *new})


def test_differing_keys_are_full_and_ignore_how_to_start_at_the_root_only() -> None:
    old = {"a": {"b": 1, "run": 1}, "c": [1, 2], "run": "x", "overwrite": True}
    new = {"a": {"b": 1, "run": 2}, "c": [2, 1], "d": 0}
    assert differing_keys(old, new, ("run", "overwrite")) == ["a.run", "c", "d"]
    assert differing_keys(old, new) == ["a.run", "c", "run", "overwrite", "d"]


def test_find_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run=latest: no finished run"):
        find_run("latest", tmp_path)
    first, second, third = (tmp_path / "train" / "runs" / name for name in ("c", "a", "b"))
    for run_dir, state in ((first, "finished"), (second, "finished"), (third, "unfinished")):
        leave(run_dir, state)
    os.utime(first / SUCCESS, (1, 1))
    assert find_run("latest", tmp_path) == second
    os.utime(first / SUCCESS, (2e9, 2e9))
    assert find_run("latest", tmp_path) == first
    claim(first, {**SAME, "overwrite": True})
    assert find_run("latest", tmp_path) == second
    assert find_run(str(second), tmp_path) == second
    with pytest.raises(RunError, match=r"is unfinished; finish it with `python -m gtex_vae.train run="):
        find_run(str(third), tmp_path)
    mark(third, "NaN at step 3\nand a traceback")
    with pytest.raises(RunError, match=r"is failed: NaN at step 3; finish it"):
        find_run(str(third), tmp_path)
    with pytest.raises(RunError, match=r"does not exist"):
        find_run(str(tmp_path / "nothing"), tmp_path)
    with pytest.raises(RunError, match=r"is not a run directory: it has no config.yaml"):
        find_run(str(tmp_path), tmp_path)


def test_retired_keys_of_an_older_config(run_dir: Path) -> None:
    for value in ("samples", "genes"):
        run_dir.mkdir(exist_ok=True)
        (run_dir / CONFIG).write_text(yaml.safe_dump({"data": {"axis": value, "val": 0.1}, "gene_run": None}))
        (run_dir / SUCCESS).touch()
        if value == "samples":
            assert read_config(run_dir) == {"data": {"val": 0.1}}
            assert find_run(str(run_dir), run_dir.parent) == run_dir
        else:
            with pytest.raises(RunError, match=r"made with data\.axis=genes, an option that was removed"):
                find_run(str(run_dir), run_dir.parent)


def test_results_of_a_read_only_run_go_elsewhere_or_are_refused_before_the_work(tmp_path, monkeypatch):
    from gtex_vae.runs import directory

    assert directory.results_folder(tmp_path, None) == tmp_path
    monkeypatch.setattr(directory.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(RunError, match="is not writable; add to=FOLDER"):
        directory.results_folder(tmp_path, None)
    other = tmp_path.parent / "other/new"
    assert directory.results_folder(tmp_path, str(other)) == other
    with pytest.raises(RunError, match="leave out to="):
        directory.results_folder(tmp_path, "elsewhere", fixed=True)


def test_a_model_is_found_by_its_folder_or_its_run(tmp_path):
    from gtex_vae.runs.directory import find_model

    folder = tmp_path / "run/model"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    assert find_model(str(folder), tmp_path) == folder  # also without the rest of the run
    with pytest.raises(RunError, match="is not a run directory"):
        find_model(str(folder.parent), tmp_path)
    (folder.parent / CONFIG).write_text("data: {}")
    (folder.parent / SUCCESS).touch()
    assert find_model(str(folder.parent), tmp_path) == folder
