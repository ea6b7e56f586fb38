"""TensorBoard figures: KL per dimension, reconstruction scatter, map of the latent space.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from gtex_vae.analysis.report.plots import latent_map, reconstruction_scatter
from gtex_vae.data.rows import RowMatrix
from gtex_vae.errors import ConfigError
from gtex_vae.inference.predictors import batches
from gtex_vae.models.vae import VAE
from gtex_vae.training.module import VAEModule

if TYPE_CHECKING:
    from gtex_vae.data.datamodule import ExpressionDataModule

PROJECTOR_SAMPLES = 5000  # more slow the browser down


class Figures(Callback):
    """Draw the validation samples every few epochs.

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
        """Draw every ``every_n_epochs`` epochs and after the last one."""
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
        # If parameters are divided among processes, all of them must take part although one draws.
        datamodule: ExpressionDataModule = trainer.datamodule  # type: ignore[attr-defined]
        x_ng = datamodule.expression("val").numpy()
        mu_nd, x_hat_ng = predict(pl_module.vae, x_ng, datamodule.covariate_design("val"), mode=False)
        if writer is None:
            return
        writer.add_figure(
            "val/latent_map", latent_map(mu_nd, datamodule.annotations("val")["tissue"].tolist()), step
        )
        writer.add_figure("val/reconstruction", reconstruction_scatter(x_ng, x_hat_ng), step)


def log_held_out(vae: VAE, datamodule: ExpressionDataModule, trainer: Trainer) -> None:
    """Draw the held-out samples, and add their embedding with annotations to TensorBoard's projector.

    Parameters
    ----------
    vae
        The trained model.
    datamodule
        Data of the training.
    trainer
        After the training.
    """
    writer = tensorboard_writer(trainer)
    if writer is None:
        return
    obs, step = datamodule.annotations("test"), trainer.global_step
    x_ng = datamodule.expression("test").numpy()
    mu_nd, x_hat_ng = predict(vae, x_ng, datamodule.covariate_design("test"), mode=True)
    writer.add_figure("test/latent_map", latent_map(mu_nd, obs["tissue"].tolist()), step)
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
    """Return TensorBoard's writer; None in processes that do not write, and without TensorBoard."""
    if not trainer.is_global_zero or trainer.sanity_checking:
        return None
    return next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)


@torch.no_grad()
def predict(
    vae: VAE, x_ng: RowMatrix, c_nk: Tensor | None, *, mode: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the embedding (n, d) and the reconstruction (n, g) of samples.

    Parameters
    ----------
    vae
        On any device, in training or evaluation.
    x_ng
        Standardized expression.
    c_nk
        Design of the covariates, for a conditional model.
    mode
        Move the encoders' means to the posterior mode, as trained models do. Validation during training uses the means,
        and parameters divided among processes allow nothing else.
    """
    training, device = vae.training, next(vae.parameters()).device
    vae.eval()
    infer = vae.infer if mode else vae.encode_features
    z_nd = np.empty((len(x_ng), vae.latent_dim), np.float32)
    x_hat_ng = np.empty(x_ng.shape, np.float32)
    for rows, block_ng in batches(x_ng):
        x_nf = vae.project(torch.from_numpy(block_ng).to(device))
        known_nk = vae.complete(None if c_nk is None else c_nk[rows].to(device), x_nf)
        mu_nd = infer(x_nf, known_nk)[0]
        z_nd[rows] = mu_nd.float().cpu().numpy()
        x_hat_ng[rows] = vae.decode(mu_nd, known_nk).float().cpu().numpy()
    vae.train(training)
    return z_nd, x_hat_ng
