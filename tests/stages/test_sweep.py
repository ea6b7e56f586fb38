"""A sweep: its table, its TensorBoard metrics, and the command that writes the table again."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata


@pytest.fixture(scope="module")
def sweep(train, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "train" / "sweeps" / "one"
    # something of the data is swept too, which runs are not compared by as a rule
    done = train(
        None, f"hydra.sweep.dir={folder}", "seed=1,2", "data.val=0.2,0.25", "trainer.max_epochs=1", "-m"
    )
    assert done.code == 0, done.stderr
    return folder


def hparams(run_dir: Path):
    contents = EventAccumulator(str(run_dir / "tensorboard")).Reload().summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG].plugin_data.content)
    return start.hparams, [info.name.tag for info in experiment.metric_infos]


def test_hparams_compare_what_the_table_does(sweep):
    table = pd.read_csv(sweep / "summary.csv")
    assert list(table["status"]) == ["finished"] * 4
    for row in table.to_dict("records"):
        settings, metrics = hparams(sweep / row["run"])
        assert settings["seed"].number_value == row["seed"]
        assert settings["data/val"].number_value == row["data.val"]
        assert "data/prepare/n_genes" not in settings  # the same in all
        events = EventAccumulator(str(sweep / row["run"] / "tensorboard")).Reload()
        for tag in metrics:
            assert events.Scalars(tag)[0].value == pytest.approx(row[tag.removeprefix("test/")], rel=1e-6)


def test_a_run_that_fails_in_training_is_compared_by_its_settings(train, tmp_path):
    done = train(None, f"hydra.sweep.dir={tmp_path}", "optimizer.lr=1e-3,1e30", "trainer.max_epochs=1", "-m")
    assert done.code == 1
    table = pd.read_csv(tmp_path / "summary.csv")
    assert list(table["status"]) == ["finished", "failed"]
    contents = EventAccumulator(str(tmp_path / table["run"][1] / "tensorboard")).Reload().summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert start.hparams["optimizer/lr"].number_value == 1e30
    assert metadata.SESSION_END_INFO_TAG not in contents


def test_validation_metrics_of_the_best_epoch_are_there_to_choose_by(sweep):
    table = pd.read_csv(sweep / "summary.csv")
    for row in table.to_dict("records"):
        best = json.loads((sweep / row["run"] / "checkpoints" / "best.json").read_text())
        assert row["val/loss"] == pytest.approx(best["val/loss"])
        events = EventAccumulator(str(sweep / row["run"] / "tensorboard")).Reload()
        assert best["val/loss"] == pytest.approx(min(e.value for e in events.Scalars("val/loss")), rel=1e-6)


def test_made_anew_at_any_time(sweep, command):
    before = (sweep / "summary.csv").read_bytes()
    for name in ("summary.csv", "summary.html"):
        (sweep / name).unlink()
    outputs = sweep.parents[2]
    done = command(
        "gtex_vae.summarize", "sweep=latest", "metric=val/loss", f"paths.outputs={outputs}", cwd=outputs
    )
    assert done.code == 0, done.stderr
    assert (sweep / "summary.csv").read_bytes() == before
    assert "Best by val/loss" in done.stdout
    assert '"metric":"val/loss"' in (sweep / "summary.html").read_text()
    pairs = pd.read_csv(sweep / "stability.csv")
    assert list(pairs["setting"]) == ["data.val=0.2", "data.val=0.25"]
    assert pairs["latent_cka"].between(0.5, 1.0).all()
    assert (pairs["sample_neighbours"] > pairs["sample_chance"]).all()
    assert (pairs["gene_neighbours"] > pairs["gene_chance"]).all()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (("sweep=nowhere",), "sweep=nowhere does not exist"),
        (("sweep=latest", "paths.outputs=."), "no sweep under"),
        ((), "sweep is required"),
    ],
)
def test_refused_in_one_line(overrides, part, command, tmp_path):
    done = command("gtex_vae.summarize", *overrides, cwd=tmp_path)
    assert done.code == 1
    assert part in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_is_no_sweep_and_a_metric_must_be_there(sweep, command):
    run = sorted(sweep.glob("0_*"))[0]
    done = command("gtex_vae.summarize", f"sweep={run}", cwd=sweep)
    assert "is not the folder of a sweep" in done.stderr
    done = command("gtex_vae.summarize", f"sweep={sweep}", "metric=val/los", cwd=sweep)
    assert "did you mean 'val/loss'" in done.stderr
