"""End of a training: the best model, its calibration, its metrics and their report."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gtex_vae import runtime
from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.analysis.evaluation.score import score
from gtex_vae.analysis.metrics import catalogue
from gtex_vae.analysis.report.model_card import write_card
from gtex_vae.files import write_json
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.projection import PROJECTION
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.conditioning import free_latent
from gtex_vae.models.pca import PCA
from gtex_vae.training.hparams import log_final_metrics
from gtex_vae.training.start import training_samples

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.training.module import VAEModule

log = logging.getLogger(__name__)


def finish_run(
    module: VAEModule,
    datamodule: ExpressionDataModule,
    pca: PCA,
    trainer: Trainer,
    settings: Mapping[str, Any],
    run_dir: Path,
) -> dict[str, float]:
    """Save the best model with its calibration and head, measure it on held-out donors, and report.

    Parameters
    ----------
    module
        At the end of training.
    datamodule, pca
        Data and PCA of the training.
    trainer
        For its loggers.
    settings
        Root keys of ``conf/train.yaml``.
    run_dir
        Directory of the run, with its checkpoints.

    Returns
    -------
    dict
        Content of ``metrics.json``.
    """
    best = best_module(module, run_dir)
    trained = best.trained()
    if datamodule.conditions is not None:
        free_latent(trained.vae, *training_samples(best, datamodule))
    trained.save(run_dir / "model")
    if best.contrastive is not None:
        best.contrastive.save_head(run_dir / PROJECTION)
    runtime.give_back()  # memory that writing them took
    calibrate(trained, datamodule, run_dir / "model")
    baseline = pca.leading(module.vae.latent_dim)
    baseline.save(run_dir / "model" / PCA.FILE)
    metrics = measure(trained, datamodule, baseline, seed=settings["metrics_seed"])
    write_json(run_dir / "metrics.json", metrics)
    write_card(run_dir)
    report(metrics, trained, datamodule, trainer, settings, run_dir)
    return metrics


def best_module(module: VAEModule, run_dir: Path) -> VAEModule:
    """Return the module with the weights of ``best.ckpt``, or of the last step if no validation followed the warm-up.

    A module whose parameters are divided among processes is not changed; a new one is built.
    """
    best = run_dir / "checkpoints" / "best.ckpt"
    divided = module.device_mesh is not None
    if not best.exists():
        log.warning("no validation after the KL warm-up: the model is that of the last step")
    if divided:
        module = type(module)(**module.hparams)
    if best.exists() or divided:
        path = best if best.exists() else run_dir / "checkpoints" / "last.ckpt"
        module.load_state_dict(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        )
    return module.cpu()


def calibrate(model: TrainedModel, datamodule: ExpressionDataModule, folder: Path) -> None:
    """Calibrate predictive intervals and out-of-distribution scores on validation donors, and save the calibration."""
    log.info("calibrating intervals and verdicts on validation donors")
    train = datamodule.lazily("train"), datamodule.annotations("train")
    valid = datamodule.expression("val").cpu().numpy(), datamodule.annotations("val")
    calibration = Calibration.fit_splits(model, train, valid)
    if calibration is not None:
        calibration.save(folder)


def measure(
    model: TrainedModel, datamodule: ExpressionDataModule, pca: PCA, *, seed: int
) -> dict[str, float]:
    """Compute all metrics of the model and of the baselines on the donors of the test split."""
    x_train_ng, x_test_ng = datamodule.lazily("train"), datamodule.expression("test").cpu().numpy()
    log.info("measuring on %d held-out samples, compared with PCA of equal dimension", len(x_test_ng))
    train_obs, test_obs = (datamodule.annotations(split) for split in ("train", "test"))
    metrics = score(model, x_train_ng, x_test_ng, train_obs, test_obs, pca=pca, seed=seed)
    return metrics | rate_metrics(
        model.vae, x_test_ng, model.design(test_obs), model.sizes(test_obs), seed=seed
    )


def report(
    metrics: Mapping[str, float],
    model: TrainedModel,
    datamodule: ExpressionDataModule,
    trainer: Trainer,
    config: Mapping[str, Any],
    run_dir: Path,
) -> None:
    """Log the final metrics, and print the headline compared with PCA."""
    log_final_metrics(metrics, model, datamodule, trainer, config, run_dir)
    lines = [f"{'held-out donors':32s}{'VAE':>8s}{'PCA':>8s}{'':>3s}difference"]
    for key in catalogue.HEADLINE:
        if key in metrics and not math.isnan(metrics[key]):
            ours, pca = metrics[key], metrics[f"baseline/pca/{key}"]
            lines.append(f"{catalogue.label(key):32s}{ours:8.3f}{pca:8.3f}{ours - pca:+13.3f}")
    lines += [missing] if (missing := catalogue.unavailable(metrics)) else []
    log.info("\n%s\n\nrun: %s\nwatch: tensorboard --logdir %s", "\n".join(lines), run_dir, run_dir)
