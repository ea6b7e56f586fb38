"""Published configurations and the default on GTEx v6, with the changes between them one by one.

    python benchmarks/published.py [--epochs 12] [--only NAME ...]

Each trains with the package's command for the same small number of epochs on the same donors. `seed_19797` has as many latent
dimensions as there are genes. Rows measured before with the same number of epochs are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import record

GENES = 7_039
KEYS = (
    "reconstruction/r2", "reconstruction/mse", "elbo/nats_per_gene", "rate/kl_nats", "latent/active_units",
    "imputation/r2_20", "tissue/knn_accuracy", "tissue/logreg_accuracy",
)  # fmt: skip
PUBLISHED = ("+experiment=seed_64",)
NATS = (*PUBLISHED, "objective.kl_reduction=sum", "model.likelihood=per_sample")
SCHEDULED = (
    *NATS, "optimizer=adamw", "learning_rate=warmup_cosine", "model.dropout=0.1", "model.decoder_dropout=0",
    "callbacks.kl_annealing.cycles=1", "callbacks.kl_annealing.ratio=0.25", "callbacks.kl_annealing.decay=1",
    "callbacks.kl_annealing.floor=0",
)  # fmt: skip
RUNS: dict[str, tuple[str, ...]] = {
    "seed_64": PUBLISHED,
    "default": (),
    "seed_19797": ("+experiment=seed_19797", f"model.latent_dim={GENES}"),
    "seed_64, both terms in nats": NATS,
    "the same, default optimizer, schedules and dropout": SCHEDULED,
    "the same, linear paths started as the PCA": (*SCHEDULED, "model.linear_skip=true"),
}
RESULT = Path(__file__).parent / "results" / "published.json"


def measured(overrides: tuple[str, ...], epochs: int) -> dict[str, float]:
    """Train once; return metrics on held-out donors, time and memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        command = ["data=gtex_v6_shared", f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}/run"]
        subprocess.run([sys.executable, "-m", "gtex_vae.train", *command, *overrides], check=True)
        metrics = json.loads(Path(folder, "run/metrics.json").read_text())
        kept = {key: metrics[key] for key in KEYS}
        kept["baseline/pca/reconstruction/r2"] = metrics["baseline/pca/reconstruction/r2"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return kept | {"cpu_seconds": round(seconds)}


def main() -> None:
    """Train each configuration and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    arguments = parser.parse_args()
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {"epochs": None}
    rows = before["rows"] if before["epochs"] == arguments.epochs else {}
    loads = [os.getloadavg()[0]]
    for name in arguments.only:
        rows[name] = measured(RUNS[name], arguments.epochs)
        loads.append(os.getloadavg()[0])
        # after every one: what was measured stays when a later one needs more memory than there is
        result = {
            "command": f"python benchmarks/published.py --epochs {arguments.epochs}", "epochs": arguments.epochs,
            "machine": record.machine(loads, ("torch",)), "rows": rows,
        }  # fmt: skip
        record.write(RESULT, result)
        print(name, rows[name], flush=True)


if __name__ == "__main__":
    main()
