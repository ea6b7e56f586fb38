"""Embedding of any matrix with a trained model, block by block.

Shapes: ``n`` samples, ``g`` genes, ``d`` latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gtex_vae.data.genes.mapping import MIN_OVERLAP
from gtex_vae.data.readers.matrix import RawMatrix
from gtex_vae.data.units import log_offset
from gtex_vae.inference.calibration import Calibration, imputed_bounds
from gtex_vae.inference.covariates import CovariateInput
from gtex_vae.inference.model_input import ModelInput
from gtex_vae.inference.projection import Projector

if TYPE_CHECKING:
    from gtex_vae.inference.trained_model import TrainedModel

BATCH_SIZE = 512


@dataclass(frozen=True)
class Encoded:
    """Encoded consecutive samples.

    Attributes
    ----------
    rows
        Their rows.
    mu_nd, sd_nd
        Posterior means and standard deviations (n, d).
    x_ng
        Expression (n, g) in the model's unit; missing genes are predicted, or at their training mean.
    x_hat_ng
        Decoded means (n, g) in the model's unit, if requested.
    ood
        Result of `Calibration.score_samples`, if the run has a calibration.
    projected_nf
        Features of projections, if the run has a contrastive part.
    as_if_ng
        Expression (n, g) in the model's unit predicted for other covariates, if requested.
    low_ng, high_ng
        Bounds (n, g) of predicted genes in the model's unit, if requested; those of measured genes are the
        measured values.
    c_nk
        Covariates given to a conditional model; unknown ones are its own estimates.
    """

    rows: slice
    mu_nd: np.ndarray
    sd_nd: np.ndarray
    x_ng: np.ndarray
    x_hat_ng: np.ndarray | None = None
    ood: pd.DataFrame | None = None
    projected_nf: Tensor | None = None
    low_ng: np.ndarray | None = None
    high_ng: np.ndarray | None = None
    as_if_ng: np.ndarray | None = None
    c_nk: Tensor | None = None

    @property
    def layers(self) -> dict[str, np.ndarray | None]:
        """Layers of ``expression.h5ad``, by name."""
        return {
            "reconstruction": self.x_hat_ng,
            "lower": self.low_ng,
            "upper": self.high_ng,
            "as_if": self.as_if_ng,
        }


def model_input(
    model: TrainedModel, matrix: RawMatrix, *, impute: bool = True, min_overlap: float = MIN_OVERLAP
) -> ModelInput:
    """Convert a matrix to a model's genes and unit; see `ModelInput`."""
    data = ModelInput(
        matrix,
        gene_ids=model.gene_ids,
        gene_names=model.gene_names,
        unit=model.unit,
        mean_g=model.scaler.center_g.cpu().numpy(),
        min_overlap=min_overlap,
    )
    if impute and not data.present_g.all():
        data.report["missing_filled_with"] = "the model's prediction"
    return data


def encode_blocks(
    model: TrainedModel,
    data: ModelInput,
    *,
    impute: bool = True,
    reconstruct: bool = False,
    calibration: Calibration | None = None,
    projector: Projector | None = None,
    interval: float | None = None,
    covariates: CovariateInput | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Encoded]:
    """Encode block by block, with a progress bar after two seconds.

    The result of a sample does not depend on other samples.

    Parameters
    ----------
    model
        Trained model.
    data
        The samples.
    impute
        Fill missing genes with the prediction of `VAE.reconstruct` before encoding, not with the training mean.
    reconstruct
        Also decode the posterior means.
    calibration
        For out-of-distribution scores and intervals.
    projector
        For projections, from the run of the model.
    interval
        Level of the intervals of predicted genes; needs ``impute`` and a calibration.
    covariates
        Covariates for a conditional model; None if all are unknown.
    batch_size
        Samples in a block.
    """
    from tqdm import tqdm

    present_g = torch.as_tensor(data.present_g, device=model.scaler.center_g.device)
    with tqdm(
        total=len(data), desc="encode", unit=" samples", delay=2, leave=False, disable=None
    ) as progress:
        for rows, x_ng in data.blocks(batch_size):
            here = None if covariates is None else covariates.for_rows(rows)
            block = _encode(
                model,
                rows,
                x_ng,
                present_g,
                here,
                impute=impute,
                reconstruct=reconstruct,
                projector=projector,
            )
            if calibration is not None:
                block = _score(model, block, x_ng, data.present_g, here, calibration, interval)
            yield block
            progress.update(rows.stop - rows.start)


@torch.inference_mode()
def _encode(
    model: TrainedModel,
    rows: slice,
    x_ng: np.ndarray,
    present_g: Tensor,
    covariates: CovariateInput | None,
    *,
    impute: bool,
    reconstruct: bool,
    projector: Projector | None,
) -> Encoded:
    """Encode one block."""
    vae, scaler = model.vae, model.scaler
    c_nk = None if covariates is None else _like(model, covariates.c_nk)
    z_ng = scaler(torch.as_tensor(x_ng, device=present_g.device))
    if impute and not present_g.all():
        predicted_ng = vae.reconstruct(z_ng, present_g.expand_as(z_ng), c_nk)
        x_ng = np.where(present_g.cpu().numpy(), x_ng, in_unit(model, scaler.inverse(predicted_ng)))
        z_ng = scaler(torch.as_tensor(x_ng, device=present_g.device))
    # the product with the basis is most of the work where there are many genes: once
    x_nf = vae.project(z_ng)
    c_nk = vae.complete(c_nk, x_nf)
    mu_nd, log_var_nd = vae.infer(x_nf, c_nk)
    x_hat_ng = in_unit(model, scaler.inverse(vae.decode(mu_nd, c_nk))) if reconstruct else None
    as_if_ng = None
    if covariates is not None and covariates.supposed_nk is not None:
        # only the predicted change is added, so that the sample's own residual is kept
        supposed_nk = vae.complete(_like(model, covariates.supposed_nk), x_nf)
        change_ng = vae.decode(mu_nd, supposed_nk) - vae.decode(mu_nd, c_nk)
        as_if_ng = in_unit(model, scaler.inverse(z_ng + change_ng))
    sd_nd = torch.exp(0.5 * log_var_nd)
    projected_nf = None if projector is None else projector.features(z_ng, mu_nd).cpu()
    return Encoded(
        rows,
        mu_nd.float().cpu().numpy(),
        sd_nd.float().cpu().numpy(),
        x_ng,
        x_hat_ng,
        projected_nf=projected_nf,
        as_if_ng=as_if_ng,
        c_nk=c_nk,
    )


def _score(
    model: TrainedModel,
    part: Encoded,
    x_ng: np.ndarray,
    present_g: np.ndarray,
    covariates: CovariateInput | None,
    calibration: Calibration,
    interval: float | None,
) -> Encoded:
    """Add out-of-distribution scores and bounds to a block."""
    ours = model if covariates is None else model.conditioned_on(covariates.c_nk)
    standard_ng = model.scaler(_like(model, x_ng)).cpu().numpy()
    if present_g.all():  # already encoded
        with torch.inference_mode():
            x_hat_ng = model.vae.decode(_like(model, part.mu_nd), part.c_nk).cpu().numpy()
        ood = calibration.seen.score_samples(part.mu_nd, standard_ng - x_hat_ng)
    else:
        ood = calibration.score_samples(ours, standard_ng, present_g)
    part = replace(part, ood=ood)
    if interval is None:
        return part
    bounds = imputed_bounds(ours, standard_ng, present_g, calibration.intervals, interval)
    low_ng, high_ng = (
        np.where(present_g, x_ng, in_unit(model, model.scaler.inverse(_like(model, bound_ng))))
        for bound_ng in bounds
    )
    return replace(part, low_ng=low_ng, high_ng=high_ng)


def _like(model: TrainedModel, array: np.ndarray) -> Tensor:
    """Return an array as a tensor on the model's device."""
    return torch.as_tensor(array, device=model.scaler.center_g.device)


def in_unit(model: TrainedModel, x_ng: Tensor) -> np.ndarray:
    """Clip predictions to the range of the model's unit: at least 0 in log2(v+1)."""
    allowed = x_ng.clamp_min(0.0) if log_offset(model.unit) == 1.0 else x_ng
    return allowed.float().cpu().numpy()
