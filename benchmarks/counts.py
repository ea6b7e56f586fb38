"""Negative binomial of read counts compared with Gaussians of log values, on the same data, split and networks.

    python benchmarks/counts.py [key=value ...]

Trains each on the demo with the package's command. The ELBO of Gaussians is a density of standardized log2(TPM+1). The
derivative of counts by these values converts it to a density of counts, comparable with the log probability of counts.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from record import machine, write

from gtex_vae.analysis.evaluation.run_samples import open_samples
from gtex_vae.data.counts import LENGTH, size_factors
from gtex_vae.inference.trained_model import TrainedModel

KEYS = (
    "reconstruction/r2", "reconstruction/gene_r2_median", "imputation/r2_20", "tissue/knn_accuracy",
    "tissue/logreg_accuracy", "rate/kl_nats", "elbo/nats_per_gene",
)  # fmt: skip
LIKELIHOODS = ("negative_binomial", "per_gene", "per_sample")


def log_slope(run: Path) -> float:
    """Average the log derivative of counts by standardized expression over the run's held-out donors."""
    model = TrainedModel.load(run / "model")
    adata = open_samples(run, model)
    test = adata[(adata.obs["split"] == "test").to_numpy()]
    scale_g, center_g = model.scaler.scale_g.numpy(), model.scaler.center_g.numpy()
    length_g = test.var[LENGTH].to_numpy() if LENGTH in test.var else np.ones(test.n_vars)
    y_ng = np.asarray(test.X, dtype=float) * scale_g + center_g
    log_ng = (
        np.log(size_factors(test.obs))[:, None]
        + np.log(length_g * scale_g * math.log(2.0))
        + y_ng * math.log(2.0)
    )
    return float(log_ng.mean())


def main() -> None:
    """Train with each likelihood and write the table."""
    rows: dict[str, Any] = {}
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        for likelihood in LIKELIHOODS:
            run = Path(folder, likelihood)
            command = [
                "gtex_vae.train",
                "+experiment=counts",
                f"model.likelihood={likelihood}",
                *sys.argv[1:],
            ]
            subprocess.run([sys.executable, "-m", *command, f"hydra.run.dir={run}"], check=True)
            metrics = json.loads((run / "metrics.json").read_text())
            rows[likelihood] = {key: metrics[key] for key in KEYS}
            slope = 0.0 if likelihood == "negative_binomial" else log_slope(run)
            rows[likelihood]["elbo_of_counts/nats_per_gene"] = metrics["elbo/nats_per_gene"] - slope
            rows["pca"] = {key: metrics.get(f"baseline/pca/{key}") for key in KEYS}
            loads.append(os.getloadavg()[0])
    command_line = " ".join(["python", "benchmarks/counts.py", *sys.argv[1:]])
    result = {"command": command_line, "machine": machine(loads, ("torch",)), "rows": rows}
    write(Path(__file__).parent / "results" / "counts.json", result)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
