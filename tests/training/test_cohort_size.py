"""Sizes that follow a small cohort."""

from __future__ import annotations

import logging

import pytest

from gtex_vae.errors import ConfigError
from gtex_vae.training.cohort_size import fit_to_cohort

DEFAULTS = {"model": {"latent_dim": 64, "n_components": 1024}, "data": {"batch_size": 128}, "seed": 0}


def sizes(n_train: int, **options: object) -> tuple[int, int, int]:
    fitted = fit_to_cohort(DEFAULTS, n_train, 2000, **options)
    return fitted["model"]["latent_dim"], fitted["model"]["n_components"], fitted["data"]["batch_size"]


def test_a_large_cohort_keeps_the_defaults(caplog) -> None:
    caplog.set_level(logging.INFO)
    assert sizes(1025) == (64, 1024, 128)
    assert not caplog.text


@pytest.mark.parametrize(
    ("n_train", "expected"), [(21, (10, 20, 8)), (60, (30, 59, 15)), (73, (64, 72, 18)), (3, (1, 2, 3))]
)
def test_defaults_follow_a_small_cohort(n_train, expected, caplog) -> None:
    caplog.set_level(logging.INFO)
    assert sizes(n_train) == expected
    assert f"{n_train} training samples: " in caplog.text
    assert f"data.batch_size={expected[2]} instead of 128" in caplog.text
    assert DEFAULTS["data"]["batch_size"] == 128


def test_components_are_at_most_the_genes() -> None:
    assert fit_to_cohort(DEFAULTS, 500, 40)["model"] == {"latent_dim": 40, "n_components": 40}


def test_a_model_of_genes_may_have_as_many_dimensions_as_genes() -> None:
    model = {"latent_dim": 2000, "n_components": None}
    fitted = fit_to_cohort(DEFAULTS | {"model": model}, 80, 2000, stated={"model.latent_dim"})
    assert fitted["model"] == model


@pytest.mark.parametrize(
    ("key", "fits"), [("model.latent_dim", 20), ("model.n_components", 20), ("data.batch_size", 21)]
)
def test_a_stated_value_is_refused_with_the_value_that_fits(key, fits) -> None:
    with pytest.raises(
        ConfigError, match=rf"{key}=\d+ is too large for 21 training samples.*use {key}={fits} or less"
    ):
        sizes(21, stated={key})


def test_every_process_has_batches_of_its_own() -> None:
    assert sizes(100, processes=2)[2] == 12
    with pytest.raises(ConfigError, match=r"on each of 2 processes: use data.batch_size=50 or less"):
        sizes(100, processes=2, stated={"data.batch_size"})
