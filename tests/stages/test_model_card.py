"""The model card agrees with the files of the run."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import yaml

from gtex_vae.analysis.report.model_card import model_card


def header_of(text: str) -> dict:
    start, header, rest = text.split("---\n", 2)
    assert start == "" and rest.startswith("\n# ")
    return yaml.safe_load(header)


def row_of(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_card_of_an_evaluated_run(analyzed):
    text = (analyzed / "model" / "README.md").read_text(encoding="utf-8")
    header = header_of(text)
    metrics = json.loads((analyzed / "evaluation" / "metrics.json").read_text())
    (entry,) = header["model-index"]
    (result,) = entry["results"]
    listed = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert result["dataset"] == {"type": "demo", "name": "demo", "split": "test"}
    assert listed["reconstruction R2"] == round(metrics["reconstruction/r2"], 4)
    assert header["library_name"] == "gtex-vae" and header["pipeline_tag"] == "feature-extraction"

    intervals = (
        pd.read_csv(analyzed / "evaluation" / "intervals.csv").fillna("").set_index(["metric", "minus"])
    )
    low, high = intervals.loc[("reconstruction/r2", "baseline/pca"), ["low", "high"]]
    own = intervals.loc[("reconstruction/r2", "")]
    assert row_of(text, "reconstruction R2") == [
        "reconstruction R2", f"{metrics['reconstruction/r2']:.3f}", f"{own['low']:.3f} to {own['high']:.3f}",
        f"{metrics['baseline/pca/reconstruction/r2']:.3f}",
        f"{metrics['reconstruction/r2'] - metrics['baseline/pca/reconstruction/r2']:+.3f}", f"{low:.3f} to {high:.3f}",
    ]  # fmt: skip
    splits = pd.read_csv(analyzed / "splits.csv")
    for part, rows in splits.groupby("split"):
        assert row_of(text, part) == [part, str(len(rows)), str(rows["donor"].nunique())]
    assert row_of(text, "latent_dim")[1] == "8"
    assert "No donor is in two splits." in text and "150 samples" in text and "simulate_gtex" in text
    assert "Not evaluated" not in text


def test_card_without_evaluation_says_so_and_names_shared_donors_and_sources_that_are_gone(
    analyzed, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(
        analyzed, run, ignore=shutil.ignore_patterns("evaluation", "analysis", "checkpoints", "tensorboard")
    )
    text = model_card(run)
    assert "Add intervals with" in text and "Not evaluated" in text
    assert row_of(text, "reconstruction R2")[2] == ""

    splits = pd.read_csv(run / "splits.csv")
    splits.loc[splits["split"].eq("test"), "donor"] = splits.loc[splits["split"].eq("train"), "donor"].iloc[0]
    splits.to_csv(run / "splits.csv", index=False)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["processed"] = str(tmp_path / "gone.h5ad")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    text = model_card(run)
    assert "1 donors are in training and test" in text and "no longer exists" in text
    header_of(text)
