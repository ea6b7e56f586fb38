"""Warm start: a VAE that starts from the weights of a trained one.

Shapes: ``g`` genes, ``f`` coordinates in a basis.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.vae import VAE
from gtex_vae.runs.directory import find_model

log = logging.getLogger(__name__)

FREE = (
    "dropout",
    "decoder_dropout",
    "mode_steps",
)  # settings of a model that do not change its weights' shapes
MIN_OVERLAP = 0.5  # of the genes


def find_pretrained(settings: Mapping[str, Any]) -> TrainedModel | None:
    """Load the model of ``pretrained=``; None if the training starts from a PCA.

    Raises
    ------
    RunError
        There is no such model.
    """
    if settings.get("pretrained") is None:
        return None
    try:
        folder = find_model(str(settings["pretrained"]), Path(settings["paths"]["outputs"]))
        return TrainedModel.load(folder)
    except RunError as error:
        raise RunError(str(error).replace("run=", "pretrained=", 1)) from error


def check_data(model: TrainedModel | None, datamodule: ExpressionDataModule) -> None:
    """Refuse a trained model that cannot be used for the data.

    Raises
    ------
    ConfigError
        Covariates, unit or genes do not fit.
    """
    if model is None:
        return
    where = f"pretrained={model.origin}"
    if model.covariates is not None or datamodule.conditions is not None:
        raise ConfigError(
            f"{where}: a conditional model cannot start from trained weights; leave out pretrained="
        )
    if model.unit != datamodule.unit:
        raise ConfigError(f"{where} was trained on {model.unit}, but the data is {datamodule.unit}")
    genes = datamodule.genes["ids"]
    common = len(set(genes) & set(model.gene_ids))
    if model.vae.basis_fg is not None and not common == len(genes) == len(model.gene_ids):
        raise ConfigError(
            f"{where} works in a basis of its {len(model.gene_ids)} genes, of which the data's {len(genes)} genes contain "
            f"{common}: give data with the same genes, or a model that was trained with model.n_components=null"
        )
    if common < MIN_OVERLAP * len(genes):
        raise ConfigError(f"{where} has only {common} of the data's {len(genes)} genes")


def with_architecture(
    settings: Mapping[str, Any], model: TrainedModel | None, stated: Collection[str]
) -> dict[str, Any]:
    """Give a config the architecture of a trained model.

    Parameters
    ----------
    settings
        Root keys of ``conf/train.yaml``.
    model
        The trained model, if any.
    stated
        Keys that the user set; if they differ from the trained model's they are refused.

    Raises
    ------
    ConfigError
        A stated value differs.
    """
    if model is None:
        return dict(settings)
    fixed = {key: value for key, value in model.architecture.items() if key not in FREE}
    for key, value in fixed.items():
        if f"model.{key}" in stated and settings["model"].get(key) != value:
            raise ConfigError(
                f"model.{key}={settings['model'].get(key)} differs from {value} of pretrained={settings['pretrained']}: "
                f"leave out model.{key}="
            )
    return {**settings, "model": {**settings["model"], **fixed}}


@torch.no_grad()
def load_weights(vae: VAE, genes: Sequence[str], model: TrainedModel) -> None:
    """Copy the weights of a trained model, gene by gene; genes that it does not have keep their initial weights.

    Parameters
    ----------
    vae
        With the architecture of the trained model.
    genes
        Its gene ids.
    model
        The trained model.
    """
    position = {gene: at for at, gene in enumerate(model.gene_ids)}
    own = torch.tensor([at for at, gene in enumerate(genes) if gene in position])
    theirs = torch.tensor([position[gene] for gene in genes if gene in position])
    weights, axes = vae.state_dict(), gene_axes(model.architecture)
    for name, value in model.vae.state_dict().items():
        axis = axes.get(name)
        if axis is None:
            weights[name].copy_(value)
        else:
            weights[name].index_copy_(axis, own, value.index_select(axis, theirs))
    log.info("starting from the weights of %s, for %d of %d genes", model.origin, len(own), len(genes))


def gene_axes(architecture: Mapping[str, Any]) -> dict[str, int]:
    """Return the axis of genes of every tensor that has one: the axis that grows with the number of genes."""
    n_genes = 1 + max(architecture["latent_dim"], architecture.get("n_components") or 0)
    with torch.device("meta"):
        fewer, more = (VAE(n, **architecture).state_dict() for n in (n_genes, n_genes + 1))
    return {
        name: next(axis for axis, size in enumerate(value.shape) if size != more[name].shape[axis])
        for name, value in fewer.items()
        if value.shape != more[name].shape
    }
