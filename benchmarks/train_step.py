"""Training step of the published architecture: our trainer against a plain PyTorch loop, side by side.

    python benchmarks/train_step.py [--rounds 3] [--steps 12]

19,797 genes, hidden layers 4096-2048-1024-512-256, 64 latent dimensions, batch 128. Each measurement is a process of
its own (allocator settings are per process); the methods take turns, so that a noisy machine hits all alike. The
plain loop is what the published system does: DataLoader over a TensorDataset, fp32, Adam, gradient clipping, and three
``.item()`` a step. Ours is the product's own module, callbacks and trainer, from `build_trainer`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GENES, HIDDEN, LATENT, BATCH = 19_797, [4096, 2048, 1024, 512, 256], 64, 128
WARM = 3
RESULT = Path(__file__).parent / "results" / "train_step.json"


def plain(steps: int) -> float:
    """Samples per second of the plain loop."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    def stack(widths: list[int]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ELU(), nn.Dropout(0.3)]
        return layers

    encoder = nn.Sequential(*stack([GENES, *HIDDEN]))
    mu, log_var = nn.Linear(HIDDEN[-1], LATENT), nn.Linear(HIDDEN[-1], LATENT)
    decoder = nn.Sequential(*stack([LATENT, *HIDDEN[::-1]]), nn.Linear(HIDDEN[0], GENES))
    parameters = [p for part in (encoder, mu, log_var, decoder) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    x = torch.randn(BATCH * (steps + WARM), GENES)
    start = 0.0
    for step, (batch,) in enumerate(DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True)):
        if step == WARM:
            start = time.perf_counter()
        optimizer.zero_grad()
        h = encoder(batch)
        m, lv = mu(h), log_var(h)
        out = decoder(m + torch.exp(0.5 * lv) * torch.randn_like(m))
        reconstruction = functional.mse_loss(out, batch)
        kl = -0.5 * torch.mean(1 + lv - m.pow(2) - lv.exp())
        loss = reconstruction + 0.5 * kl
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item(), reconstruction.item(), kl.item()
    return steps * BATCH / (time.perf_counter() - start)


def ours(steps: int, precision: str) -> float:
    """Samples per second of the product's trainer, callbacks and all."""
    import numpy as np
    import pandas as pd
    import torch
    from anndata import AnnData
    from hydra import compose, initialize_config_dir
    from lightning.pytorch import Callback

    from gtex_vae.config import register_resolvers, to_plain
    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.paths import conf_dir
    from gtex_vae.training import environment
    from gtex_vae.training.build import build_trainer
    from gtex_vae.training.module import VAEModule

    class Clock(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == WARM:
                self.start = time.perf_counter()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.end = time.perf_counter()

    environment.tune_process()
    environment.quiet_libraries()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = to_plain(compose("train", ["+experiment=seed_64", f"trainer.precision={precision}"]))
    with tempfile.TemporaryDirectory() as folder:
        n = BATCH * (steps + WARM) + 300
        rng = np.random.default_rng(0)
        obs = pd.DataFrame(
            {"donor": [f"d{i}" for i in range(n)], "tissue": "lung"}, index=[f"s{i}" for i in range(n)]
        )
        adata = AnnData(rng.standard_normal((n, GENES), dtype=np.float32), obs=obs)
        adata.write_h5ad(f"{folder}/x.h5ad")
        held = 140 / n
        data = ExpressionDataModule("bench", f"{folder}/x.h5ad", val=held, test=held, batch_size=BATCH)
        data.setup()
        callbacks = {
            k: v
            for k, v in config["callbacks"].items()
            if k not in ("best", "last", "figures", "console", "early_stopping")
        }
        trainer_config = {
            **config["trainer"],
            "max_epochs": 1,
            "limit_val_batches": 0,
            "enable_checkpointing": False,
        }
        trainer = build_trainer(trainer_config, callbacks, config["logger"], Path(folder))
        clock = Clock()
        trainer.callbacks.append(clock)
        module = VAEModule(
            config["model"],
            config["objective"],
            config["optimizer"],
            None,
            genes=data.genes,
            standardize=data.standardize,
            unit="",
        )
        torch.manual_seed(0)
        trainer.fit(module, data)
        done = trainer.global_step - WARM
        return done * BATCH / (clock.end - clock.start)


METHODS = {
    "plain fp32": plain,
    "ours fp32": lambda steps: ours(steps, "32-true"),
    "ours bf16": lambda steps: ours(steps, "bf16-mixed"),
}


def main() -> None:
    """Take turns, then write the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(METHODS[arguments.one](arguments.steps))
        return
    rates: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(arguments.rounds):
        for name in METHODS:
            command = [sys.executable, __file__, "--one", name, "--steps", str(arguments.steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            rates[name].append(float(done.stdout.split()[-1]))
            print(f"{name:12s} {rates[name][-1]:8.1f} samples/s", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        "samples_per_second": rates,
        "ratio_to_plain": {name: value / medians["plain fp32"] for name, value in medians.items()},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["ratio_to_plain"], indent=1))


if __name__ == "__main__":
    main()
