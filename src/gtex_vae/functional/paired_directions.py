"""Directions in which two noisy measurements of the same things agree, in closed form.

Shapes: ``n`` things, ``a`` first measurements of them, ``g`` genes, ``k`` axes, ``p`` directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_AGREEMENT = 0.02  # correlation: a gene on which the two do not agree still counts a little
SHRINKAGE = 0.8  # from 24 to 589 donors hardly anything changes from 0.7 to 0.95; less is bad with many
FAINT = 1e-10  # of the greatest variance: axes below this are rounding


def paired_directions(x_ag: Tensor, y_ng: Tensor, owner_a: Tensor, kind_a: Tensor, p: int) -> Tensor:
    r"""Linear map to a space where the two measurements of a thing are near and those of others are far.

    .. math:: W = B\,\big((1 - \lambda)\,\Sigma + \lambda\,\tau I\big)^{-1/2}\,\mathrm{diag}(\sqrt{r})

    Genes count by the correlation r of the two; then the directions in which they differ are damped, by the covariance
    :math:`\Sigma` of their differences, shrunk towards its mean variance :math:`\tau`
    (:math:`\lambda` = 0.8). B are principal axes of what results, and random ones beside them where there are fewer
    than p.

    Parameters
    ----------
    x_ag
        First measurements, each gene with mean 0 and variance 1 over those of kind 0.
    y_ng
        Second measurements, likewise over all.
    owner_a
        Row of ``y_ng`` that is of the same thing.
    kind_a
        0, once for each thing; or 1, 2, ...: further measurements, of which each kind has a mean of its own.
    p
        Directions; of no more than there are genes, the rest is 0.

    Returns
    -------
    Tensor
        W, shape (p, g), on average of unit length a row.

    References
    ----------
    Friedman (1989), Regularized Discriminant Analysis; its within-class covariance is here that of the differences.
    """
    own_a = kind_a == 0
    agreement_g = (x_ag[own_a] * y_ng[owner_a[own_a]]).mean(0)
    weight_g = agreement_g.clamp_min(LEAST_AGREEMENT).sqrt().double()
    x_ag, y_ng = x_ag * weight_g, y_ng * weight_g
    off_ag = x_ag - y_ng[owner_a]
    for kind in kind_a.unique():
        off_ag[kind_a == kind] -= off_ag[kind_a == kind].mean(0)
    variance_k, axes_kg = _principal(off_ag)
    level = (variance_k.sum() / off_ag.shape[1]).clamp_min(1e-12)
    outside = (SHRINKAGE * level).rsqrt()
    along_k = ((1 - SHRINKAGE) * variance_k + SHRINKAGE * level).rsqrt() - outside

    def damped(z_ng: Tensor) -> Tensor:
        return outside * z_ng + ((z_ng @ axes_kg.T) * along_k) @ axes_kg

    count = min(p, off_ag.shape[1])
    basis_pg = _principal(damped(torch.cat([x_ag[own_a], y_ng])))[1][:count]
    rest_pg = torch.randn(count - len(basis_pg), basis_pg.shape[1], dtype=basis_pg.dtype, device=y_ng.device)
    rest_pg -= (rest_pg @ basis_pg.T) @ basis_pg
    basis_pg = torch.cat([basis_pg, torch.linalg.qr(rest_pg.T)[0].T])
    map_pg = torch.zeros(p, basis_pg.shape[1], dtype=basis_pg.dtype, device=y_ng.device)
    map_pg[:count] = damped(basis_pg) * weight_g
    return (map_pg * (count**0.5 / torch.linalg.norm(map_pg).clamp_min(1e-12))).float()


def _principal(x_ng: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squares (k,) along the principal axes (k, g) of samples about 0, the greatest first."""
    wide = x_ng.shape[0] < x_ng.shape[1]
    square, axes = torch.linalg.eigh((x_ng @ x_ng.T if wide else x_ng.T @ x_ng) / len(x_ng))
    kept = square > FAINT * square[-1].clamp_min(1e-300)
    square, axes = square[kept].flip(0), axes[:, kept].flip(1)
    if wide:
        axes = (x_ng.T @ axes) / (square * len(x_ng)).sqrt()
    return square, axes.T
