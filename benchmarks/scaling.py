"""CPU seconds and memory of each stage against samples, genes, latent dimensions and width.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--largest 100000]

One quantity varies at a time, starting from 1,000 samples x 2,000 genes, 64 dimensions and hidden layers [512, 128]. Stages:
reading and standardizing, the PCA with 256 components, an epoch of the default kind of model (two members), and embedding
all samples. The exponent is the slope of log seconds over log size; 1 is linear. A million samples are extrapolated linearly
from the largest size. Each size runs in its own process. Memory is the peak during a stage, without imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from load import generate
from record import machine, peak_gb, reset_peak, write

BASE = {"samples": 1_000, "genes": 2_000, "latent": 64, "width": 512}
COMPONENTS, MEMBERS, BATCH = 256, 2, 128
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.png"
STAGES = ("setup", "pca", "epoch", "encode")


def measure(size: dict[str, int], folder: Path) -> dict[str, float]:
    """Measure CPU seconds and peak memory of all stages at one size."""
    import torch

    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.data.rows import blocks_of
    from gtex_vae.models.objective import Objective
    from gtex_vae.models.pca import PCA
    from gtex_vae.models.vae import VAE

    path = folder / "x.h5ad"
    generate(path, size["samples"], size["genes"])
    reset_peak()
    imports_gb = peak_gb()
    data = ExpressionDataModule("scaling", str(path), batch_size=BATCH)
    found: dict[str, float] = {}

    def take(stage: str, body: Callable[[], Any]) -> Any:
        reset_peak()
        start = time.process_time()
        result = body()
        found[stage] = round(time.process_time() - start, 4)
        found[f"{stage}_gb"] = round(peak_gb() - imports_gb, 3)
        return result

    take("setup", data.setup)
    pca = take("pca", lambda: PCA.fit(data.lazily("train"), size["latent"], basis=COMPONENTS))
    vae = VAE(
        size["genes"], size["latent"], [size["width"], size["width"] // 4], n_components=len(pca.components_dg),
        n_members=MEMBERS,
    )  # fmt: skip
    vae.start_from_pca(*(torch.from_numpy(part) for part in (pca.components_dg, pca.variance_d, pca.mean_g)))
    data.rotate(vae.basis_fg)
    optimizer, objective = torch.optim.AdamW(vae.parameters(), lr=1e-3, fused=True), Objective()

    def epoch() -> None:
        for batch in data.train_dataloader():
            target, outside = (torch.cat([of] * MEMBERS) for of in (batch.x_nf, batch.outside_n))
            loss = objective(vae.likelihood, vae(batch.x_nf), target, beta=1.0, outside_n=outside).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    epoch()  # buffers and the optimizer's state are made in the first
    take("epoch", epoch)
    vae.eval()
    with torch.inference_mode():
        x_train = data.lazily("train")
        take("encode", lambda: [vae.embed(torch.from_numpy(block)) for _, block in blocks_of(x_train, 512)])
    return found


def grid(largest: int) -> dict[str, list[int]]:
    """List sizes of each quantity in powers of two."""
    return {
        "samples": [n for n in (1000, 2000, 4000, 8000, 16000, 32000, 100_000) if n <= largest],
        "genes": [2000, 4000, 8000, 20_000],
        "latent": [16, 64, 192],
        "width": [128, 512, 1024],
    }


def exponent(sizes: list[int], values: list[float]) -> float:
    """Fit the slope of log value over log size."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-4)), 1)[0])


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw CPU seconds and memory of each stage against each quantity."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        2, len(runs), figsize=(12, 5.5), sharey="row", sharex="col", layout="constrained"
    )
    for column, (of, rows) in zip(panels.T, runs.items(), strict=True):
        for axes, suffix in zip(column, ("", "_gb"), strict=True):
            for stage in STAGES:
                values = [max(row[stage + suffix], 1e-3) for row in rows]
                axes.plot([row["size"] for row in rows], values, "o-", label=stage)
            axes.set(xscale="log", yscale="log")
            axes.spines[["top", "right"]].set_visible(False)
        shown = [row["size"] for row in rows][:: 3 if len(rows) > 4 else 1]
        column[1].set_xticks(shown, [f"{size:,}" for size in shown])
        column[1].minorticks_off()
        column[1].set_xlabel(of)
    panels[0][0].set_ylabel("CPU seconds")
    panels[1][0].set_ylabel("peak memory, GB")
    panels[0][-1].legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure the grid, write and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=100_000, help="samples")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    arguments = parser.parse_args()
    if arguments.one:
        from gtex_vae.runtime import tune_process

        tune_process()
        with tempfile.TemporaryDirectory() as folder:
            measure({**BASE, "samples": 500}, Path(folder))  # imports and compiled loops
            print(json.dumps(measure(arguments.one, Path(folder))))
        return
    before = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {}
    for of, sizes in grid(arguments.largest).items():
        runs[of] = []
        for size in sizes:
            command = [sys.executable, __file__, "--one", json.dumps({**BASE, of: size})]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[of].append({"size": size, **json.loads(done.stdout.splitlines()[-1])})
            print(of, json.dumps(runs[of][-1]), file=sys.stderr, flush=True)
    largest = runs["samples"][-1]
    result = {
        "command": " ".join(["python", "benchmarks/scaling.py", *sys.argv[1:]]),
        "base": {**BASE, "components": COMPONENTS, "members": MEMBERS},
        "runs": runs,
        "exponent": {
            of: {
                stage: round(exponent([r["size"] for r in rows], [r[stage] for r in rows]), 2)
                for stage in STAGES
            }
            for of, rows in runs.items()
        },
        "extrapolated_cpu_seconds_of_a_million_samples": {
            stage: round(largest[stage] * 1e6 / largest["size"]) for stage in STAGES
        },
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "machine": machine([before, os.getloadavg()[0]], ("numpy", "torch")),
    }
    write(arguments.result, result)
    draw(runs, arguments.figure)
    print(json.dumps(result["exponent"], indent=1))


if __name__ == "__main__":
    main()
