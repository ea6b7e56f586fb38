"""Validation curves of the fast path and of plain float32 on GTEx v6, over seeds.

    OMP_NUM_THREADS=1 python benchmarks/fast_path.py [--seeds 0 1 2 3 4] [--epochs 10] [key=value ...]

Fast: the default model as ``gtex_vae.train`` trains it: bfloat16 products if the processor supports them, reused buffers and
the fused optimizer. Plain: the same command in float32 with torch's linear layers, the unfused optimizer and the default
allocator. Both have the same split, seeds and order of batches. R2 and ELBO of validation donors are measured after every
epoch. Trainings run in processes of their own, in alternation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from loops import Workload, train_watched
from record import machine, write

WAYS: dict[str, tuple[str, ...]] = {
    "fast": (),
    "plain": ("optimizer.fused=false", "+optimizer.foreach=false"),
}
KEYS = ("val/r2", "val/loss")
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "fast_path.png"
RESULT = Path(__file__).parent / "results" / "fast_path.json"


def one(way: str, overrides: list[str]) -> dict[str, Any]:
    """Train in this process; return the curve, CPU seconds, and the share of validation."""
    from lightning.pytorch import Callback

    from gtex_vae import runtime
    from gtex_vae.nn import linear
    from gtex_vae.training import environment

    environment.quiet_libraries()
    if way == "plain":
        linear.LARGE = sys.maxsize  # no layer is so large
        runtime.tune_process = lambda: None
    curve: list[dict[str, float]] = []

    class Watch(Callback):
        validating = 0.0

        def on_train_start(self, *_: Any) -> None:
            self.start = time.process_time()

        def on_validation_start(self, *_: Any) -> None:
            self.since = time.process_time()

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            self.now = time.process_time()
            self.validating += self.now - self.since
            curve.append({key: round(float(trainer.callback_metrics[key]), 6) for key in KEYS})

    with tempfile.TemporaryDirectory() as folder:
        work = Workload(0, 0, ("data=gtex_v6_shared", f"paths.outputs={folder}", *WAYS[way], *overrides))
        config = work.config("null" if way == "fast" else "32-true")
        watch = Watch()
        train_watched(config, Path(folder, "run"), watch)
    return {
        "curve": curve,
        "cpu_seconds": round(time.process_time()),
        "validation_share": round(watch.validating / (watch.now - watch.start), 3),
    }


def compared(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Compute per epoch and metric the mean of fast minus plain, its standard error, and the standard deviation of plain."""
    rows = []
    for epoch in range(len(runs["plain"][0]["curve"])):
        row: dict[str, Any] = {"epoch": epoch + 1}
        for key in KEYS:
            fast, plain = ([run["curve"][epoch][key] for run in runs[way]] for way in WAYS)
            minus = [a - b for a, b in zip(fast, plain, strict=True)]
            row[key] = {
                "plain": round(mean(plain), 5), "fast_minus_plain": round(mean(minus), 5),
                "standard_error": round(stdev(minus) / len(minus) ** 0.5, 5), "spread_of_seeds": round(stdev(plain), 5),
            }  # fmt: skip
        rows.append(row)
    return rows


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the curves of all seeds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(KEYS), figsize=(9, 3.2), layout="constrained")
    for axes, key in zip(panels, KEYS, strict=True):
        for way, style in zip(WAYS, ("C0-", "C1--"), strict=True):
            for number, run in enumerate(runs[way]):
                values = [point[key] for point in run["curve"]]
                axes.plot(
                    range(1, len(values) + 1), values, style, linewidth=1, label=None if number else way
                )
        axes.set(xlabel="epoch", title=f"{key}, validation donors")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train both ways for each seed, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.overrides)))
        return
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    loads = []
    for seed in arguments.seeds:
        for way in WAYS:
            loads.append(os.getloadavg()[0])
            of_run = [f"seed={seed}", f"trainer.max_epochs={arguments.epochs}", *arguments.overrides]
            done = subprocess.run(
                [sys.executable, __file__, "--one", way, *of_run],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            runs[way].append({"seed": seed, **json.loads(done.stdout.splitlines()[-1])})
            print(
                way,
                seed,
                runs[way][-1]["curve"][-1],
                runs[way][-1]["cpu_seconds"],
                file=sys.stderr,
                flush=True,
            )
        result = {
            "command": " ".join(["python", "benchmarks/fast_path.py", *sys.argv[1:]]),
            "epochs": compared(runs) if len(runs["plain"]) > 1 else [],
            "runs": runs,
            "machine": machine(loads, ("torch", "lightning")),
        }
        write(arguments.result, result)
    draw(runs, arguments.figure)
    last = result["epochs"][-1]
    print(json.dumps(last, indent=1))


if __name__ == "__main__":
    main()
