"""Sizes of the model and of batches that fit a small cohort."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from gtex_vae.errors import ConfigError

log = logging.getLogger(__name__)

STEPS = 4  # per epoch, when the default batch does not fit
SMALLEST_BATCH = 8


def fit_to_cohort(
    settings: Mapping[str, Any],
    n_train: int,
    n_genes: int,
    *,
    processes: int = 1,
    stated: Collection[str] = (),
) -> dict[str, Any]:
    """Reduce default sizes that are too large for the training samples, with a line in the log.

    Parameters
    ----------
    settings
        Root keys of ``conf/train.yaml``.
    n_train, n_genes
        Number of training samples and genes.
    processes
        Number of processes, each with batches of its own.
    stated
        Keys that the user set; these are never changed.

    Returns
    -------
    dict
        The settings with a ``model.latent_dim`` of half the training samples, a ``model.n_components`` of all
        components, and a ``data.batch_size`` of a quarter of the training samples, each only if the configured value
        does not fit. The latent size of a model without ``n_components`` is not limited.

    Raises
    ------
    ConfigError
        A stated value does not fit; the message gives the largest value that does.
    """
    fitted = {name: dict(settings[name]) for name in ("model", "data")}
    changed = []
    for key, (largest, default) in size_limits(n_train, n_genes, processes).items():
        group, name = key.split(".")
        value = fitted[group].get(name)
        if value is None or value <= largest:
            continue
        if key == "model.latent_dim" and fitted["model"].get("n_components") is None:
            continue  # a model of genes may have more dimensions than the samples have components
        if key in stated:
            each = f" on each of {processes} processes" if processes > 1 and key == "data.batch_size" else ""
            raise ConfigError(
                f"{key}={value} is too large for {n_train} training samples x {n_genes} genes{each}: use {key}={largest} or less"
            )
        fitted[group][name] = default
        changed.append(f"{key}={default} instead of {value}")
    if changed:
        log.info("%d training samples: %s", n_train, ", ".join(changed))
    return {**settings, **fitted}


def size_limits(n_train: int, n_genes: int, processes: int = 1) -> dict[str, tuple[int, int]]:
    """Return the largest value of each key that depends on the cohort, and the value that replaces a larger default.

    >>> size_limits(21, 2000)
    {'model.latent_dim': (20, 10), 'model.n_components': (20, 20), 'data.batch_size': (21, 8)}
    """
    components, batch = max(1, min(n_train - 1, n_genes)), n_train // processes
    return {
        "model.latent_dim": (components, max(1, min(n_train // 2, components))),
        "model.n_components": (components, components),
        "data.batch_size": (batch, min(max(SMALLEST_BATCH, batch // STEPS), batch)),
    }
