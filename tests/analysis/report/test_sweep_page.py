from __future__ import annotations

import pytest

from gtex_vae.analysis.evaluation.seed_stability import (
    setting_of,
)
from gtex_vae.analysis.report.sweep_page import (
    best_run,
    headline,
    metrics_of,
    sweep_page,
    swept_keys,
    value_of,
)
from gtex_vae.runs.sweep import SweepRun

RUNS = [
    SweepRun("0_a", "finished", "", {"model.latent_dim": "8", "seed": "1", "x": "y"}, {"reconstruction/r2": 0.7, "val/loss": 1.0}),
    SweepRun("1_b", "finished", "", {"model.latent_dim": "64", "seed": "1", "x": "y"}, {"reconstruction/r2": 0.8, "val/loss": 1.1}),
    SweepRun("2_c", "failed", "it broke", {"model.latent_dim": "8", "seed": "2", "x": "y"}),
    SweepRun("3_d", "pruned", "too bad", {"model.latent_dim": "8", "seed": "3", "x": "y"}, {"val/loss": 0.1}),
]  # fmt: skip


def test_best_is_of_the_finished_runs_in_the_metrics_own_direction():
    assert best_run(RUNS, "reconstruction/r2") is RUNS[1]
    assert best_run(RUNS, "val/loss") is RUNS[0]
    assert best_run(RUNS, "nothing") is None
    assert best_run([], None) is None


def test_what_was_swept():
    assert swept_keys(RUNS) == ["model.latent_dim"]
    assert setting_of(RUNS[1], RUNS) == "model.latent_dim=64"
    assert setting_of(RUNS[0], RUNS) == setting_of(RUNS[2], RUNS)
    assert metrics_of(RUNS) == ["reconstruction/r2", "val/loss"]


def test_headline():
    text = headline(RUNS, "reconstruction/r2")
    assert text.startswith("4 runs: 2 finished, 1 failed, 1 pruned. Best by reconstruction/r2: 0.8000, run 1")
    assert "model.latent_dim=64 seed=1" in text
    assert headline(RUNS[2:3], None) == "1 runs: 1 failed."


@pytest.mark.parametrize(
    ("text", "value"),
    [("64", 64), ("-3", -3), ("0.5", 0.5), ("1e-4", 1e-4), (".5", 0.5), ("true", "true"), ("null", "null"), ("[512]", "[512]"),
     ("", ""), ("1_000", "1_000"), ("nan", "nan"), ("inf", "inf")],
)  # fmt: skip
def test_values_of_overrides(text, value):
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


def test_what_runs_say_cannot_break_the_page():
    nasty = SweepRun("0", "failed", "</script><b>{{js}}", {"a": "<i>", "seed": "1"}, {"m<": None})
    page = sweep_page(
        "</title>{{css}}", [nasty, SweepRun("1", "finished", "", {"a": "2", "seed": "1"}, {"m<": 1.0})]
    )
    assert "</script><b>" not in page
    assert "<title>&lt;/title&gt;{{css}}" in page
