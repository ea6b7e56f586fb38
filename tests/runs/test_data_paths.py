"""A run finds its data after the run, the data or the working directory has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gtex_vae.errors import RunError
from gtex_vae.runs import data_paths

DATA = {
    "name": "x", "path": "raw.tsv", "processed": "data/processed/x.h5ad",
    "prepare": {"path": "raw.tsv", "annotations": ["samples.csv"], "genes": "all"},
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with a run and its data, and type commands there."""
    project = tmp_path / "project"
    run = project / "outputs/train/runs/one"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"data": DATA}))
    for name in ("raw.tsv", "samples.csv", "data/processed/x.h5ad"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("")
    monkeypatch.chdir(project)
    return project


def found(run: Path) -> list[Path]:
    data = data_paths.locate(run, DATA)
    assert data["prepare"]["genes"] == "all"
    paths = (data["path"], data["processed"], data["prepare"]["path"], *data["prepare"]["annotations"])
    return [Path(path) for path in paths]


@pytest.mark.parametrize("stored", [True, False])
def test_another_working_directory(project: Path, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    run = project / "outputs/train/runs/one"
    if stored:
        data_paths.store(run, DATA)
    monkeypatch.chdir(project.parent)
    expected = [project / name for name in ("raw.tsv", "data/processed/x.h5ad", "raw.tsv", "samples.csv")]
    assert found(run) == expected
    assert found(Path("project/outputs/train/runs/one")) == expected


def test_a_run_that_was_copied_away_knows_where_its_data_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project / "outputs/train/runs/one"
    data_paths.store(run, DATA)
    copy = run.rename(project.parent / "colleague")
    monkeypatch.chdir(project.parent)
    assert found(copy)[1] == project / "data/processed/x.h5ad"


def test_a_project_that_moved_as_a_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_paths.store(project / "outputs/train/runs/one", DATA)
    moved = project.rename(project.parent / "elsewhere")
    monkeypatch.chdir(project.parent)
    assert found(moved / "outputs/train/runs/one")[1] == moved / "data/processed/x.h5ad"


def test_data_that_moved_is_found_again_after_one_command_named_it(project: Path) -> None:
    run = project / "outputs/train/runs/one"
    now = (project / "data/processed/x.h5ad").rename(project / "y.h5ad")
    assert found(run)[1] == Path("data/processed/x.h5ad")  # nowhere
    data_paths.move(run, {"path": None, "processed": "y.h5ad"})
    assert found(run) == [project / "raw.tsv", now, project / "raw.tsv", project / "samples.csv"]


def test_a_wrong_place_is_refused(project: Path) -> None:
    with pytest.raises(RunError, match=r"data.processed=no.h5ad does not exist"):
        data_paths.move(project / "outputs/train/runs/one", {"path": None, "processed": "no.h5ad"})
