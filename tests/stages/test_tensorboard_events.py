"""The event files of a run are complete and in order, without duplicates."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

EPOCHS, STEPS = 4, 20
OFTEN = ("trainer.log_every_n_steps=1", "callbacks.figures.every_n_epochs=2")
SAVE = "gtex_vae.training.callbacks.checkpoints:AtomicCheckpointIO.save_checkpoint"


def events(run_dir: Path) -> EventAccumulator:
    """Everything in the event files of a run, nothing thinned out."""
    sizes = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return EventAccumulator(str(run_dir / "tensorboard"), size_guidance=sizes).Reload()


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of each scalar, apart from times."""
    found = events(run_dir)
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
        if tag != "train/samples_per_second"
    }


@pytest.fixture(scope="module")
def run_dir(train, tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("events")
    done = train(run_dir, *OFTEN)
    assert done.code == 0, done.stderr
    return run_dir


@pytest.fixture(scope="module")
def found(run_dir) -> EventAccumulator:
    return events(run_dir)


@pytest.mark.parametrize(
    "tag",
    ["loss", "nll_nats", "mse", "kl_nats", "samples_per_second", "beta", "mask_ratio", "learning_rate"],
)
def test_every_training_step_has_its_point(found, tag):
    points = found.Scalars(f"train/{tag}")
    assert [point.step for point in points] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("tag", ["loss", "mse", "r2", "kl_nats", "active_units"])
def test_every_validation_has_its_point_at_the_step_that_it_measured(found, tag):
    points = found.Scalars(f"val/{tag}")
    assert [point.step for point in points] == [STEPS // EPOCHS * (i + 1) for i in range(EPOCHS)]


def test_no_other_groups_of_curves(found):
    assert {tag.split("/")[0] for tag in found.Tags()["scalars"]} == {"train", "val", "test"}


def test_beta_rises_to_one_and_throughput_is_positive(found):
    beta = [point.value for point in found.Scalars("train/beta")]
    assert beta == sorted(beta)
    assert beta[0] == 0.0
    assert beta[-1] == 1.0
    assert min(point.value for point in found.Scalars("train/samples_per_second")) > 0.0


def test_kl_histogram_counts_every_dimension_and_sums_to_the_curve(found):
    histograms, curve = found.Histograms("val/kl_per_dimension"), found.Scalars("val/kl_nats")
    assert [h.step for h in histograms] == [point.step for point in curve]
    for histogram, point in zip(histograms, curve, strict=True):
        assert histogram.histogram_value.num == 8
        assert histogram.histogram_value.sum == pytest.approx(point.value, rel=1e-4)


@pytest.mark.parametrize("tag", ["val/latent_map", "val/reconstruction"])
def test_figures_at_intervals(found, tag):
    images = found.Images(tag)
    assert [image.step for image in images] == [10, 20]
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)
    assert min(min(image.width, image.height) for image in images) > 500


@pytest.mark.parametrize("tag", ["test/latent_map", "test/reconstruction"])
def test_final_figures_are_of_the_held_out_samples(found, tag):
    assert [image.step for image in found.Images(tag)] == [STEPS]


def test_evaluate_and_analyze_add_theirs_once_however_often_they_run(analyzed, command):
    """The figures of the report at the last step, and the metrics with their intervals as text."""
    for again in (False, True):
        if again:
            done = command("gtex_vae.evaluate", f"run={analyzed}", cwd=analyzed.parent)
            assert done.code == 0, done.stderr
        found = events(analyzed)
        drawn = {path.stem for path in (analyzed / "analysis" / "figures").glob("*.png")}
        shown = {
            tag.removeprefix("analysis/") for tag in found.Tags()["images"] if tag.startswith("analysis/")
        }
        assert shown == drawn
        (image,) = found.Images("analysis/differences")
        assert image.step == STEPS
        png = (analyzed / "analysis" / "figures" / "differences.png").read_bytes()
        assert image.encoded_image_string == png
        (event,) = found.Tensors("evaluation/metrics/text_summary")
        text = make_ndarray(event.tensor_proto).item().decode()
        assert "| reconstruction R2 |" in text and " to " in text
        assert event.step == STEPS
        assert len(list((analyzed / "tensorboard").glob("events.*.evaluate"))) == 1


def test_settings_once_with_the_final_metrics(run_dir, found):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    contents = found.summary_metadata
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG].plugin_data.content)
    start = metadata.parse_session_start_info_plugin_data(
        contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert metadata.SESSION_END_INFO_TAG in contents
    assert {info.name for info in experiment.hparam_infos} == set(start.hparams)
    assert start.hparams["model/latent_dim"].number_value == 8
    assert len(start.hparams) < 40
    assert not [name for name in start.hparams if name.startswith(("paths/", "logger/", "run"))]
    names = [info.name.tag for info in experiment.metric_infos]
    assert names[0] == "test/reconstruction/r2"
    assert "test/baseline/pca/reconstruction/r2" in names
    for name in names:
        (point,) = found.Scalars(name)
        assert (point.step, point.value) == (STEPS, pytest.approx(metrics[name.removeprefix("test/")]))
    written = yaml.safe_load((run_dir / "tensorboard" / "hparams.yaml").read_text())
    assert set(written) == set(start.hparams)


def test_overridden_settings_come_first_in_the_table(found):
    content = found.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    first = {
        info.name for info in metadata.parse_experiment_plugin_data(content).hparam_infos if info.differs
    }
    # those of the tests' small data set
    assert first == {
        "data/batch_size", "data/name", "model/hidden_dims", "model/latent_dim", "trainer/max_epochs",
        "trainer/precision",
    }  # fmt: skip


def test_table_of_all_metrics_as_text(run_dir, found):
    (event,) = found.Tensors("test/metrics/text_summary")
    table = make_ndarray(event.tensor_proto).item().decode()
    metrics = json.loads((run_dir / "metrics.json").read_text())
    pca = metrics["baseline/pca/reconstruction/r2"]
    assert f"| reconstruction/r2 | {metrics['reconstruction/r2']:.4f} | {pca:.4f} |" in table
    for key in metrics:
        if not key.startswith("baseline/"):
            assert f"| {key} |" in table


def test_projector_holds_the_test_split_of_the_exported_model(run_dir):
    folder = run_dir / "tensorboard" / f"{STEPS:05d}" / "test"
    header, *rows = (folder / "metadata.tsv").read_text().splitlines()
    splits = [line.split(",") for line in (run_dir / "splits.csv").read_text().splitlines()[1:]]
    donors = [line[1] for line in splits if line[2] == "test"]
    columns = header.split("\t")
    assert columns[0] == "tissue"
    assert [row.split("\t")[columns.index("donor")] for row in rows] == donors
    vectors = [line.split("\t") for line in (folder / "tensors.tsv").read_text().splitlines()]
    assert len(vectors) == len(donors)
    assert {len(vector) for vector in vectors} == {8}


def test_a_killed_and_resumed_run_shows_the_curves_of_an_uninterrupted_one(train, run_dir, tmp_path):
    resumed = tmp_path / "resumed"
    # while the third epoch's state is being saved: its events are written, but training goes on from the second
    how = ("callbacks.best=null", *OFTEN)
    done = train(resumed, *how, die=(SAVE, 3))
    assert done.code == -signal.SIGKILL
    before = curves(resumed)
    assert before["train/loss"][-1][0] == 15
    done = train(resumed, *how)
    assert done.code == 0, done.stderr
    assert len(list((resumed / "tensorboard").glob("events*"))) > 2

    expected, after = curves(run_dir), curves(resumed)
    for tag in expected:
        if not tag.startswith("test/"):  # the best model is another, as none was kept
            assert after[tag] == expected[tag], tag
    assert [image.step for image in events(resumed).Images("val/latent_map")] == [10, 20]
