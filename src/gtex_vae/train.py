"""Train a VAE on bulk expression: ``python -m gtex_vae.train [data=...] [+experiment=...] [key=value ...]``."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gtex_vae import runs
from gtex_vae.config import build
from gtex_vae.errors import ConfigError
from gtex_vae.paths import write_json
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainConfig:
    """Root keys of ``conf/train.yaml``."""

    data: dict[str, Any]
    model: dict[str, Any]
    objective: dict[str, Any]
    optimizer: dict[str, Any]
    learning_rate: dict[str, Any] | None = None
    trainer: dict[str, Any]
    callbacks: dict[str, Any]
    logger: dict[str, Any] | None = None
    paths: dict[str, Any]
    seed: int
    run: str | None
    overwrite: bool
    compile: bool
    metrics_seed: int
    input: str | None
    pretrained: str | None
    contrastive: dict[str, Any] | None = None
    alignment: dict[str, Any] | None = None


@stage("train", TrainConfig, resumable=True)
def main(config: TrainConfig, run_dir: Path) -> float | None:
    """Train a VAE; or, with an alignment, take the one that is given (or train it first) and align donors with it."""
    if config.alignment is None:
        if config.input is not None:
            raise ConfigError("input= is for +experiment=contrastive; a VAE takes data=file data.path=FILE")
        return train_vae(config, run_dir)
    if config.pretrained is None:
        vae_dir = run_dir / "vae"
        if runs.status(vae_dir) != "finished":
            vae_config = replace(config, alignment=None, input=None)
            runs.claim(vae_dir, asdict(vae_config))
            train_vae(vae_config, vae_dir)
            runs.mark(vae_dir)
    else:
        vae_dir = runs.find_run(config.pretrained, Path(config.paths["outputs"]))
    mrr: float = build(
        config.alignment, under="gtex_vae.training.align",
        vae_dir=vae_dir, run_dir=run_dir, logger=config.logger, settings=asdict(config),
    )  # fmt: skip
    return mrr


def train_vae(config: TrainConfig, run_dir: Path) -> float | None:
    """Prepare the data, train, keep the best model and measure it beside PCA on held-out donors."""
    import torch
    from lightning.pytorch import seed_everything

    from gtex_vae.training import environment
    from gtex_vae.training.build import build_trainer, check_values
    from gtex_vae.training.finish import best_model, fit_pca, measure, report
    from gtex_vae.training.module import VAEModule

    environment.tune_process()
    environment.quiet_libraries()
    check_values(config.model, config.objective, config.optimizer, config.learning_rate, config.contrastive)
    trainer = build_trainer(config.trainer, config.callbacks, config.logger, run_dir)
    datamodule = build(config.data, under="gtex_vae.data")
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.write_splits(run_dir / "splits.csv")

    seed_everything(config.seed, workers=True, verbose=False)
    module = VAEModule(
        config.model,
        config.objective,
        config.optimizer,
        config.learning_rate,
        genes=datamodule.genes,
        standardize=datamodule.standardize,
        unit=datamodule.unit,
        seed=config.seed,
        compile=config.compile,
        contrastive=config.contrastive,
    )
    module.scaler.load_state_dict(datamodule.scaler.state_dict())
    pca = fit_pca(datamodule, module.vae.latent_dim)
    if config.model["linear_skip"]:
        module.vae.start_from_pca(torch.from_numpy(pca.components_dg), torch.from_numpy(pca.variance_d))
    last = run_dir / "checkpoints" / "last.ckpt"
    trainer.fit(module, datamodule, ckpt_path=str(last) if last.exists() else None, weights_only=True)

    metrics: dict[str, float] = {}
    if trainer.is_global_zero:
        trained = best_model(module, run_dir)
        trained.save(run_dir / "model")
        metrics = measure(trained, datamodule, pca, seed=config.metrics_seed)
        write_json(run_dir / "metrics.json", metrics)
        report(metrics, trainer, asdict(config), run_dir)
    trainer.strategy.barrier()  # no process marks the run a success before it is one
    return metrics.get("reconstruction/r2")


if __name__ == "__main__":
    main()
