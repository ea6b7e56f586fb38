"""Train a VAE on bulk expression: ``python -m gtex_vae.train [data=...] [+experiment=...] [key=value ...]``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gtex_vae.config import build
from gtex_vae.errors import ConfigError
from gtex_vae.runs import continuation, directory
from gtex_vae.stage import in_sweep, stage, stated_keys


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
    finish: bool = False
    compile: bool
    metrics_seed: int
    input: str | None
    pretrained: str | None
    contrastive: dict[str, Any] | None = None
    alignment: dict[str, Any] | None = None


@stage("train", TrainConfig, resumable=True)
def main(config: TrainConfig, run_dir: Path) -> float | None:
    """Train a VAE; with an alignment, train or load a VAE and align donors with it."""
    from gtex_vae.training import devices
    from gtex_vae.training.fit import fit_vae

    devices.refuse_contrastive(asdict(config))
    if in_sweep():
        devices.refuse_in_sweep(config.trainer)
    stated = stated_keys(config.callbacks)
    if config.alignment is None:
        if config.input is not None:
            raise ConfigError(
                "input= requires +experiment=contrastive; to train a VAE on a matrix use data=file data.path=FILE"
            )
        return fit_vae(asdict(config), run_dir, stated=stated)
    if config.pretrained is None:
        vae_dir = run_dir / "vae"
        if directory.status(vae_dir) != "finished":
            vae_config = replace(config, alignment=None, input=None)
            directory.claim(vae_dir, asdict(vae_config), per_call=continuation.PER_CALL)
            fit_vae(asdict(vae_config), vae_dir, stated=stated)
            directory.mark(vae_dir)
    else:
        vae_dir = directory.find_run(config.pretrained, Path(config.paths["outputs"]))
    mrr: float = build(
        config.alignment, under="gtex_vae.training.alignment_fit",
        vae_dir=vae_dir, run_dir=run_dir, logger=config.logger, settings=asdict(config),
    )  # fmt: skip
    return mrr


if __name__ == "__main__":
    main()
