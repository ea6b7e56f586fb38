"""Comparison of alignments: settings, composition, intervals over donors."""

from __future__ import annotations

import numpy as np
import pytest

from gtex_vae.analysis.alignment.compare import BASELINES, compare, without_composition
from gtex_vae.analysis.metrics.bootstrap import Interval
from gtex_vae.analysis.report.alignment_figures import SETTINGS, found_within, top1_bars
from gtex_vae.analysis.report.alignment_page import composition, retrieval_table, summary
from gtex_vae.data.single_cell.donors import DonorCells

N, C, G = 90, 3, 8


@pytest.fixture(scope="module")
def cells() -> DonorCells:
    rng = np.random.default_rng(0)
    empty = np.zeros((0, G), np.float32)
    return DonorCells(
        donors=[f"d{i}" for i in range(N)], cell_types=["a", "b", "c"], x_ag=empty, x_sg=empty,
        owner_a=np.tile(np.arange(N), 2), mixture_a=np.repeat([0, 1], N), owner_s=np.arange(N),
        type_s=np.zeros(N, int), proportion_nc=rng.dirichlet(np.ones(C), N),
        split_n=np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 40), report={},
    )  # fmt: skip


def views(cells: DonorCells) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make a model that identifies donors, one that depends on composition only, and two random ones."""
    rng = np.random.default_rng(1)
    donor = rng.standard_normal((N, G))
    shares = np.sqrt(cells.proportion_nc) @ rng.standard_normal((C, G))

    def view(
        own: np.ndarray, mixed: np.ndarray, of_cells: np.ndarray, noise: float
    ) -> tuple[np.ndarray, np.ndarray]:
        bulk = np.concatenate([own, mixed])
        return tuple(side + noise * rng.standard_normal(side.shape) for side in (bulk, of_cells))

    nothing = rng.standard_normal((4, N, G))
    return {
        "": view(donor + 0.3 * shares, donor, donor + 0.3 * shares, 0.2),
        BASELINES[0]: view(shares, nothing[0], shares, 0.01),
        BASELINES[1]: view(*nothing[1:], 0.0),
        BASELINES[2]: view(donor, donor, donor, 1.0),
    }


@pytest.fixture(scope="module")
def found(cells):
    return compare(views(cells), cells)


def test_every_setting_has_figures_of_every_method_with_chance(found) -> None:
    for setting in SETTINGS:
        for prefix in ("", *BASELINES):
            for key in (
                "top1",
                "top5",
                "mrr",
                "median_rank",
                "foscttm",
                "chance_top1",
                "top1_low",
                "top1_high",
            ):
                assert np.isfinite(found.metrics[f"{prefix}contrastive/{setting}{key}"])
    assert found.metrics["contrastive/chance_top1"] == 1 / 40
    assert found.metrics["contrastive/matched/candidates"] == pytest.approx(21, abs=3)


def test_what_composition_alone_gives_is_seen_to_be_composition(found) -> None:
    def top1(setting: str, prefix: str = "") -> float:
        return found.metrics[f"{prefix}contrastive/{setting}top1"]

    composition_only = BASELINES[0]
    assert top1("", composition_only) > 0.7
    assert top1("same_composition/", composition_only) < 0.15
    assert top1("without_composition/", composition_only) < 0.3
    assert min(top1(setting) for setting in SETTINGS) > 0.8


def test_intervals_are_of_the_figures_and_paired(found) -> None:
    table = found.intervals
    for (metric, minus), row in table.iterrows():
        difference = found.metrics[metric] - (found.metrics[f"{minus}/{metric}"] if minus else 0.0)
        assert row["value"] == pytest.approx(difference, abs=1e-9)
        assert row["low"] <= row["value"] <= row["high"]
    assert table.loc[("contrastive/top1", "baseline/pca"), "low"] > 0.3


def test_a_linear_function_of_composition_leaves_nothing(cells) -> None:
    train = cells.split_n == "train"
    z = np.sqrt(cells.proportion_nc) @ np.arange(12.0).reshape(3, 4) + 7.0
    assert np.abs(without_composition(z, cells.proportion_nc, train)).max() < 1e-9


def test_few_donors_have_fewer_settings(cells) -> None:
    few = DonorCells(**{**vars(cells), "split_n": np.array(["train"] * 5 + ["val"] * 75 + ["test"] * 10)})
    metrics = compare(views(cells), few).metrics
    assert "contrastive/top1" in metrics and "contrastive/same_composition/top1" in metrics
    assert not any("matched" in key or "without" in key for key in metrics)
    assert "Too few donors" in retrieval_table(metrics, "matched/")


def test_card_says_what_the_figures_say(found) -> None:
    intervals = {key: Interval(*row) for key, row in found.intervals.T.to_dict("list").items()}
    text = summary(found.metrics, intervals, len(found.ranks))
    assert f"{found.metrics['contrastive/top1']:.0%}" in text
    assert "chance is 2.5%" in text and "better" in text
    assert composition(found.metrics, intervals).count("<li") == 9
    bars = top1_bars(found.metrics).axes[0]
    assert len(bars.patches) == 4 * len(SETTINGS)
    assert bars.patches[0].get_height() == pytest.approx(found.metrics["contrastive/top1"])
    line = found_within(found.ranks).axes[0].lines[0]
    assert line.get_ydata()[0] == pytest.approx(found.metrics["contrastive/top1"])
    assert line.get_ydata()[-1] == 1.0
