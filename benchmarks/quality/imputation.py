"""Benefit of posterior-mode steps in the rounds of imputation.

    python benchmarks/quality/imputation.py FOLDER VARIANT [--fold 11] [--members 4] [--plans 2222 0002]

``VARIANT_FOLD.pt`` must be in the folder (``bed.py --save``). A plan has one digit per round, its number of steps.
"""

from __future__ import annotations

import time

import numpy as np
import saved
import torch
from bed import FAR
from torch import Tensor

from gtex_vae.analysis.metrics.imputation import hidden_batches
from gtex_vae.functional.masking import hide
from gtex_vae.models.vae import VAE

SAMPLES = 512


def impute(vae: VAE, x_ng: Tensor, observed_ng: Tensor, plan: str) -> Tensor:
    """Every entry, from some, with so many steps in each round."""
    whole_ng = hide(x_ng, observed_ng)
    for steps in plan:
        vae.mode_steps = int(steps)
        x_hat_ng = vae.decode(vae.encode(whole_ng)[0])
        whole_ng = torch.where(observed_ng, x_ng, x_hat_ng)
    return x_hat_ng


@torch.inference_mode()
def main() -> None:
    """Print R2 of hidden entries and seconds of CPU for each plan."""
    parser = saved.parser(__doc__.splitlines()[0], members=4)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.5])
    parser.add_argument("--plans", nargs="+", default=["2222", "0022", "0002", "002"])
    arguments = parser.parse_args()
    fold, vae = saved.load(arguments)
    x_ng = fold.x_valid_ng[:SAMPLES]
    n, g = x_ng.shape
    for rate in arguments.rates:
        (hidden_ng,) = hidden_batches(n, g, rate, seed=0, batch_size=n)
        hidden_ng = torch.from_numpy(np.asarray(hidden_ng))
        counted_ng = hidden_ng & (x_ng.abs() < FAR)
        truth = x_ng[counted_ng]
        for plan in arguments.plans:
            start = time.process_time()
            x_hat_ng = impute(vae, x_ng, ~hidden_ng, plan)
            seconds = time.process_time() - start
            error = (x_hat_ng[counted_ng] - truth).square().sum()
            r2 = 1.0 - float(error / (truth - truth.mean()).square().sum())
            print(f"{rate:.0%} hidden, steps {plan}: R2 {r2:.5f}, {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
