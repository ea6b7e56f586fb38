"""TensorBoard figures: KL per dimension, reconstruction scatter, map of the latent space.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from gtex_vae.analysis.report.plots import latent_map, reconstruction_scatter
from gtex_vae.errors import ConfigError
from gtex_vae.models.vae import VAE
from gtex_vae.training.module import VAEModule

if TYPE_CHECKING:
    from gtex_vae.data.datamodule import ExpressionDataModule

PROJECTOR_SAMPLES = 5000  # more make the browser crawl


class Figures(Callback):
    """Draw validation samples every few epochs.

    Parameters
    ----------
    every_n_epochs
        Epochs between two sets of figures.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"callbacks.figures.every_n_epochs={every_n_epochs} must be at least 1")
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: VAEModule) -> None:  # type: ignore[override]
        """Draw, when it is time."""
        writer = tensorboard_writer(trainer)
        divided = pl_module.device_mesh is not None and not trainer.sanity_checking
        if writer is None and not divided:
            return
        step = trainer.global_step
        if writer is not None:
            writer.add_histogram("val/kl_per_dimension", pl_module.kl_d.cpu(), step)
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs and epoch != trainer.max_epochs:
            return
        # with parameters divided among processes all must take part, though one draws
        # as validation has it: steps towards the mode cannot be taken with divided parameters
        mu_nd, x_ng, x_hat_ng = _predict(pl_module.vae, trainer, "val", mode=False)
        if writer is None:
            return
        tissue = trainer.datamodule.annotations("val")["tissue"]  # type: ignore[attr-defined]
        writer.add_figure("val/latent_map", latent_map(mu_nd, tissue), step)
        writer.add_figure("val/reconstruction", reconstruction_scatter(x_ng, x_hat_ng), step)


def show_held_out(vae: VAE, trainer: Trainer) -> None:
    """Draw the held-out samples, and give the projector their embedding with their annotations.

    Parameters
    ----------
    vae
        The model that is exported.
    trainer
        After the training.
    """
    writer = tensorboard_writer(trainer)
    if writer is None:
        return
    mu_nd, x_ng, x_hat_ng = _predict(vae, trainer, "test", mode=True)
    obs, step = trainer.datamodule.annotations("test"), trainer.global_step  # type: ignore[attr-defined]
    writer.add_figure("test/latent_map", latent_map(mu_nd, obs["tissue"]), step)
    writer.add_figure("test/reconstruction", reconstruction_scatter(x_ng, x_hat_ng), step)
    columns = [c for c in ("tissue", "tissue_group", "donor", "sex", "age") if c in obs]
    labels = obs[columns].astype(str).to_numpy()
    rows = np.unique(np.linspace(0, len(mu_nd) - 1, PROJECTOR_SAMPLES).astype(int))
    writer.add_embedding(
        mu_nd[rows],
        labels[rows].tolist(),
        metadata_header=columns,
        tag="test",
        global_step=step,
    )


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer in the process that writes, if there is one."""
    if not trainer.is_global_zero or trainer.sanity_checking:
        return None
    return next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)


@torch.no_grad()
def _predict(
    vae: VAE, trainer: Trainer, split: str, *, mode: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embedding (without ``mode`` the encoders' means), standardized expression and its reconstruction for one split."""
    datamodule: ExpressionDataModule = trainer.datamodule  # type: ignore[attr-defined]
    training, device = vae.training, next(vae.parameters()).device
    vae.eval()
    x_ng = datamodule.expression(split)
    blocks = [vae.project(x.to(device)) for x in x_ng.split(1024)]
    infer = vae.infer if mode else vae.encode_features
    mu_nd = torch.cat([infer(x_nf)[0] for x_nf in blocks]).float()
    x_hat_ng = torch.empty(x_ng.shape)
    for z_nd, part_ng in zip(mu_nd.split(1024), x_hat_ng.split(1024), strict=True):
        part_ng.copy_(vae.decode(z_nd))
    vae.train(training)
    return mu_nd.cpu().numpy(), x_ng.numpy(), x_hat_ng.numpy()
