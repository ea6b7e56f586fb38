"""Loss of one training batch, from the model's output.

Shapes: ``n`` samples, ``g`` genes, ``f`` features (genes, or their coordinates in a basis).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gtex_vae.data.loading.memory import Batch
from gtex_vae.functional.basis import coordinates
from gtex_vae.models.objective import Objective, ObjectiveTerms
from gtex_vae.models.vae import VAE, VAEOutput


class StepKind(NamedTuple):
    """Choices of a training step that change which operations run.

    Attributes
    ----------
    partner
        Offset between encoders and decoders, see `VAE.draw_partner`; None: drawn inside the step.
    masked
        Part of the input is hidden.
    capped
        The KL has a target capacity.
    """

    partner: int | None
    masked: bool
    capped: bool


def features(vae: VAE, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return what the VAE reconstructs, (n, f), and the squared length of the part outside its basis, (n,)."""
    if vae.basis_fg is None or batch.outside_n is not None:
        return batch.x_nf, batch.outside_n
    return coordinates(batch.x_nf, vae.basis_fg)


def elbo_terms(
    vae: VAE,
    objective: Objective,
    output: VAEOutput,
    x_nf: Tensor,
    *,
    beta: float | Tensor,
    capacity: float | Tensor | None,
    observed_ng: Tensor | None,
    outside_n: Tensor | None,
    size_n: Tensor | None,
) -> ObjectiveTerms:
    """Evaluate the objective on the outputs of all members of an ensemble; arguments as for `Objective`."""
    members = len(vae.encoders)

    def repeat(value: Tensor) -> Tensor:
        """Repeat a batch for every member, in the order of the members' outputs."""
        return torch.cat([value] * members) if members > 1 else value

    return objective(
        vae.likelihood,
        output,
        repeat(x_nf),
        beta=beta,
        capacity=capacity,
        observed_ng=None if observed_ng is None else repeat(observed_ng),
        outside_n=None if outside_n is None else repeat(outside_n),
        size_n=None if size_n is None else repeat(size_n),
    )
