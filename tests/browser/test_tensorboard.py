"""TensorBoard of two runs: answers of its server, and its pages in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from webdriver import call, wait_for

pytestmark = pytest.mark.browser


def squeeze(text: str) -> str:
    """Remove blanks, because pages split long tags into several elements."""
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def outputs(train, tmp_path_factory) -> Path:
    """Run a sweep over two values of dropout."""
    outputs = tmp_path_factory.mktemp("outputs")
    how = (f"paths.outputs={outputs}", "callbacks.figures.every_n_epochs=2")
    done = train(None, *how, "model.dropout=0.1,0.2", "-m")
    assert done.code == 0, done.stderr
    return outputs


@pytest.fixture(scope="module")
def site(outputs, tmp_path_factory) -> Iterator[str]:
    """Start TensorBoard on a free port and yield its address."""
    log = tmp_path_factory.mktemp("tensorboard") / "log"
    line = ("-m", "tensorboard.main", "--logdir", str(outputs), "--host", "127.0.0.1", "--port", "0")
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, *line], stdout=stream, stderr=stream, text=True)
    try:
        address = wait_for(process, log, r"(http://127\.0\.0\.1:\d+)/")
        for _ in range(300):
            if len(call(f"{address}/data/runs")) == 2:
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_runs_are_named_by_what_was_swept(site):
    runs = call(f"{site}/data/runs")
    assert len(runs) == 2
    for number, (run, dropout) in enumerate(zip(runs, ("0.1", "0.2"), strict=True)):
        assert re.fullmatch(rf"train/sweeps/[\d_-]+/{number}_.*model\.dropout-{dropout}_.*/tensorboard", run)


def test_every_run_has_the_curves(site):
    tags = call(f"{site}/data/plugin/scalars/tags")
    assert len(tags) == 2
    for run, found in tags.items():
        assert {"train/loss", "train/beta", "val/loss", "val/active_units", "test/reconstruction/r2"} <= set(
            found
        )
        query = urllib.parse.urlencode({"run": run, "tag": "val/loss"})
        points = call(f"{site}/data/plugin/scalars/scalars?{query}")
        assert [step for _, step, _ in points] == [5, 10, 15, 20]


def test_hparams_compare_the_runs_by_their_final_metrics(site, outputs):
    base = f"{site}/data/plugin/hparams"
    experiment = call(f"{base}/experiment", {"experimentName": ""})
    assert "model/dropout" in [info["name"] for info in experiment["hparamInfos"] if info.get("differs")]
    metrics_shown = [info["name"]["tag"] for info in experiment["metricInfos"]]
    columns = [{"metric": {"tag": tag, "group": ""}, "includeInResult": True} for tag in metrics_shown]
    columns.append({"hparam": "model/dropout", "includeInResult": True})
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    order = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": statuses, "colParams": columns}
    groups = call(f"{base}/session_groups", order)["sessionGroups"]
    assert [group["hparams"]["model/dropout"] for group in groups] == [0.1, 0.2]
    for group in groups:
        (session,) = group["sessions"]
        assert session["status"] == "STATUS_SUCCESS"
        found = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        name = session["name"].removesuffix("/tensorboard")
        metrics = json.loads((outputs / name / "metrics.json").read_text())
        assert set(metrics_shown) == set(found)
        for tag, value in found.items():
            assert value == pytest.approx(metrics[tag.removeprefix("test/")], rel=1e-5)


def test_projector_serves_vectors_with_tissue_and_donor(site):
    base = f"{site}/data/plugin/projector"
    for run in call(f"{base}/runs"):
        (tensor,) = call(f"{base}/info?" + urllib.parse.urlencode({"run": run}))["embeddings"]
        query = urllib.parse.urlencode({"run": run, "name": tensor["tensorName"]})
        with urllib.request.urlopen(f"{base}/metadata?{query}", timeout=60) as answer:
            header, *rows = answer.read().decode().splitlines()
        assert {"tissue", "donor"} <= set(header.split("\t"))
        rows_d = tensor["tensorShape"]
        with urllib.request.urlopen(f"{base}/tensor?{query}", timeout=60) as answer:
            assert len(answer.read()) == 4 * len(rows) * rows_d[1]


PAGES = {
    "timeseries": (("train/loss", "train/beta", "model.dropout-0.2"), 0),
    "images": (
        ("val/latent_map", "val/reconstruction", "test/latent_map", "test/reconstruction", "step 20"),
        4,
    ),
    "histograms": (("val/kl_per_dimension",), 0),
    "text": (("held-out donors", "PCA", "reconstruction/r2"), 0),
    "hparams": (("model/dropout", "test/reconstruction/r2", "0.10000", "0.20000"), 0),
    "projector": (("test:00020", "tissue", "Points: 45", "Dimension: 8"), 0),
}


@pytest.mark.parametrize("page", PAGES)
def test_page_is_drawn_without_errors(browser, site, page, tmp_path):
    texts, pictures = PAGES[page]
    browser.open(f"{site}/?tagFilter=train#{page}" if page == "timeseries" else f"{site}/#{page}")
    missing, seen = list(texts), 0
    for _ in range(150):
        text, seen = browser.look()
        missing = [wanted for wanted in texts if squeeze(wanted) not in squeeze(text)]
        if not missing and seen >= pictures:
            break
        time.sleep(0.2)
    browser.picture(tmp_path / f"{page}.png")
    assert not missing, f"{missing} not in {text[:2000]}; see {tmp_path / page}.png"
    assert seen >= pictures, tmp_path / f"{page}.png"
    assert (tmp_path / f"{page}.png").stat().st_size > 20_000
    assert browser.errors() == []
