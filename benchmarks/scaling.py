"""What each stage costs against samples, genes, latent dimensions and width, in CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--largest 16000]

One quantity moves at a time around 1,000 samples x 2,000 genes, 64 dimensions, hidden layers [512, 128]; stages: reading to
standardized data, the PCA with 256 components that a model starts from, an epoch of the default kind of model (two
members), and embedding all samples. The exponent is the slope of log seconds over log size: 1 is linear. What a million
samples would take is extrapolated from the largest size, linearly, and said to be. Memory is the business of `load.py` and
`out_of_core.py`: within one process that keeps its buffers it cannot be told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from load import generate
from record import machine, write

BASE = {"samples": 1_000, "genes": 2_000, "latent": 64, "width": 512}
COMPONENTS, MEMBERS, BATCH = 256, 2, 128
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.png"
STAGES = ("setup", "pca", "epoch", "encode")


def measure(size: dict[str, int], folder: Path) -> dict[str, float]:
    """CPU seconds of all stages at one size."""
    import torch

    from gtex_vae.analysis.baselines import PCA
    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.models.objective import Objective
    from gtex_vae.models.vae import VAE

    path = folder / "x.h5ad"
    generate(path, size["samples"], size["genes"])
    data = ExpressionDataModule("scaling", str(path), batch_size=BATCH)
    found: dict[str, float] = {}

    def take(stage: str, body: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = body()
        found[stage] = round(time.process_time() - start, 4)
        return result

    take("setup", data.setup)
    x_train_ng = data.expression("train")
    pca = take("pca", lambda: PCA.fit(x_train_ng.numpy(), size["latent"], basis=COMPONENTS))
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
        take("encode", lambda: [vae.embed(block) for block in x_train_ng.split(512)])
    return found


def grid(largest: int) -> dict[str, list[int]]:
    """Sizes of each quantity, powers of two apart."""
    return {
        "samples": [n for n in (500, 1000, 2000, 4000, 8000, 16000) if n <= largest],
        "genes": [1000, 2000, 4000],
        "latent": [16, 64, 192],
        "width": [128, 512, 1024],
    }


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of log value over log size."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-4)), 1)[0])


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """CPU seconds of each stage against each quantity."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(runs), figsize=(12, 3), sharey=True, layout="constrained")
    for axes, (of, rows) in zip(panels, runs.items(), strict=True):
        for stage in STAGES:
            axes.plot([row["size"] for row in rows], [row[stage] for row in rows], "o-", label=stage)
        axes.set(xscale="log", yscale="log", xlabel=of)
        shown = [row["size"] for row in rows][:: 2 if len(rows) > 4 else 1]
        axes.set_xticks(shown, [f"{size:,}" for size in shown])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("CPU seconds")
    panels[-1].legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure the grid, write and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=16_000, help="samples")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    arguments = parser.parse_args()
    from gtex_vae.training.environment import tune_process

    tune_process()
    before = os.getloadavg()[0]
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        measure({**BASE, "samples": 500}, Path(folder))  # imports and compiled loops
        for of, sizes in grid(arguments.largest).items():
            runs[of] = []
            for size in sizes:
                runs[of].append({"size": size, **measure({**BASE, of: size}, Path(folder))})
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
