"""A job reports what was edited between its submission and its start, or refuses to run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gtex_vae import provenance
from gtex_vae.errors import RunError
from gtex_vae.runs import directory, submission


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config whose files lie there, of a package of two files."""
    package, conf = tmp_path / "package", tmp_path / "conf"
    for path in (package / "a.py", package / "nn" / "b.py", conf / "model" / "vae.yaml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr(submission, "PACKAGE", package)
    monkeypatch.setattr(submission, "conf_dir", lambda: conf)
    monkeypatch.setattr(provenance, "git_revision", lambda: {"revision": "abc", "dirty": False})
    (tmp_path / "raw.csv").write_text("raw")
    (tmp_path / "made.h5ad").write_text("made")
    return {
        "data": {"path": str(tmp_path / "raw.csv"), "processed": str(tmp_path / "made.h5ad")},
        "input": None, "paths": {"outputs": str(tmp_path / "outputs")},
    }  # fmt: skip


def differences(tmp_path: Path, config: dict[str, Any]) -> list[str]:
    """What a job would say, after its record has been to a file and back."""
    return submission.differences(json.loads((tmp_path / "submitted.json").read_text()))


def submit(tmp_path: Path, config: dict[str, Any], **how: Any) -> Path:
    path = tmp_path / "submitted.json"
    submission.write(path, config, **how)
    return path


def test_nothing_differs_where_nothing_was_edited(tmp_path, config):
    assert submission.check(submit(tmp_path, config, refuse=True)) == []


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        ("package/nn/b.py", "gtex_vae/nn/b.py changed"),
        ("package/new.py", "gtex_vae/new.py new"),
        ("conf/model/vae.yaml", "conf/model/vae.yaml changed"),
        ("made.h5ad", "made.h5ad changed"),
    ],
)
@pytest.mark.parametrize("refuse", [False, True])
def test_what_was_edited_is_named(tmp_path, config, edited, said, refuse, caplog):
    path = submit(tmp_path, config, refuse=refuse)
    (tmp_path / edited).write_text("2")
    if refuse:
        with pytest.raises(RunError, match=r"changed since submission") as refused:
            submission.check(path)
        assert said in str(refused.value)
        assert "submit again" in str(refused.value)
    else:
        with caplog.at_level(logging.WARNING):
            (found,) = submission.check(path)
        assert found.endswith(said)
        assert said in caplog.text


def test_what_is_gone(tmp_path, config):
    submit(tmp_path, config)
    (tmp_path / "package" / "a.py").unlink()
    (tmp_path / "made.h5ad").unlink()
    assert [text.rpartition("/")[2] for text in differences(tmp_path, config)] == [
        "a.py missing",
        "made.h5ad missing",
    ]


def test_another_revision(tmp_path, config, monkeypatch):
    submit(tmp_path, config)
    monkeypatch.setattr(provenance, "git_revision", lambda: {"revision": "def", "dirty": True})
    assert differences(tmp_path, config) == ["git revision was abc, is def", "git dirty was False, is True"]


def test_the_raw_matrix_counts_where_it_was_not_processed_yet(tmp_path, config):
    Path(config["data"]["processed"]).unlink()
    submit(tmp_path, config)
    Path(config["data"]["processed"]).write_text("made by a job")
    assert differences(tmp_path, config) == []
    (tmp_path / "raw.csv").write_text("another")
    assert len(differences(tmp_path, config)) == 1


def test_the_run_that_latest_meant(tmp_path, config):
    def finish(name: str) -> Path:
        run_dir = tmp_path / "outputs" / "train" / "runs" / name
        directory.claim(run_dir, {})
        (run_dir / "model").mkdir()
        (run_dir / "model" / "weights.safetensors").write_text(name)
        directory.mark(run_dir)
        return run_dir

    first = finish("a")
    submit(tmp_path, {**config, "run": "latest"})
    assert differences(tmp_path, config) == []
    second = finish("b")
    (second / "SUCCESS").touch()
    assert differences(tmp_path, config) == [f"run=latest was {first}, is {second}"]


def test_many_edits_are_counted(tmp_path, config):
    path = submit(tmp_path, config, refuse=True)
    for number in range(9):
        (tmp_path / "package" / f"n{number}.py").write_text("")
    with pytest.raises(RunError, match=r"and 4 more"):
        submission.check(path)


def test_the_package_itself(tmp_path):
    """The real code and configs are among the files, each once."""
    found = submission.record({})
    assert {
        "gtex_vae/runs/submission.py",
        "conf/train.yaml",
        "conf/hydra/launcher/cluster/default.yaml",
    } <= found["files"].keys()
    assert found["data"] == {}
    assert found["latest"] is None
