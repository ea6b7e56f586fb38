"""For notebooks: load a trained run and use it on an AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gtex_vae.models.trained import TrainedModel


def load(run: Path | str = "latest", *, outputs: Path | str = "outputs") -> TrainedModel:
    """Load the model of a finished training run.

    Parameters
    ----------
    run
        Run directory, its ``model`` folder, or ``latest``: the newest run under ``outputs`` that succeeded.
    outputs
        Where ``latest`` looks.

    Returns
    -------
    TrainedModel
        On the CPU; ``model.to("cuda")`` moves it. Its methods `encode` and `impute` take an AnnData, `export` writes
        a program for PyTorch alone.

    Raises
    ------
    RunError
        There is no such run, or it has not finished.

    Examples
    --------
    Three lines embed an AnnData of one's own::

        import gtex_vae
        model = gtex_vae.load("outputs/train/runs/2025-01-31_12-00-00-000000")
        embedded = model.encode(adata)    # AnnData, samples x latent dimensions
    """
    from gtex_vae.models.trained import TrainedModel
    from gtex_vae.runs import find_run

    if (Path(run) / "model.json").is_file():
        return TrainedModel.load(run)
    return TrainedModel.load(find_run(str(run), Path(outputs)) / "model")
