"""A run that fails, is pruned or interrupted stands in TensorBoard's HPARAMS tab too, without metrics."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from gtex_vae.runs import directory
from gtex_vae.training.callbacks.figures import tensorboard_writer


class UnfinishedSession(Callback):
    """Tell TensorBoard the settings of a run that ends before its time; one that ends well tells them with its metrics.

    No end is written: TensorBoard keeps the first that it reads, and the run may be gone on with.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write them."""
        from gtex_vae.training.hparams import run_settings

        writer, run_dir = tensorboard_writer(trainer), Path(trainer.default_root_dir)
        if writer is not None and (run_dir / directory.CONFIG).exists():
            _, start, _ = hparams(run_settings(directory.read_config(run_dir), run_dir), {})
            writer._get_file_writer().add_summary(start)
