"""After training: the best model, its metrics beside the baselines, and where to look."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gtex_vae.analysis.evaluation.rate import rate_metrics
from gtex_vae.analysis.evaluation.score import score
from gtex_vae.inference.calibration import Calibration
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.training.module import VAEModule

log = logging.getLogger(__name__)

HEADLINE = (
    ("reconstruction/r2", "reconstruction R2"),
    ("reconstruction/gene_r2_median", "median gene R2"),
    ("imputation/r2_20", "imputation R2, 20 % hidden"),
    ("tissue/knn_accuracy", "tissue, 15 nearest neighbours"),
    ("tissue/logreg_accuracy", "tissue, logistic regression"),
)


def best_module(module: VAEModule, run_dir: Path) -> VAEModule:
    """The module with the weights of ``best.ckpt``; of the end of training where no validation came after the warm-up.

    A module whose parameters are divided among processes is left as it is, and the model is made anew.
    """
    best, last = (run_dir / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    divided = module.device_mesh is not None
    if not best.exists():
        log.warning("no validation after the KL warm-up: the model is that of the last step")
    if divided:
        module = type(module)(**module.hparams)
    if best.exists() or divided:
        path = best if best.exists() else last
        module.load_state_dict(
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        )
    return module.cpu()


def fit_pca(datamodule: ExpressionDataModule, latent_dim: int, n_components: int | None) -> PCA:
    """PCA of the training samples: where the model starts, the basis that it works in, and the baseline at the end."""
    log.info("fitting a PCA to the training samples")
    return PCA.fit(datamodule.lazily("train"), latent_dim, basis=n_components)


def calibrate(model: TrainedModel, datamodule: ExpressionDataModule, folder: Path) -> None:
    """Keep how large the model's errors are on validation donors, for intervals and verdicts wherever it is used."""
    log.info("calibrating intervals and verdicts on validation donors")
    train = datamodule.lazily("train"), datamodule.annotations("train")
    valid = datamodule.expression("val").cpu().numpy(), datamodule.annotations("val")
    reference = Calibration.fit_splits(model, train, valid)
    if reference is not None:
        reference.save(folder)


def measure(
    model: TrainedModel, datamodule: ExpressionDataModule, pca: PCA, *, seed: int
) -> dict[str, float]:
    """Every metric on the donors of the test split, the model's and the baselines'."""
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
    trainer: Trainer,
    config: Mapping[str, Any],
    run_dir: Path,
) -> None:
    """Print the headline beside PCA, and show the result in TensorBoard."""
    from gtex_vae.training.hparams import show_result

    show_result(metrics, model, trainer, config, run_dir)
    lines = [f"{'held-out donors':32s}{'VAE':>8s}{'PCA':>8s}{'':>3s}difference"]
    for key, name in HEADLINE:
        if key in metrics:
            ours, pca = metrics[key], metrics[f"baseline/pca/{key}"]
            lines.append(f"{name:32s}{ours:8.3f}{pca:8.3f}{ours - pca:+13.3f}")
    log.info("\n%s\n\nrun: %s\nwatch: tensorboard --logdir %s", "\n".join(lines), run_dir, run_dir)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested config to flat keys, as the HPARAMS tab shows them.

    >>> flatten({"model": {"latent_dim": 64}, "seed": 0})
    {'model/latent_dim': 64, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
