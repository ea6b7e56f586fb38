"""Default model on the GTEx v6 extract, three seeds, compared with PCA with as many components.

    python benchmarks/gtex_v6.py [--seeds 0 1 2] [key=value ...]

Trains and evaluates with the package's commands. PCA is fitted on the same training samples and gets the same masked
inputs. Further overrides go to training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gtex_vae.paths import shared_dir

KEYS = (
    "reconstruction/r2", "reconstruction/gene_r2_median", "imputation/r2_05", "imputation/r2_20", "imputation/r2_50",
    "tissue/knn_accuracy", "tissue/logreg_accuracy", "gene/function_auroc", "latent/active_units", "rate/kl_nats",
)  # fmt: skip
RESULT = Path(__file__).parent / "results" / "gtex_v6.json"


def run(*command: str) -> float:
    """Run a command of the package; return its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Train and evaluate each seed, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    sets = ",".join(str(path.resolve()) for path in sorted((shared_dir() / "genesets").glob("*.gmt")))
    rows = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            where = f"hydra.run.dir={folder}/run"
            seconds = run(
                "gtex_vae.train", "data=gtex_v6_shared", f"seed={seed}", where, *arguments.overrides
            )
            scored = run("gtex_vae.evaluate", f"run={folder}/run", f"genesets=[{sets}]")
            metrics = json.loads(Path(folder, "run/evaluation/metrics.json").read_text())
            intervals = Path(folder, "run/evaluation/intervals.csv").read_text().splitlines()
        rows.append(
            {
                "seed": seed,
                "train_command_seconds": round(seconds),
                "evaluate_command_seconds": round(scored),
                "model": {key: metrics.get(key) for key in KEYS},
                "pca": {key: metrics.get(f"baseline/pca/{key}") for key in KEYS},
                "gene_function": {k: v for k, v in metrics.items() if "gene/function_auroc" in k},
                "minus_pca": [line for line in intervals if "baseline/pca" in line],
            }
        )
        result = {"command": " ".join(["python", "benchmarks/gtex_v6.py", *sys.argv[1:]]), "seeds": rows}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'':32s}{'VAE':>8s}{'PCA':>8s}{'difference':>12s}   over {len(rows)} seed(s)")
    for key in KEYS:
        pairs = [(row["model"][key], row["pca"][key]) for row in rows]
        if all(None not in pair for pair in pairs):
            ours, pca = (sum(values) / len(rows) for values in zip(*pairs, strict=True))
            print(f"{key:32s}{ours:8.3f}{pca:8.3f}{ours - pca:+12.3f}")


if __name__ == "__main__":
    main()
