"""LightningModule of contrastive alignment.

Shapes: ``n`` donors, ``a`` donor samples, ``s`` cell-type profiles, ``f`` features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gtex_vae.analysis.alignment.compare import pooled
from gtex_vae.analysis.metrics.retrieval import retrieval_metrics
from gtex_vae.config import build
from gtex_vae.data.loading.memory import Batch, BatchLoader
from gtex_vae.data.single_cell.donors import DonorCells
from gtex_vae.errors import ConfigError
from gtex_vae.functional.contrastive_losses import clamped_scale, similarity
from gtex_vae.functional.seeds import seed_generators, step_seed
from gtex_vae.models.aligner import Aligner

ROWS_AT_A_TIME = 2048
VAE = "aligner.encoder.vae."  # start of its weights' names


class DonorDataModule(LightningDataModule):
    """Batches of donors: their numbers, and their pseudobulk for error messages.

    Parameters
    ----------
    cells
        The data.
    batch_size
        Donors per step, negatives of each other; ``None``: all training donors.
    seed
        Seed of the order of batches.
    """

    def __init__(self, cells: DonorCells, *, batch_size: int | None, seed: int) -> None:
        super().__init__()
        self.cells, self.batch_size, self.seed = cells, batch_size, seed
        self._x_ng = torch.from_numpy(cells.x_ag[: len(cells.donors)])

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches of training donors."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> BatchLoader:
        """All validation donors in one batch, because retrieval compares all of them."""
        return self._loader("val", shuffle=False)

    def _loader(self, split: str, *, shuffle: bool) -> BatchLoader:
        rows = torch.from_numpy((self.cells.split_n == split).nonzero()[0])
        size = min(self.batch_size or len(rows), len(rows)) if shuffle else len(rows)
        return BatchLoader(
            self._x_ng, rows, batch_size=size, shuffle=shuffle, seed=self.seed, progress=self._progress
        )

    def _progress(self) -> tuple[int, int]:
        """Return finished epochs and batches, as in `gtex_vae.data.datamodule.ExpressionDataModule`."""
        if self.trainer is None:
            return 0, 0
        fit_loop = self.trainer.fit_loop
        epochs: Any = fit_loop.epoch_progress.current
        return epochs.processed, fit_loop.epoch_loop.batch_progress.current.ready

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the device."""
        return batch.to(device)


class AlignmentModule(LightningModule):
    """Trains an `Aligner`. All randomness of a step is a function of ``(seed, step)``.

    Parameters
    ----------
    aligner
        With a trained encoder.
    optimizer
        ``_target_`` and arguments.
    cells
        The data.
    donors_at_a_time
        Donors whose activations are in memory at a time, for steps with more donors than fit. Activations of the others
        are recomputed for the gradients, which are the same. ``None``: all donors of a step.
    seed
        Seed of every step.

    References
    ----------
    Gao et al. (2021), Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, for ``donors_at_a_time``.
    """

    def __init__(
        self,
        aligner: Aligner,
        optimizer: dict[str, Any],
        cells: DonorCells,
        *,
        donors_at_a_time: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if donors_at_a_time is not None and donors_at_a_time < 1:
            raise ConfigError(f"alignment.donors_at_a_time={donors_at_a_time} must be at least 1, or null")
        self.aligner, self.optimizer_config, self.seed = aligner, optimizer, seed
        self.donors_at_a_time = donors_at_a_time
        train = cells.split_n == "train"
        self._fit_encoder(cells, train)
        self.of_samples_af = self._features(cells.x_ag)
        self.of_profiles_sf = self._features(cells.x_sg)
        self.owner_a, self.owner_s, self.type_s = (
            torch.from_numpy(numbers) for numbers in (cells.owner_a, cells.owner_s, cells.type_s)
        )
        self.n_donors = len(cells.donors)
        train_n = torch.from_numpy(train).nonzero().squeeze(1)
        aligner.eval()
        with torch.no_grad():
            _, f_sf, owner_s, type_s, own_af, _ = self._gather(train_n)
            pooled_nd, _ = aligner.pool(aligner.encoder(f_sf, cells=True), owner_s, type_s, len(train_n))
            aligner.fit_centers(aligner.encoder(own_af), pooled_nd)
        aligner.train()

    def _fit_encoder(self, cells: DonorCells, train: np.ndarray) -> None:
        """Fit units and the initial path to training donors."""
        number_n, in_a = np.cumsum(train) - 1, train[cells.owner_a]
        self.aligner.encoder.fit_units(torch.from_numpy(cells.x_ag[: len(train)][train]))
        self.aligner.encoder.fit_path(
            torch.from_numpy(cells.x_ag[in_a]),
            torch.from_numpy(pooled(cells.x_sg, cells)[train].astype(np.float32)),
            torch.from_numpy(number_n[cells.owner_a[in_a]]),
            torch.from_numpy(cells.mixture_a[in_a]),
        )

    def _features(self, x_ng: Any) -> Tensor:
        """Compute the features of all rows once."""
        parts = torch.from_numpy(x_ng).split(ROWS_AT_A_TIME)
        return torch.cat([self.aligner.encoder.features(part) for part in parts])

    def on_fit_start(self) -> None:
        """Move the features to the device of the model."""
        for name in ("of_samples_af", "of_profiles_sf", "owner_a", "owner_s", "type_s"):
            setattr(self, name, getattr(self, name).to(self.device))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove the VAE, which is most of the weights and does not change."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith(VAE)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the VAE again."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer; only matrices have weight decay."""
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer = build(self.optimizer_config, under="torch.optim", params=groups)
        return optimizer

    def _gather(self, donor_n: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return all samples and profiles of some donors, and the donors' own samples."""
        position_n = torch.full((self.n_donors,), -1, device=donor_n.device)
        position_n[donor_n] = torch.arange(len(donor_n), device=donor_n.device)
        in_a, in_s = position_n[self.owner_a] >= 0, position_n[self.owner_s] >= 0
        return (
            self.of_samples_af[in_a],
            self.of_profiles_sf[in_s],
            position_n[self.owner_s[in_s]],
            self.type_s[in_s],
            self.of_samples_af[donor_n],
            position_n[self.owner_a[in_a]],
        )

    def project(self, donor_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return projections of all samples of some donors, projections of their cell types, and the samples' donors (0 to n - 1)."""
        step = self.donors_at_a_time
        if step is None or not self.training:
            return self._project(donor_n)
        parts = [checkpoint(self._project, part, use_reentrant=False) for part in donor_n.split(step)]
        u_ap, v_np = (torch.cat([part[side] for part in parts]) for side in (0, 1))
        return u_ap, v_np, torch.cat([step * number + part[2] for number, part in enumerate(parts)])

    def _project(self, donor_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `project` returns, for all donors at once."""
        f_af, f_sf, owner_s, type_s, _, owner_a = self._gather(donor_n)
        if self.training:
            kept_s = self.aligner.kept_types(owner_s, len(donor_n))
            f_sf, owner_s, type_s = f_sf[kept_s], owner_s[kept_s], type_s[kept_s]
        encoder = self.aligner.encoder
        u_ap = self.aligner.project_donors(encoder(f_af))
        return (
            u_ap,
            self.aligner.project_cells(encoder(f_sf, cells=True), owner_s, type_s, len(donor_n)),
            owner_a,
        )

    @torch.no_grad()
    def reciprocal_ranks(self, donor_n: Tensor) -> Tensor:
        """Reciprocal rank (n,) of each of some donors among them, the mean over its samples."""
        self.eval()
        u_ap, v_np, owner_a = self.project(donor_n)
        total_n, count_n = torch.zeros(2, len(donor_n), device=u_ap.device)
        total_n.index_add_(0, owner_a, _reciprocal_ranks(u_ap, v_np, owner_a))
        return total_n / count_n.index_add_(0, owner_a, torch.ones(len(owner_a), device=u_ap.device))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of donors: all their samples against all their cell types."""
        seed_generators(step_seed(self.seed, self.global_step, self.global_rank), self.device)
        loss = self.aligner.loss(*self.project(batch.row_n))
        temperature = 1.0 / clamped_scale(self.aligner.log_scale)
        values = {"train/loss": loss, "train/temperature": temperature}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch.row_n))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log retrieval among all validation donors, from their own samples; ``mrr_all`` also uses their mixtures.

        With few donors many epochs have equal retrieval; the mixtures add queries that distinguish them.
        """
        u_ap, v_np, owner_a = self.project(batch.row_n)
        own_af = self._gather(batch.row_n)[4]
        u_np = self.aligner.project_donors(self.aligner.encoder(own_af))
        figures = retrieval_metrics(similarity(u_np, v_np).cpu().numpy())
        loss = self.aligner.loss(u_np, v_np, torch.arange(len(u_np), device=u_np.device))
        values = {f"val/{key}": figures[key] for key in ("top1", "top5", "mrr", "foscttm")}
        values["val/mrr_all"] = float(_reciprocal_ranks(u_ap, v_np, owner_a).mean())
        self.log_dict({**values, "val/loss": float(loss)}, batch_size=1)


def _reciprocal_ranks(u_ap: Tensor, v_np: Tensor, owner_a: Tensor) -> Tensor:
    """Return the reciprocal rank (a,) of each sample's donor among all donors."""
    similarity_an = similarity(u_ap, v_np)
    return 1.0 / (1 + (similarity_an > similarity_an.gather(1, owner_a[:, None])).sum(1))
