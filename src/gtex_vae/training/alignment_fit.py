"""Training of a contrastive alignment, from single cells to the retrieval of held-out donors."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gtex_vae.analysis.metrics import catalogue
from gtex_vae.analysis.report.model_card import write_card
from gtex_vae.config import build
from gtex_vae.data.single_cell.donors import DonorCells, donor_cells
from gtex_vae.data.single_cell.files import pseudobulk_folder, read_pseudobulk
from gtex_vae.errors import ConfigError, RunError
from gtex_vae.files import write_beside, write_json
from gtex_vae.inference.trained_model import TrainedModel

log = logging.getLogger(__name__)

SEEN = "vae_splits.csv"
SURE = 2.0  # standard errors over validation donors, for trained weights to be kept
METHODS = (
    ("", "aligned"),
    ("baseline/vae/", "VAE"),
    ("baseline/pca/", "PCA"),
    ("baseline/expression/", "expression"),
)


def align_donors(
    *,
    vae_dir: Path,
    run_dir: Path,
    input: str | None,
    cells: dict[str, Any],
    pseudobulk: dict[str, Any],
    model: dict[str, Any],
    optimizer: dict[str, Any],
    trainer: dict[str, Any],
    callbacks: dict[str, Any],
    logger: dict[str, Any] | None,
    settings: Mapping[str, Any],
    min_overlap: float,
    val: float,
    test: float,
    split_seed: int,
    batch_size: int | None,
    donors_at_a_time: int | None,
    seed: int,
) -> float:
    """Train an alignment on a VAE, keep the best weights by validation retrieval, and measure it on held-out donors.

    Parameters
    ----------
    vae_dir
        Run of the VAE, or an alignment on it.
    run_dir
        Output directory: ``model/`` (the unchanged VAE), ``alignment/`` (heads and tuned layers), ``metrics.json``,
        ``retrieval.csv``, ``pseudobulk/``, ``splits.csv``, ``vae_splits.csv`` (donors of the VAE), checkpoints.
    input
        Single cells, or a folder that ``gtex_vae.pseudobulk`` wrote; ``None``: simulate them with ``cells["prepare"]``.
    cells
        ``name`` and ``prepare`` of the simulated cells.
    pseudobulk
        Arguments of `gtex_vae.data.single_cell.pseudobulk.make_pseudobulk`.
    model, optimizer, trainer, callbacks, logger
        Nodes of the config; ``model`` is that of `gtex_vae.models.aligner.Aligner`.
    settings
        The whole config, for TensorBoard.
    min_overlap, val, test, split_seed
        See `gtex_vae.data.single_cell.donors.donor_cells`.
    batch_size
        Donors in a step; ``None``: all training donors.
    donors_at_a_time
        See `gtex_vae.training.alignment_module.AlignmentModule`.
    seed
        Seed of the initial weights and of every step.

    Returns
    -------
    float
        MRR on held-out donors.
    """
    from lightning.pytorch import seed_everything

    from gtex_vae import runtime
    from gtex_vae.analysis.alignment.run import measure
    from gtex_vae.inference.calibration import Calibration
    from gtex_vae.training import environment
    from gtex_vae.training.alignment_module import AlignmentModule, DonorDataModule
    from gtex_vae.training.build import build_trainer

    if batch_size is not None and batch_size < 2:
        raise ConfigError(
            f"alignment.batch_size={batch_size} must be at least 2: a donor alone has no negatives"
        )
    runtime.tune_process()
    environment.quiet_libraries()
    built_trainer = build_trainer(trainer, callbacks, logger, run_dir)
    trained = TrainedModel.load(vae_dir / "model")
    if trained.covariates is not None:
        raise ConfigError(
            f"run={vae_dir} is a conditional model, but donors of single cells have no covariates: set run= to another run"
        )
    data = _read(trained, vae_dir, run_dir, input, cells, pseudobulk, min_overlap=min_overlap, val=val, test=test,
                 split_seed=split_seed)  # fmt: skip
    data.write_splits(run_dir / "splits.csv")
    write_json(run_dir / "alignment.json", data.report)

    seed_everything(seed, workers=True, verbose=False)
    aligner = build(model, under="gtex_vae.models", vae=trained.vae, cell_types=data.cell_types)
    module = AlignmentModule(aligner, optimizer, data, donors_at_a_time=donors_at_a_time, seed=seed)
    datamodule = DonorDataModule(data, batch_size=batch_size, seed=seed)
    last = run_dir / "checkpoints" / "last.ckpt"
    start = copy.deepcopy(module.state_dict())
    built_trainer.fit(module, datamodule, ckpt_path=str(last) if last.exists() else None, weights_only=True)

    _keep_best(module, start, data, run_dir)
    aligner.encoder.fold_units()
    trained.eval().save(run_dir / "model")
    calibration = Calibration.load(vae_dir / "model")
    if calibration is not None:
        calibration.save(run_dir / "model")
    arguments = {key: value for key, value in model.items() if key != "_target_"}
    aligner.save(run_dir / "alignment", arguments)
    found = measure(aligner, trained, data)
    metrics = found.metrics
    write_json(run_dir / "metrics.json", metrics)
    write_card(run_dir)
    with write_beside(run_dir / "retrieval.csv") as temporary:
        found.ranks.to_csv(temporary)
    _report(metrics, data, built_trainer, settings, run_dir)
    return metrics["contrastive/mrr"]


def _read(
    trained: TrainedModel,
    vae_dir: Path,
    run_dir: Path,
    input: str | None,
    cells: Mapping[str, Any],
    pseudobulk: Mapping[str, Any],
    **split: Any,
) -> DonorCells:
    """Read donors and cell types in the model's genes; a resumed run reads the pseudobulk that it wrote before."""
    folder = run_dir / "pseudobulk"
    made_before = (folder / "proportions.csv").exists()
    if input is not None:
        source: Any = Path(input)
    else:
        source = folder if made_before else build(cells["prepare"], under="gtex_vae.data")
    options = {key: value for key, value in pseudobulk.items() if key != "_target_"}
    made = read_pseudobulk(pseudobulk_folder(folder, source, **options))
    seen = pd.read_csv(_seen(vae_dir), dtype=str)
    with write_beside(run_dir / SEEN) as temporary:
        seen.to_csv(temporary, index=False)
    data = donor_cells(
        made, trained.scaler, gene_ids=trained.gene_ids, gene_names=trained.gene_names, unit=trained.unit,
        known=dict(zip(seen["donor"], seen["split"], strict=True)), **split,
    )  # fmt: skip
    counts = [int((data.split_n == part).sum()) for part in ("train", "val", "test")]
    log.info(
        "%d donors (train/val/test %d/%d/%d), %d profiles of %d cell types, %d of the model's %d genes",
        len(data.donors), *counts, len(data.x_sg), len(data.cell_types), data.report["present"], len(trained.gene_ids),
    )  # fmt: skip
    return data


def _seen(vae_dir: Path) -> Path:
    """Return the file with the split of the VAE's donors; an alignment, whose VAE can be used again, has its own file."""
    from gtex_vae.analysis.alignment.run import is_alignment

    if not is_alignment(vae_dir):
        return vae_dir / "splits.csv"
    if not (vae_dir / SEEN).is_file():
        raise RunError(
            f"run={vae_dir} is an alignment without {SEEN}, the split of its VAE's donors: set run= to the run of that VAE"
        )
    return vae_dir / SEEN


def _keep_best(module: Any, start: Mapping[str, Any], data: DonorCells, run_dir: Path) -> None:
    """Load ``best.ckpt``, or the initial weights unless validation donors show that training improved them.

    With few validation donors the best epoch is partly luck, so trained weights are kept only if they beat the
    closed-form start by two standard errors. Randomly initialised heads are always replaced.
    """
    import torch

    module.cpu()
    best = run_dir / "checkpoints" / "best.ckpt"
    if not best.exists():
        log.warning("no validation: the alignment is that of the last step")
        return
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    if not module.aligner.compares_at_once:
        module.load_state_dict(checkpoint["state_dict"])
        return
    valid = torch.from_numpy((data.split_n == "val").nonzero()[0])
    module.on_fit_start()  # moves the features to the CPU
    ranks = []
    for state in (start, checkpoint["state_dict"]):
        module.load_state_dict(state)
        ranks.append(module.reciprocal_ranks(valid))
    gain_n = ranks[1] - ranks[0]
    trained = bool(gain_n.mean() > SURE * gain_n.std() / len(gain_n) ** 0.5)
    if not trained:
        module.load_state_dict(start)
    log.info(
        "validation MRR from all samples: %.3f at the start, %.3f after training; kept: %s",
        ranks[0].mean(), ranks[1].mean(), "trained weights" if trained else "initial weights, because training is not better by 2 standard errors",
    )  # fmt: skip


def _report(
    metrics: Mapping[str, float], data: DonorCells, trainer: Any, settings: Mapping[str, Any], run_dir: Path
) -> None:
    """Log settings and metrics to TensorBoard, and print retrieval compared with the baselines and chance."""
    from gtex_vae.training.hparams import flatten

    if trainer.logger is not None:
        hparams = flatten(settings)
        trainer.logger.log_hyperparams(hparams, {f"test/{key}": value for key, value in metrics.items()})
        trainer.logger.finalize("success")
    held_out = int((data.split_n == "test").sum())
    names = [name for _, name in METHODS]
    lines = [f"{f'{held_out} held-out donors':40s}" + "".join(f"{name:>12s}" for name in (*names, "chance"))]
    for key in catalogue.keys_shown("headline", group="contrastive"):
        if key in metrics:
            group, _, last = key.rpartition("/")
            chance = 0.5 if last == "foscttm" else metrics[f"{group}/chance_{last}"]
            figures = [metrics[f"{prefix}{key}"] for prefix, _ in METHODS] + [chance]
            lines.append(f"{catalogue.label(key):40s}" + "".join(f"{figure:12.3f}" for figure in figures))
    low, high = metrics["contrastive/top1_low"], metrics["contrastive/top1_high"]
    lines.append(f"95 % interval of top-1: {low:.3f} to {high:.3f}")
    log.info("\n%s\n\nrun: %s\nwatch: tensorboard --logdir %s", "\n".join(lines), run_dir, run_dir)
