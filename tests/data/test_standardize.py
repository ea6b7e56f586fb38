"""Standardization: statistics of training rows only, equal to those of numpy in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gtex_vae.data.standardize import NORMAL_IQR, Standardizer
from gtex_vae.errors import ConfigError, DataError


def matrix(n: int = 60, g: int = 1300, seed: int = 0) -> np.ndarray:
    """Expression-like: a mean and spread of each gene's own; more genes than are fitted at a time."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(1, 9, g) + rng.uniform(0.2, 2, g) * rng.standard_normal((n, g))).astype(np.float32)


ROWS = np.arange(0, 60, 2)


@pytest.mark.parametrize("method", ["standard", "robust"])
def test_held_out_rows_have_no_say(method: Any) -> None:
    x_ng = matrix()
    fitted = Standardizer(1300, method=method).fit(x_ng, ROWS)
    changed_ng = x_ng.copy()
    changed_ng[1::2] = np.nan
    again = Standardizer(1300, method=method).fit(changed_ng, ROWS)
    assert torch.equal(fitted.center_g, again.center_g)
    assert torch.equal(fitted.scale_g, again.scale_g)
    # while training rows have
    changed_ng[::2] += 1.0
    moved = Standardizer(1300, method=method).fit(changed_ng, ROWS)
    torch.testing.assert_close(moved.center_g, fitted.center_g + 1.0)


def test_standard_is_numpys_mean_and_standard_deviation() -> None:
    x_ng = matrix()
    scaler = Standardizer(1300).fit(x_ng, ROWS)
    x = x_ng[ROWS].astype(np.float64)
    np.testing.assert_allclose(scaler.center_g.numpy(), x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scaler.scale_g.numpy(), x.std(0), rtol=1e-6)
    z_ng = scaler(torch.from_numpy(x_ng[ROWS]))
    assert z_ng.mean(0).abs().max() < 1e-5
    assert (z_ng.std(0, correction=0) - 1).abs().max() < 1e-5


def test_robust_is_median_and_interquartile_range() -> None:
    x_ng = matrix()
    scaler = Standardizer(1300, method="robust").fit(x_ng, ROWS)
    low, middle, high = np.quantile(x_ng[ROWS].astype(np.float64), (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose(scaler.center_g.numpy(), middle, rtol=1e-6)
    np.testing.assert_allclose(scaler.scale_g.numpy(), (high - low) / NORMAL_IQR, rtol=1e-6)


def test_both_methods_agree_on_gaussian_genes_and_robust_shrugs_off_outliers() -> None:
    x_ng = matrix(20_000, 4)
    plain, robust = (Standardizer(4, method=method).fit(x_ng) for method in ("standard", "robust"))  # type: ignore[arg-type]
    torch.testing.assert_close(plain.scale_g, robust.scale_g, rtol=0.03, atol=0)
    x_ng[:200] = 100.0
    plain_2, robust_2 = (Standardizer(4, method=method).fit(x_ng) for method in ("standard", "robust"))  # type: ignore[arg-type]
    assert (plain_2.scale_g > 3.0 * plain.scale_g).all()
    torch.testing.assert_close(robust_2.scale_g, robust.scale_g, rtol=0.05, atol=0)


def test_double_precision_where_single_loses_the_spread() -> None:
    """A gene at 10,000 that varies by 0.1: the mean of squares less the square of the mean is noise in float32."""
    x_ng = (10_000 + 0.1 * np.random.default_rng(0).standard_normal((4000, 1))).astype(np.float32)
    scaler = Standardizer(1).fit(x_ng)
    np.testing.assert_allclose(scaler.scale_g.numpy(), x_ng.astype(np.float64).std(0), rtol=1e-6)


@pytest.mark.parametrize("method", ["standard", "robust"])
def test_constant_genes_become_zero_and_are_reported(method: Any) -> None:
    x_ng = matrix(30, 6)
    x_ng[:, 2] = 0.1  # not exact in binary
    x_ng[:, 4] = 0.0
    scaler = Standardizer(6, method=method).fit(x_ng)
    assert scaler.constant.tolist() == [2, 4]
    z_ng = scaler(torch.from_numpy(x_ng))
    assert z_ng[:, [2, 4]].abs().max() < 1e-6
    assert scaler.scale_g[[2, 4]].tolist() == [1.0, 1.0]
    # other data shows its distance in expression units
    other = torch.from_numpy(x_ng[:1]).clone()
    other[0, 4] = 3.0
    assert float(scaler(other)[0, 4]) == 3.0


def test_robust_falls_back_to_the_standard_deviation_where_most_samples_are_silent() -> None:
    x_ng = np.zeros((40, 1), dtype=np.float32)
    x_ng[:5] = 4.0
    scaler = Standardizer(1, method="robust").fit(x_ng)
    assert float(scaler.center_g) == 0.0
    assert float(scaler.scale_g) == pytest.approx(x_ng.std(), rel=1e-6)


def test_genes_that_hardly_vary_get_the_least_scale() -> None:
    x_ng = matrix(30, 2)
    x_ng[:, 0] = 3.0 + 0.001 * np.arange(30)
    assert float(Standardizer(2).fit(x_ng).scale_g[0]) == pytest.approx(0.05)
    assert float(Standardizer(2, min_scale=0.0).fit(x_ng).scale_g[0]) == pytest.approx(
        x_ng[:, 0].std(), rel=1e-3
    )
    assert len(Standardizer(2).fit(x_ng).constant) == 0


def test_clip_limits_both_sides_and_the_default_none() -> None:
    scaler = Standardizer(1, clip=2.0).fit(np.float32([[0.0], [2.0]]))
    values = torch.tensor([[-50.0], [1.5], [50.0]])
    assert scaler(values).flatten().tolist() == [-2.0, 0.5, 2.0]
    scaler.clip = None
    assert scaler(values).flatten().tolist() == [-51.0, 0.5, 49.0]


@given(
    x_ng=arrays(np.float32, (12, 3), elements=st.floats(0, 20, width=32)),
    method=st.sampled_from(["standard", "robust"]),
)
def test_inverse_undoes_it(x_ng: np.ndarray, method: Any) -> None:
    scaler = Standardizer(3, method=method).fit(x_ng)
    x = torch.from_numpy(x_ng)
    torch.testing.assert_close(scaler.inverse(scaler(x)), x, atol=1e-4, rtol=1e-5)


@given(shift=st.floats(-5, 5), factor=st.floats(0.5, 4))
def test_it_does_not_depend_on_origin_and_unit(shift: float, factor: float) -> None:
    x_ng = matrix(30, 5).astype(np.float64)
    first = Standardizer(5, min_scale=0.0).fit(x_ng).double()
    second = Standardizer(5, min_scale=0.0).fit(shift + factor * x_ng).double()
    difference = first(torch.from_numpy(x_ng)) - second(torch.from_numpy(shift + factor * x_ng))
    assert difference.abs().max() < 1e-4


def test_in_place_on_a_matrix_is_the_same_as_on_a_tensor_without_a_copy() -> None:
    x_ng = matrix(2500, 7)
    scaler = Standardizer(7, clip=1.0).fit(x_ng)
    expected = scaler(torch.from_numpy(x_ng.copy()))
    result = scaler.apply_(x_ng)
    assert result is x_ng
    assert torch.equal(torch.from_numpy(x_ng), expected)


@pytest.mark.parametrize("method", ["standard", "robust"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_name_the_gene(method: Any, bad: float) -> None:
    x_ng = matrix(60, 700)
    x_ng[4, 640] = bad
    with pytest.raises(DataError, match=r"NaN or infinite expression in gene column 640"):
        Standardizer(700, method=method).fit(x_ng, ROWS)
    x_ng[[4, 5]] = x_ng[[5, 4]]  # among the held-out rows it is none of its business
    Standardizer(700, method=method).fit(x_ng, ROWS)


def test_statistics_travel_with_the_state() -> None:
    x_ng = matrix(30, 5)
    scaler = Standardizer(5, method="robust", clip=3.0, min_scale=0.1).fit(x_ng)
    other = Standardizer(5, **scaler.settings)
    other.load_state_dict(scaler.state_dict())
    assert torch.equal(other(torch.from_numpy(x_ng)), scaler(torch.from_numpy(x_ng)))
    assert scaler.settings == {"method": "robust", "clip": 3.0, "min_scale": 0.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_scale": -0.1}, "data.min_scale=-0.1"),
        ({"clip": 0.0}, "data.clip=0.0"),
        ({"clip": -1.0}, "data.clip"),
    ],
)
def test_impossible_values_name_their_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Standardizer(3, **arguments)
