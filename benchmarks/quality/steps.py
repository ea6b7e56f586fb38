"""Effect of the number and the metric of posterior-mode steps on a saved variant.

    python benchmarks/quality/steps.py FOLDER VARIANT [--fold 11] [--members 2] [--steps 1 2 3] [--powers 0.5]

``VARIANT_FOLD.pt`` must be in the folder (``bed.py --save``). A power other than 0 gives each component its own precision: the
mean squared training residual to this power. Power 1 is generalized least squares.
"""

from __future__ import annotations

import saved
import torch
from torch import Tensor

from gtex_vae.analysis.metrics.tissue import accuracy, knn_predict, logreg_predict
from gtex_vae.functional.posterior_mode import preconditioner, step_to_mode
from gtex_vae.models.vae import VAE


def r2(vae: VAE, y_nf: Tensor, outside_n: Tensor, z_nd: Tensor) -> float:
    """R2 over all entries."""
    outside = outside_n.sum()
    return 1.0 - float(
        ((vae.decode_features(z_nd) - y_nf).square().sum() + outside) / (y_nf.square().sum() + outside)
    )


@torch.inference_mode()
def main() -> None:
    """Print a line for each number of steps and each power."""
    parser = saved.parser(__doc__.splitlines()[0], members=2)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 1, 2, 3, 6])
    parser.add_argument("--powers", type=float, nargs="+", default=[0.25, 0.5])
    arguments = parser.parse_args()
    fold, vae = saved.load(arguments)
    loadings_fd = torch.stack(
        [decoder.skip.weight for decoder in vae.decoders if decoder.skip is not None]
    ).mean(0)
    parts = [(fold.train_nf, fold.train_outside_n), (fold.valid_nf, fold.valid_outside_n)]
    starts = [vae.encode_features(y_nf)[0] for y_nf, _ in parts]
    residual_f = (vae.decode_features(starts[0]) - fold.train_nf).square().mean(0)
    for steps, power in [(steps, 0.0) for steps in arguments.steps] + [
        (2, power) for power in arguments.powers
    ]:
        relative_f = (residual_f / residual_f.mean()).pow(-power)
        precision_f = (
            torch.exp(-vae.likelihood.log_var)
            * relative_f
            / (relative_f * residual_f).sum()
            * residual_f.sum()
        )
        z_train_nd, z_valid_nd = (
            step_to_mode(
                lambda z_nd: vae._linearized(z_nd, None),
                z_nd,
                y_nf,
                precision_f,
                preconditioner(loadings_fd, precision_f),
                steps=steps,
            )
            for z_nd, (y_nf, _) in zip(starts, parts, strict=True)
        )
        right = [
            accuracy(predict(z_train_nd.numpy(), z_valid_nd.numpy(), fold.train_tissue), fold.valid_tissue)
            for predict in (knn_predict, logreg_predict)
        ]
        fits = [r2(vae, *part, z_nd) for part, z_nd in zip(parts, (z_train_nd, z_valid_nd), strict=True)]
        print(
            f"steps {steps} power {power}: R2 {fits[1]:.4f} (training {fits[0]:.4f}), "
            f"15-NN {right[0]:.4f}, logistic {right[1]:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
