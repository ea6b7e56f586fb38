"""Gain in reconstruction from closed-form regressions on the latent code of a saved variant.

    python benchmarks/quality/refit.py FOLDER VARIANT [--fold 11] [--members 2]

``VARIANT_FOLD.pt`` must be in the folder (``bed.py --save``). The coordinates in the basis, and the residual outside the basis, which decoders do
not predict, are regressed on the posterior modes of the training samples. Prints the gain in R2 of all entries on the
validation donors, within the basis (without its first components, which decoders reconstruct almost exactly) and outside.
Kernels: the decoders' last hidden layers, which refits the last linear layer; and a Gaussian of the squared distance in the
latent space divided by its median. The gain from the leading directions outside the basis alone (reduced-rank regression) is
also printed, because a model could store these.
"""

from __future__ import annotations

from pathlib import Path

import folds
import numpy as np
import saved
import torch
from bed import Fold
from torch import Tensor

from gtex_vae.data.standardize import Standardizer

KEPT = 128  # leading components that stay the decoders'
# name: shares of the two kernels, noise, training samples that the Gaussian is taken to (None: all), whether the
# decoders' prediction is kept and its residual regressed
REFITS = {
    "last layer": (1.0, 0.0, 0.3, None, False),
    "last layer and Gaussian": (1.0, 0.5, 0.5, None, False),
    "last layer and Gaussian to 1,024 samples": (1.0, 0.5, 0.5, 1024, False),
    "Gaussian, of the residual": (0.0, 1.0, 1.0, None, True),
}
RANKS = (64, 128, 256)


def outside(fold: Fold, seed: int, folder: Path) -> tuple[Tensor, Tensor]:
    """What the basis leaves of training and validation samples, (n, g) each."""
    valid = np.load(folder / f"fold{seed}.npz")["valid"]
    x_ng = folds.known()[0]
    Standardizer(x_ng.shape[1]).fit(x_ng, np.flatnonzero(~valid)).apply_(x_ng)
    basis_fg = torch.from_numpy(fold.pca.components_dg)
    left_ng = torch.from_numpy(x_ng)
    left_ng -= left_ng @ basis_fg.T @ basis_fg
    return left_ng[~valid], left_ng[valid]


@torch.inference_mode()
def main() -> None:
    """Print a line for each refit."""
    arguments = saved.parser(__doc__.splitlines()[0], members=2).parse_args()
    fold, vae = saved.load(arguments)
    vae.mode_steps = 2
    z = [vae.infer(y_nf)[0] for y_nf in (fold.train_nf, fold.valid_nf)]
    hidden = [torch.cat([decoder.mlp(z_nd) for decoder in vae.decoders], 1) for z_nd in z]
    mean_h = hidden[0].mean(0)
    h = [part - mean_h for part in hidden]
    scale = h[0].square().sum(1).mean()
    square = [torch.cdist(z_nd, z[0]).square() for z_nd in z]
    left = outside(fold, arguments.fold, arguments.folder)
    predicted = [vae.decode_features(z_nd) for z_nd in z]
    total = fold.valid_nf.square().sum() + fold.valid_outside_n.sum()
    for name, (linear, gaussian, noise, points, residual) in REFITS.items():
        near = [torch.exp(-distance / square[0].median()) for distance in square]
        if points is not None:
            chosen = torch.randperm(len(z[0]), generator=torch.Generator().manual_seed(0))[:points]
            middle = torch.linalg.cholesky(near[0][chosen][:, chosen] + 1e-3 * torch.eye(points))
            near = [part[:, chosen] @ torch.cholesky_solve(near[0][chosen], middle) for part in near]
        kernel_nn, across_nn = (
            linear * (part @ h[0].T) / scale + gaussian * close_nn
            for part, close_nn in zip(h, near, strict=True)
        )
        kernel_nn.diagonal().add_(noise)
        factor_nn = torch.linalg.cholesky(kernel_nn)
        weights_nn = torch.cholesky_solve(across_nn.T, factor_nn).T
        first = 0 if residual else KEPT
        gains = []
        for train_nf, valid_nf, before_nf, base_nf in (
            (
                fold.train_nf[:, first:],
                fold.valid_nf[:, first:],
                predicted[1][:, first:],
                predicted[0][:, first:],
            ),
            (*left, torch.zeros(1), torch.zeros(1)),
        ):
            target_nf = train_nf - base_nf if residual else train_nf
            mean_f = target_nf.mean(0)
            after_nf = weights_nn @ (target_nf - mean_f) + mean_f + (before_nf if residual else 0.0)
            error, error_after = ((valid_nf - x_hat).square().sum() for x_hat in (before_nf, after_nf))
            gains.append(float((error - error_after) / total))
        print(f"{name}: R2 {gains[0]:+.5f} within the basis, {gains[1]:+.5f} outside", flush=True)
        centred_ng = left[0] - left[0].mean(0)
        fitted_ng = centred_ng - noise * torch.cholesky_solve(centred_ng, factor_nn)
        leading_gr = torch.svd_lowrank(fitted_ng, max(RANKS), niter=2)[2]
        given_nr, there_nr = weights_nn @ (centred_ng @ leading_gr), left[1] @ leading_gr
        # orthonormal directions: each gains on its own
        gain_r = (there_nr.square() - (there_nr - given_nr).square()).sum(0).cumsum(0) / total
        print(
            *(f"    in {rank} directions {float(gain_r[rank - 1]):+.5f}" for rank in RANKS),
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
