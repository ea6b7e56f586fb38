"""Final metrics, hyperparameters and held-out samples in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # type: ignore[import-untyped]

from gtex_vae.analysis.metrics import catalogue
from gtex_vae.data.datamodule import ExpressionDataModule
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.runs import sweep
from gtex_vae.runs.events import add_summary
from gtex_vae.training.callbacks.figures import log_held_out

# settings in the HPARAMS tab; config.yaml has the complete config
COMPARED = (
    "data/name", "data/batch_size", "data/standardize", "data/split_by", "model/", "objective/", "optimizer/",
    "learning_rate/", "callbacks/kl_annealing/", "callbacks/masking/", "trainer/max_epochs", "trainer/precision",
    "trainer/gradient_clip_val", "seed",
)  # fmt: skip
SHOWN = ("data/name", "model/latent_dim")  # by default, with those set on the command line
NOT_COMPARED = (
    "model/_target_", "objective/_target_", "callbacks/kl_annealing/_target_", "callbacks/masking/_target_",
    "optimizer/fused",
)  # fmt: skip
COMPARED_METRICS = (
    *catalogue.keys_shown("headline", "summary"),
    *(f"{catalogue.PCA}/{key}" for key in catalogue.HEADLINE),
)


def log_final_metrics(
    metrics: Mapping[str, float],
    model: TrainedModel,
    datamodule: ExpressionDataModule,
    trainer: Trainer,
    config: Mapping[str, Any],
    run_dir: Path,
) -> None:
    """Log final metrics with the settings, a table of metrics, and the held-out samples."""
    settings = run_settings(config, run_dir)
    final = {
        f"test/{key}": metrics[key] for key in COMPARED_METRICS if not math.isnan(metrics.get(key, math.nan))
    }
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(final, step=trainer.global_step)
            continue
        # Lightning wrote an empty file at the end of training, and does not overwrite it.
        Path(logger.log_dir, logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)
        if trainer.is_global_zero:
            shown = {*SHOWN, *overridden(run_dir)}
            add_summary(logger.experiment, hparam_columns(settings, final, shown))
        logger.log_hyperparams(settings, final, step=trainer.global_step)
        if trainer.is_global_zero:
            logger.experiment.add_text("test/metrics", metrics_table(metrics), trainer.global_step)
            log_held_out(model.vae, datamodule, trainer)
        logger.finalize("success")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested config to the keys that the HPARAMS tab shows.

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


def run_settings(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return `compared_settings` and the settings that the run's sweep varies."""
    flat = flatten(config)
    return compared_settings(config) | {key: flat[key] for key in swept_settings(run_dir) if key in flat}


def compared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for comparing runs, without those that are null.

    >>> compared_settings({"model": {"_target_": "a.B", "latent_dim": 64}, "run": None, "seed": 0})
    {'model/latent_dim': 64, 'seed': 0}
    """
    return {
        key: value
        for key, value in flatten(config).items()
        if key.startswith(COMPARED) and key not in NOT_COMPARED and value != "None"
    }


def overridden(run_dir: Path) -> list[str]:
    """Return the keys that were set on the run's command line."""
    return [key.lstrip("+~").replace(".", "/") for key in sweep.overrides_of(run_dir)]


def swept_settings(run_dir: Path) -> list[str]:
    """Return the keys that the run's sweep varies."""
    return [key.lstrip("+~").replace(".", "/") for key in sweep.swept(run_dir)]


def hparam_columns(settings: Mapping[str, Any], metrics: Mapping[str, float], shown: Collection[str]) -> Any:
    """Return the summary that defines the columns of the HPARAMS tab.

    TensorBoard shows five settings, first those marked as different. It uses the first such summary of any run, so a run
    can only guess which settings differ.
    """
    types = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    experiment = api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(
                name=key, type=types.get(type(value), api_pb2.DATA_TYPE_FLOAT64), differs=key in shown
            )
            for key, value in settings.items()
        ],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=key)) for key in metrics],
    )
    content = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(experiment=experiment))
    value = Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=content, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def metrics_table(metrics: Mapping[str, float]) -> str:
    """Return a Markdown table with a row per metric and a column per method.

    >>> print(metrics_table({"reconstruction/r2": 0.9, "baseline/pca/reconstruction/r2": 0.8}))
    | held-out donors | VAE | PCA |
    |---|--:|--:|
    | reconstruction/r2 | 0.9000 | 0.8000 |
    """
    names = dict.fromkeys(key.split("/")[1] for key in metrics if key.startswith("baseline/"))
    columns = {"VAE": "", **{"PCA" if name == "pca" else name: f"baseline/{name}/" for name in names}}
    rows = dict.fromkeys(key.split("/", 2)[2] if key.startswith("baseline/") else key for key in metrics)
    lines = ["| held-out donors | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for row in rows:
        values = (metrics.get(prefix + row) for prefix in columns.values())
        cells = ("" if value is None or math.isnan(value) else f"{value:.4f}" for value in values)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
