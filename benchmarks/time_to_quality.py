"""Reconstruction of validation donors against seconds of training, on the real GTEx v6 extract.

    python benchmarks/time_to_quality.py [--seconds 120] [--threads 1] [--scvi PYTHON]

Ours: the default model as ``gtex_vae.train`` trains it, including its PCA. Compared with the published loop (see
`loops.published`; the published widths), scvi-tools' SCVI with a normal likelihood and two layers of 2,048 (on log2(RPKM+1),
because its mean cannot be negative), and scikit-learn's PCA with 64 components. All have the same training samples, latent
dimensions and batches of 128. R2 is that of the posterior mean over all entries of the validation donors, standardized with
training statistics. Validation, reading and imports are not counted. CPU seconds are the main measure, because they depend
little on other programs; wall seconds are also recorded. Each method trains for its seconds or epochs in its own process.
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
from loops import Workload, published, train_watched
from record import machine, write

LATENT, BATCH = 64, 128
PCA = f"scikit-learn PCA-{LATENT}"
EPOCHS = 10_000  # more than the seconds allow
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "time_to_quality.png"


class Clock:
    """Curve and training time, stopped during validation."""

    def __init__(self, budget: float) -> None:
        self.budget, self.curve = budget, []
        self.wall = self.cpu = 0.0
        self.go_on()

    def go_on(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu

    def note(self, r2: float) -> bool:
        """Add a point; return True if the time is used up."""
        self.curve.append(
            {"cpu_seconds": round(self.cpu, 2), "seconds": round(self.wall, 2), "r2": round(r2, 4)}
        )
        print(self.curve[-1], file=sys.stderr, flush=True)
        return self.cpu > self.budget


def r2(x_ng: np.ndarray, x_hat_ng: np.ndarray) -> float:
    """Compute the share of variance over all entries that is explained."""
    left = np.square(x_ng - x_hat_ng, dtype=np.float64).sum()
    return float(1.0 - left / np.square(x_ng - x_ng.mean(dtype=np.float64), dtype=np.float64).sum())


def settings(folder: Path) -> dict[str, Any]:
    """Compose the config of a training run in a folder."""
    work = Workload(0, BATCH, ("data=gtex_v6_shared", f"paths.data={folder}", f"paths.outputs={folder}"))
    return work.config("null")


def matrices(folder: Path) -> list[np.ndarray]:
    """Load standardized training and validation samples, center and scale."""
    return [np.load(folder / f"{name}.npy") for name in ("train", "val", "center", "scale")]


def ours(folder: Path, budget: float) -> Clock:
    """Train with the package, stopped by a callback."""
    from lightning.pytorch import Callback

    from gtex_vae.training import environment

    environment.quiet_libraries()
    clock = Clock(budget)

    class Watch(Callback):
        done = False

        def on_validation_start(self, *_: Any) -> None:
            clock.stop()

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            self.done = clock.note(float(trainer.callback_metrics["val/r2"]))
            clock.go_on()

    train_watched(settings(folder), folder / "run", Watch(), before_pca=clock.go_on)
    return clock


def published_loop(folder: Path, budget: float) -> Clock:
    """Run the published loop on genes, measured once per epoch."""
    import torch

    x_train_ng, x_val_ng, *_ = matrices(folder)
    work = Workload(x_train_ng.shape[1], BATCH, ("+experiment=seed_64",))
    clock = Clock(budget)
    loop = published(work, 0, torch.from_numpy(x_train_ng))
    clock.go_on()
    for reconstruct in loop:
        clock.stop()
        if clock.note(r2(x_val_ng, reconstruct(torch.from_numpy(x_val_ng)).numpy())):
            break
        clock.go_on()
    return clock


def scvi(folder: Path, budget: float) -> Clock:
    """scvi-tools' SCVI."""
    import anndata
    import torch
    from lightning.pytorch import Callback
    from scvi.model import SCVI

    x_train_ng, x_val_ng, center_g, scale_g = matrices(folder)
    train, val = (
        anndata.AnnData(np.maximum(x_ng * scale_g + center_g, 0.0)) for x_ng in (x_train_ng, x_val_ng)
    )
    SCVI.setup_anndata(train)
    model = SCVI(
        train, n_hidden=2048, n_latent=LATENT, n_layers=2, gene_likelihood="normal", log_variational=False
    )
    clock = Clock(budget)

    @torch.no_grad()
    def reconstruct() -> np.ndarray:
        model.module.eval()
        parts = []
        for tensors in model._make_data_loader(adata=model._validate_anndata(val), batch_size=512):
            found = model.module.inference(**model.module._get_inference_input(tensors))
            found["z"] = found["qz"].loc
            made = model.module.generative(**model.module._get_generative_input(tensors, found))
            parts.append(made["px"].loc.numpy())
        model.module.train()
        return (np.concatenate(parts) - center_g) / scale_g

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            clock.stop()
            trainer.should_stop |= clock.note(r2(x_val_ng, reconstruct()))
            clock.go_on()

    clock.go_on()
    model.train(
        max_epochs=EPOCHS, accelerator="cpu", devices=1, train_size=1.0, batch_size=BATCH, callbacks=[Watch()],
        enable_progress_bar=False, plan_kwargs={"n_epochs_kl_warmup": 20}, logger=False,
    )  # fmt: skip
    return clock


def pca(folder: Path, budget: float) -> Clock:
    """scikit-learn's PCA."""
    from sklearn import decomposition

    x_train_ng, x_val_ng, *_ = matrices(folder)
    clock = Clock(budget)
    fitted = decomposition.PCA(LATENT, svd_solver="randomized", random_state=0).fit(x_train_ng)
    clock.stop()
    clock.note(r2(x_val_ng, fitted.inverse_transform(fitted.transform(x_val_ng))))
    return clock


METHODS: dict[str, Callable[[Path, float], Clock]] = {
    PCA: pca,
    "ours (default model)": ours,
    "published loop": published_loop,
    "scvi-tools SCVI, normal": scvi,
}


def prepare(folder: Path) -> None:
    """Split and standardize the data for the other methods."""
    from gtex_vae.config import build

    data = build(settings(folder)["data"], under="gtex_vae.data")
    data.prepare_data()
    data.setup()
    for split in ("train", "val"):
        np.save(folder / f"{split}.npy", data.expression(split).numpy())
    for name in ("center", "scale"):
        np.save(folder / f"{name}.npy", getattr(data.scaler, f"{name}_g").numpy())


def reached(curve: list[dict[str, float]], level: float) -> dict[str, float] | None:
    """Return the first point at or above a level."""
    return next((point for point in curve if point["r2"] >= level), None)


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw R2 against CPU seconds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in curves.items():
        x, y = ([point[key] for point in curve] for key in ("cpu_seconds", "r2"))
        label = name if max(y) > 0.0 else f"{name}: below 0"
        if name == PCA:
            axes.axhline(y[0], color="0.5", linewidth=1, linestyle="--", label=label)
        else:
            axes.plot(x, y, marker="o", markersize=4, label=label)
    axes.set(xlabel="CPU seconds of training, one thread", ylabel="R2, validation donors", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the methods, write the curves and draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="CPU seconds of training for each method"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--scvi", default=sys.executable, help="a Python that has scvi-tools, if not this one"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument(
        "--result", type=Path, default=Path(__file__).parent / "results" / "time_to_quality.json"
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(METHODS[arguments.one[0]](Path(arguments.one[1]), arguments.seconds).curve))
        return
    curves, loads = {}, []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in arguments.methods:
            loads.append(os.getloadavg()[0])
            python = arguments.scvi if METHODS[name] is scvi else sys.executable
            done = subprocess.run(
                [python, __file__, "--one", name, folder, "--seconds", str(arguments.seconds)],
                env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            curves[name] = json.loads(done.stdout.splitlines()[-1])
    versions = {}
    if scvi in (METHODS[name] for name in arguments.methods):
        ask = "from importlib.metadata import version; print(version('scvi-tools'))"
        versions["scvi-tools"] = subprocess.check_output([arguments.scvi, "-c", ask], text=True).strip()
    level = curves[PCA][0]["r2"] if PCA in curves else 1.0
    result = {
        "command": " ".join(
            ["python", "benchmarks/time_to_quality.py", *(Path(a).name for a in sys.argv[1:])]
        ),
        "curves": curves,
        "reached_pca": {name: reached(curve, level) for name, curve in curves.items()},
        "machine": {
            **machine(loads, ("torch", "lightning", "scikit-learn")),
            **versions,
            "threads": arguments.threads,
        },
    }
    write(arguments.result, result)
    draw(curves, arguments.figure)
    for name, curve in curves.items():
        at, best = result["reached_pca"][name], max(point["r2"] for point in curve)
        print(f"{name:28s} best R2 {best:.4f}; PCA's after {at['cpu_seconds'] if at else '-'} CPU s")


if __name__ == "__main__":
    main()
