"""LightningModule of a VAE: training step, validation step and their reports.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions, ``k``
columns of the covariates' design.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

from gtex_vae.config import build
from gtex_vae.data.covariates import Covariates
from gtex_vae.data.loading.memory import Batch
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.functional.masking import draw_observed, hide
from gtex_vae.functional.seeds import seed_generators, step_seed
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.contrastive import ContrastiveTerm
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAE
from gtex_vae.training.devices import shard
from gtex_vae.training.learning_rate import step_on_metrics
from gtex_vae.training.loss import StepKind, elbo_terms, features
from gtex_vae.training.optimization import OptimizedModule
from gtex_vae.training.step_report import StepReport
from gtex_vae.training.validation import (
    CONTRAST_STREAM,
    SAMPLE_STREAM,
    elbo_sums,
    imputation_sums,
    validation_figures,
    validation_seed,
)


class VAEModule(OptimizedModule):
    """LightningModule that trains a `VAE` on standardized expression.

    All arguments are plain, so that checkpoints contain only dicts, lists, numbers, strings and tensors and load with
    ``weights_only=True``. Callbacks write ``beta``, ``capacity`` and ``mask_ratio`` before each batch. All randomness of
    a step is a function of ``(seed, step, rank)``.

    Parameters
    ----------
    model
        Arguments of `VAE`, without ``n_genes``.
    objective
        Arguments of `Objective`.
    optimizer
        ``_target_`` and arguments of the optimizer.
    learning_rate
        ``_target_`` and arguments of the learning-rate schedule, or ``None``.
    genes
        ``ids`` and ``names`` of the genes, in order.
    standardize
        ``method`` and ``clip`` of the `Standardizer`.
    unit
        Unit of the expression before standardizing.
    seed
        Seed of the initial weights (through the global generator) and of every step.
    compile
        Compile the model with ``torch.compile``.
    contrastive
        ``_target_`` and arguments of a `ContrastiveTerm`, without ``latent_dim``, that is added to the ELBO.
    covariates
        Columns of `Covariates`, for a conditional model.

    Attributes
    ----------
    beta, capacity
        Weight of the KL and its target in nats (``None``: no target).
    mask_ratio
        Fraction of the input to hide in this batch.
    kl_d
        KL per latent dimension in the last validation, nats.
    """

    variable_k: Tensor
    kl_d: Tensor

    def __init__(
        self,
        model: dict[str, Any],
        objective: dict[str, Any],
        optimizer: dict[str, Any],
        learning_rate: dict[str, Any] | None,
        *,
        genes: dict[str, list[str]],
        standardize: dict[str, Any],
        unit: str,
        seed: int = 0,
        compile: bool = False,
        contrastive: dict[str, Any] | None = None,
        covariates: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer, learning_rate)
        self.save_hyperparameters(logger=False)
        n_genes = len(genes["ids"])
        self.covariates = None if covariates is None else Covariates(covariates)
        n_covariates = 0 if self.covariates is None else sum(self.covariates.widths)
        self.vae: VAE = build(model, under="gtex_vae.models", n_genes=n_genes, n_covariates=n_covariates)
        if self.covariates is not None:
            self.vae.unknown_k.copy_(torch.from_numpy(self.covariates.unknown_k))
            self.vae.flag_k.copy_(torch.from_numpy(self.covariates.flag_k))
            widths = torch.tensor(self.covariates.widths)
            variable_k = torch.arange(len(widths)).repeat_interleave(widths)
            self.register_buffer("variable_k", variable_k, persistent=False)
        self.scaler = Standardizer(n_genes, **standardize)
        self.objective: Objective = build(objective, under="gtex_vae.models")
        if self.vae.basis_fg is not None and self.objective.hidden_share is not None:
            raise ConfigError("objective.hidden_share weighs genes: set model.n_components=null")
        self.contrastive: ContrastiveTerm | None = None
        if contrastive is not None:
            self.contrastive = build(contrastive, under="gtex_vae.models", latent_dim=self.vae.latent_dim)
        self.seed = seed
        self.beta, self.mask_ratio = 1.0, 0.0
        self.capacity: float | None = None
        # A bound method, because a module would be a second child with every weight twice in the state dict;
        # __call__ instead of forward runs the hooks of the layers.
        self._run_vae = torch.compile(self.vae.forward) if compile else self.vae.__call__
        self._report = StepReport()

    def configure_model(self) -> None:
        """Divide the parameters among the processes if the strategy says so."""
        if self.device_mesh is not None:
            shard(self.vae, self.device_mesh["data_parallel"])

    def needs_genes(self, callbacks: Iterable[Callback]) -> bool:
        """Return True if a training step reads genes: for contrastive views, or because a callback hides some."""
        views = self.contrastive is not None and self.contrastive.views
        return views or any(getattr(callback, "needs_genes", False) for callback in callbacks)

    @property
    def batches_seen(self) -> int:
        """Number of batches so far, which randomness depends on; restored from a checkpoint."""
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def covariates_of(self, batch: Batch) -> Tensor | None:
        """Return the covariates' design (n, k) of a batch; None for a model without covariates.

        During training each covariate is dropped with probability u^4, u ~ U(0, 1) per sample (20 % on average,
        sometimes all), so that the model works without them.
        """
        c_nk = batch.c_nk
        if self.covariates is None or c_nk is None or not self.training:
            return c_nk
        share_n = torch.rand(len(c_nk), 1, device=c_nk.device) ** 4
        dropped_nv = torch.rand(len(c_nk), len(self.covariates.widths), device=c_nk.device) < share_n
        assert self.vae.unknown_k is not None
        return torch.where(dropped_nv.index_select(1, self.variable_k), self.vae.unknown_k, c_nk)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; a captured step computes the gradients too."""
        seed_generators(step_seed(self.seed, self.batches_seen, self.global_rank), self.device)
        kind = StepKind(None, self.mask_ratio > 0.0, self.capacity is not None)
        numbers = self.beta, self.capacity or 0.0, self.mask_ratio
        if self._captured is None:
            loss, figures_k = self._loss(batch, *numbers, kind)
        else:
            kind = kind._replace(partner=self.vae.draw_partner())
            figures_k = self._captured(batch, numbers, kind)
            loss = figures_k[0]
        self._report.add(figures_k)
        return loss

    def _loss(
        self,
        batch: Batch,
        beta: float | Tensor,
        capacity: float | Tensor,
        mask_ratio: float | Tensor,
        kind: StepKind,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of one batch and its figures (k,), in the order of `gtex_vae.training.step_report.FIGURES`."""
        x_nf, outside_n = features(self.vae, batch)
        input_nf, observed_ng = x_nf, None
        if kind.masked:
            observed_ng = draw_observed(batch.x_nf, mask_ratio)
            input_nf = self.vae.project(hide(batch.x_nf, observed_ng))
        output = self._run_vae(input_nf, self.covariates_of(batch), kind.partner)
        terms = elbo_terms(
            self.vae, self.objective, output, x_nf,
            beta=beta, capacity=capacity if kind.capped else None, observed_ng=observed_ng, outside_n=outside_n,
            size_n=batch.size_n,
        )  # fmt: skip
        figures = [terms.loss, terms.nll_nats, terms.mse, terms.kl_d.sum()]
        if self.contrastive is not None:
            mu_nd = output.mu_nd.unflatten(0, (len(self.vae.encoders), -1)).mean(0)
            contrast = self.contrastive(self.vae, batch.x_nf, mu_nd, batch.row_n)
            figures[0] = self.contrastive.elbo_weight * terms.loss + self.contrastive.weight * contrast
            figures.append(contrast)
        return figures[0], torch.stack([figure.detach().float() for figure in figures])

    def on_train_epoch_start(self) -> None:
        """Start the clock of the throughput."""
        super().on_train_epoch_start()
        self._report.start_clock()

    def on_train_epoch_end(self) -> None:
        """Stop the clock of the throughput."""
        self._report.stop_clock()

    def on_validation_start(self) -> None:
        """Stop the clock of the throughput."""
        self._report.stop_clock()

    def on_validation_end(self) -> None:
        """Restart the clock of the throughput."""
        self._report.start_clock()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Report the means since the last report, every ``log_every_n_steps``."""
        if self.global_step % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        values = self._report.take(
            partial(self.trainer.strategy.reduce, reduce_op="mean"),
            len(batch.row_n) * self.trainer.world_size,
        )
        if not values:
            return
        values |= {"train/beta": self.beta, "train/mask_ratio": self.mask_ratio}
        values["train/learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self.capacity is not None:
            values["train/capacity"] = self.capacity
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step)
        self.log("loss", values["train/loss"], prog_bar=True, logger=False)

    def on_validation_epoch_start(self) -> None:
        """Clear the sums of the last validation."""
        self._val: dict[str, Tensor] = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the sums of one batch: the ELBO at beta = 1, whole and masked reconstruction, posterior moments."""
        x_nf, outside_n = features(self.vae, batch)
        c_nk = self.vae.complete(self.covariates_of(batch), x_nf)
        output = self._run_vae(x_nf, c_nk)
        at = batch_idx, self.global_rank
        sums = elbo_sums(
            self.vae, self.objective, output, x_nf, c_nk,
            outside_n=outside_n, size_n=batch.size_n, seed=validation_seed(*at, SAMPLE_STREAM),
        )  # fmt: skip
        if batch.outside_n is None:
            sums |= imputation_sums(self.vae, self._run_vae, batch.x_nf, c_nk, seed=validation_seed(*at))
        if self.contrastive is not None:
            seed_generators(validation_seed(*at, CONTRAST_STREAM), self.device)
            contrast = self.contrastive(self.vae, batch.x_nf, output.mu_nd, batch.row_n)
            sums["contrastive"] = len(x_nf) * contrast
        self._val = {key: self._val[key] + value for key, value in sums.items()} if self._val else sums

    def on_validation_epoch_end(self) -> None:
        """Reduce over processes and report; no value depends on beta."""
        total = {
            key: self.trainer.strategy.reduce(value, reduce_op="sum") for key, value in self._val.items()
        }
        self.kl_d = total["kl_d"] / total["n"]
        values = validation_figures(total, self.vae.n_genes)
        self.log_dict({key: value.float() for key, value in values.items()}, logger=False)
        if not self.trainer.sanity_checking:
            # Lightning would log these one step earlier than the training curves, and add a curve of epochs.
            for logger in self.loggers:
                logger.log_metrics(
                    {key: float(value) for key, value in values.items()}, step=self.global_step
                )
            step_on_metrics(self.trainer.lr_scheduler_configs, values)

    def trained(self) -> TrainedModel:
        """Return the model with its scaler and genes, as later stages use it."""
        parameters = self.hparams
        return TrainedModel(
            self.vae,
            self.scaler,
            gene_ids=parameters["genes"]["ids"],
            gene_names=parameters["genes"]["names"],
            unit=parameters["unit"],
            architecture={key: value for key, value in parameters["model"].items() if key != "_target_"},
            covariates=self.covariates,
        )
