"""Masking: fraction of the input to hide in each batch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from gtex_vae.errors import ConfigError
from gtex_vae.functional.masking import draw_ratio
from gtex_vae.functional.seeds import step_seed
from gtex_vae.training.module import VAEModule

STREAM = 1  # random stream, separate from the others of the same step


class Masking(Callback):
    """Draw ``module.mask_ratio`` from a range before each batch; some batches are not masked.

    Parameters
    ----------
    low, high
        Range of the fraction of hidden entries.
    whole
        Fraction of batches without hidden entries.

    Raises
    ------
    ConfigError
        A value is impossible; the message names its config key.

    References
    ----------
    Vincent et al. (2010), Stacked Denoising Autoencoders, for masking noise; the published GTEx VAE for 5-25 %.
    """

    def __init__(self, low: float = 0.05, high: float = 0.25, *, whole: float = 0.2) -> None:
        if not 0.0 <= low <= high < 1.0:
            raise ConfigError(
                f"callbacks.masking: low={low} and high={high} must satisfy 0 <= low <= high < 1"
            )
        if not 0.0 <= whole <= 1.0:
            raise ConfigError(f"callbacks.masking.whole={whole} must be in [0, 1]")
        self.low, self.high, self.whole = low, high, whole

    @property
    def needs_genes(self) -> bool:
        """True if batches must hold genes, so that some can be hidden."""
        return self.high > 0.0

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: Trainer, pl_module: VAEModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the fraction for this step, the same in every process."""
        seed = step_seed(pl_module.seed, pl_module.batches_seen, 0, STREAM)
        pl_module.mask_ratio = draw_ratio(self.low, self.high, self.whole, seed)
