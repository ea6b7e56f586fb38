"""The LightningModule: one training step, one validation step, and what they report.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis), ``d`` latent dimensions, ``k``
columns of the covariates' design.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gtex_vae import runtime
from gtex_vae.config import build, nearest
from gtex_vae.data.covariates import Covariates
from gtex_vae.data.loading.memory import Batch
from gtex_vae.data.standardize import Standardizer
from gtex_vae.errors import ConfigError
from gtex_vae.functional.basis import coordinates
from gtex_vae.functional.masking import draw_observed, hide, seed_generators, step_seed
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.contrastive import ContrastiveTerm
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAE
from gtex_vae.training.cuda_graphs import CapturedStep
from gtex_vae.training.devices import shard
from gtex_vae.training.parameter_groups import parameter_groups
from gtex_vae.training.validation import (
    CONTRAST_STREAM,
    SAMPLE_STREAM,
    elbo_sums,
    imputation_sums,
    validation_figures,
    validation_seed,
)

FIGURES = "loss", "nll_nats", "mse", "kl_nats"  # of a training step


class StepKind(NamedTuple):
    """What one training step does otherwise than the next."""

    partner: int | None
    masked: bool
    capped: bool


class VAEModule(LightningModule):
    """Trains a `VAE` on standardized expression.

    It takes plain dicts, so that its checkpoints hold nothing but dicts, lists, numbers, strings and tensors and load
    with ``weights_only=True``. What changes during training (``beta``, ``capacity``, ``mask_ratio``) is written by
    callbacks before each batch. All randomness of a step is a function of ``(seed, step, rank)``.

    Parameters
    ----------
    model
        Arguments of `VAE`, without ``n_genes``.
    objective
        Arguments of `Objective`.
    optimizer
        ``_target_`` and arguments of the optimizer.
    learning_rate
        ``_target_`` and arguments of the schedule of its learning rate, or ``None``.
    genes
        ``ids`` and ``names`` of the genes, in order.
    standardize
        ``method`` and ``clip`` of the `Standardizer`.
    unit
        Unit of the expression before standardizing.
    seed
        Seed of initial weights (through the global generator) and of every step.
    compile
        Compile the model with ``torch.compile``.
    contrastive
        ``_target_`` and arguments of a `ContrastiveTerm`, without ``latent_dim``, to train with beside the ELBO.
    covariates
        Columns of `Covariates`, for a conditional model.

    Attributes
    ----------
    beta, capacity
        Weight of the KL and its target in nats (``None``: no target).
    mask_ratio
        Fraction of the input to hide in this batch.
    """

    variable_k: Tensor

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
        super().__init__()
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
        self.optimizer_config, self.learning_rate_config = optimizer, learning_rate
        self.seed = seed
        self.beta, self.mask_ratio = 1.0, 0.0
        self.capacity: float | None = None
        # the method, not the module: a module would be a second child, every weight twice in the state dict
        # called as a module all the same, for the layers' hooks
        self._run_vae = torch.compile(self.vae.forward) if compile else self.vae.__call__
        self._captured: CapturedStep | None = None
        self._first_step = False
        # on the device: a key that Lightning logs costs a third of a millisecond a step
        self._sums: Tensor | None = None
        self._steps, self._seconds, self._since = 0, 0.0, time.monotonic()

    def configure_model(self) -> None:
        """Divide the parameters among the processes, where the strategy is to do so."""
        if self.device_mesh is not None:
            shard(self.vae, self.device_mesh["data_parallel"])

    def needs_genes(self, callbacks: Iterable[Callback]) -> bool:
        """Return whether a training step reads genes: to make further views of them, or because a callback hides some."""
        views = self.contrastive is not None and self.contrastive.views
        return views or any(getattr(callback, "needs_genes", False) for callback in callbacks)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its schedule."""
        groups = parameter_groups(self.vae, self.parameters(), self.optimizer_config["lr"])
        optimizer = build(self.optimizer_config, under="torch.optim", params=groups)
        if self.learning_rate_config is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": build(
                self.learning_rate_config,
                under="gtex_vae.training.learning_rate",
                optimizer=optimizer,
                total_steps=total_steps,
            ),
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedules of a step; those that watch a metric are stepped with the validation that gives it.

        Lightning would step them after the checkpoint of the epoch is written, and a resumed run would lack one.
        """
        if metric is None:
            super().lr_scheduler_step(scheduler, metric)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm or value.

        Lightning refuses to clip for a fused optimizer under any mixed precision, though only fp16 rescales gradients
        inside it. A norm within the limit leaves gradients alone: multiplying all of them by 1 takes a twentieth of a wide
        model's step. On a GPU, where looking at the norm would make the step wait, and in several processes they
        are multiplied all the same; captured steps have done so.
        """
        if self._captured is not None and gradient_clip_algorithm != "value":
            return
        if (
            self.trainer.precision == "16-mixed"
            or not gradient_clip_val
            or gradient_clip_algorithm == "value"
        ):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif self.device.type == "cpu" and self.trainer.world_size == 1:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
            if not norm <= gradient_clip_val:
                torch.nn.utils.clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    @property
    def batches_seen(self) -> int:
        """Batches of all epochs so far: the step that randomness depends on; restored with a checkpoint."""
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def features(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What the VAE is to reconstruct, and the squared length of what lies outside its basis."""
        if self.vae.basis_fg is None or batch.outside_n is not None:
            return batch.x_nf, batch.outside_n
        return coordinates(batch.x_nf, self.vae.basis_fg)

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

    def on_train_start(self) -> None:
        """On a single GPU, replay steps. Compiled models, several processes and fp16, which rescales losses, do without."""
        self._first_step = True
        trainer = self.trainer
        alone = self.device.type == "cuda" and trainer.world_size == trainer.accumulate_grad_batches == 1
        if alone and trainer.precision != "16-mixed" and not self.hparams["compile"]:
            trained = [p for p in self.parameters() if p.requires_grad]
            self._captured = CapturedStep(self._whole_step, trained)

    def on_train_end(self) -> None:
        """Let the recorded steps and their memory go."""
        self._captured = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, part of its input hidden; of a captured step the gradients too."""
        seed_generators(step_seed(self.seed, self.batches_seen, self.global_rank), self.device)
        kind = StepKind(None, self.mask_ratio > 0.0, self.capacity is not None)
        numbers = self.beta, self.capacity or 0.0, self.mask_ratio
        if self._captured is None:
            loss, figures_k = self._loss(batch, *numbers, kind)
        else:
            kind = kind._replace(partner=self.vae.draw_partner())
            figures_k = self._captured(batch, numbers, kind)
            loss = figures_k[0]
        self._sums = figures_k.clone() if self._sums is None else self._sums + figures_k
        self._steps += 1
        return loss

    def _whole_step(self, batch: Batch, numbers_k: Tensor, kind: StepKind) -> Tensor:
        """Leave the gradients of a step, within their limit, in the parameters; give its figures."""
        for parameter in self.parameters():
            parameter.grad = None
        beta, capacity, mask_ratio = numbers_k.unbind()
        loss, figures_k = self._loss(batch, beta, capacity, mask_ratio, kind)
        with torch.autocast("cuda", enabled=False):
            loss.backward()
        if self.trainer.gradient_clip_val and self.trainer.gradient_clip_algorithm != "value":
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.trainer.gradient_clip_val)
        return figures_k

    def _loss(
        self,
        batch: Batch,
        beta: float | Tensor,
        capacity: float | Tensor,
        mask_ratio: float | Tensor,
        kind: StepKind,
    ) -> tuple[Tensor, Tensor]:
        """Loss of one batch, and the figures of `FIGURES` and of the contrastive term, (k,)."""
        x_nf, outside_n = self.features(batch)
        size_n = batch.size_n
        input_nf, observed_ng = x_nf, None
        if kind.masked:
            observed_ng = draw_observed(batch.x_nf, mask_ratio)
            input_nf = self.vae.project(hide(batch.x_nf, observed_ng))
        output = self._run_vae(input_nf, self.covariates_of(batch), kind.partner)
        terms = self.objective(
            self.vae.likelihood,
            output,
            self._for_each_member(x_nf),
            beta=beta,
            capacity=capacity if kind.capped else None,
            observed_ng=None if observed_ng is None else self._for_each_member(observed_ng),
            outside_n=None if outside_n is None else self._for_each_member(outside_n),
            size_n=None if size_n is None else self._for_each_member(size_n),
        )
        loss, of_its_own = terms.loss, []
        if self.contrastive is not None:
            mu_nd = output.mu_nd.unflatten(0, (len(self.vae.encoders), -1)).mean(0)
            contrast = self.contrastive(self.vae, batch.x_nf, mu_nd, batch.row_n)
            loss = self.contrastive.elbo_weight * loss + self.contrastive.weight * contrast
            of_its_own = [contrast]
        figures = [loss, terms.nll_nats, terms.mse, terms.kl_d.sum(), *of_its_own]
        return loss, torch.stack([figure.detach().float() for figure in figures])

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Go back through the loss, unless its step has done so."""
        if self._captured is None:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: `optimizer_step` has forgotten the gradients of the step before, and those of a captured step are its own."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer | LightningOptimizer, *closure: Any
    ) -> None:
        """Step, and let the gradients go before validation or the next forward pass ask for memory.

        glibc cannot use the chunks of the first gradients for the second ones, a few bytes longer with their alignment, once
        Adam's moments lie behind them: so they are handed back.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, *closure)
        if self._captured is None:
            optimizer.zero_grad()
        if self._first_step:
            runtime.give_back()
            self._first_step = False

    def _for_each_member(self, value: Tensor) -> Tensor:
        """A batch once for every member, one after another, as the members' outputs stand."""
        members = len(self.vae.encoders)
        return torch.cat([value] * members) if members > 1 else value

    def on_train_epoch_start(self) -> None:
        """Go on with the clock of the throughput: what comes between two epochs is not training."""
        super().on_train_epoch_start()
        self._since = time.monotonic()

    def on_validation_start(self) -> None:
        """Stop the clock of the throughput."""
        self._seconds += time.monotonic() - self._since

    def on_validation_end(self) -> None:
        """Go on with the clock, now that validation and its figures are done."""
        self._since = time.monotonic()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Report the means since the last report, every ``log_every_n_steps``."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.global_step % every or self._sums is None:
            return
        together = self.trainer.strategy.reduce(self._sums, reduce_op="mean").tolist()
        names = (*FIGURES, "contrastive")[: len(together)]
        values = {f"train/{name}": value / self._steps for name, value in zip(names, together, strict=True)}
        seconds = max(self._seconds + time.monotonic() - self._since, 1e-9)
        values["train/samples_per_second"] = (
            self._steps * len(batch.row_n) * self.trainer.world_size / seconds
        )
        values |= {"train/beta": self.beta, "train/mask_ratio": self.mask_ratio}
        values["train/learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        if self.capacity is not None:
            values["train/capacity"] = self.capacity
        for logger in self.loggers:
            logger.log_metrics(values, step=self.global_step)
        self.log("loss", values["train/loss"], prog_bar=True, logger=False)
        self._sums, self._steps, self._seconds, self._since = None, 0, 0.0, time.monotonic()

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._val: dict[str, Tensor] = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sums over one batch: the ELBO at beta = 1, whole and masked reconstruction, posterior moments."""
        x_nf, outside_n = self.features(batch)
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
        """Reduce over processes and report; none of these values moves with beta."""
        total = {
            key: self.trainer.strategy.reduce(value, reduce_op="sum") for key, value in self._val.items()
        }
        self.kl_d: Tensor = total["kl_d"] / total["n"]
        values = validation_figures(total, self.vae.n_genes)
        self.log_dict({key: value.float() for key, value in values.items()}, logger=False)
        if not self.trainer.sanity_checking:
            # Lightning would count these from one step earlier than the curves of training, with a curve of epochs
            for logger in self.loggers:
                logger.log_metrics(
                    {key: float(value) for key, value in values.items()}, step=self.global_step
                )
            self._step_plateau(values)

    def _step_plateau(self, values: dict[str, Tensor]) -> None:
        """Step the schedules that watch a validation metric."""
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                assert config.monitor is not None
                if config.monitor not in values:
                    known = nearest(config.monitor, values)
                    raise ConfigError(
                        f"learning_rate.monitor={config.monitor} is no validation metric{known}"
                    )
                config.scheduler.step(float(values[config.monitor]))

    def trained(self) -> TrainedModel:
        """The model with its scaler and genes, as later stages use it."""
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
