"""Time of a training step: the published loop, a plain loop with our arithmetic, and the package's trainer.

    python benchmarks/train_step.py [--work published] [--rounds 3] [--steps 10] [--device cuda]

``published``: 19,797 genes, 4096-2048-1024-512-256, 64 latent dimensions, batch 128. ``default``: the default model on
1,024 principal components, four members, without the published loop. ``contrastive``: the default model with either
contrastive term and without. Each measurement runs in its own process, because allocator settings are per process (on a GPU
all share one). Methods alternate, so that a busy machine affects all of them. Wall seconds are only meaningful on an idle
machine; otherwise use OMP_NUM_THREADS=1 and CPU seconds. ``small`` uses CPU seconds in one process, alternating step by
step. On a GPU, a step is the mean over a block, and ``--steps`` counts blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from loops import (
    WORKLOADS,
    by_hand,
    limit,
    ours,
    published,
    teraflops_of_a_step,
    teraflops_of_the_card,
    timed,
)
from record import machine, write

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
RESULTS = Path(__file__).parent / "results"


def methods(work: str, device: str) -> dict[str, Callable[[int], Any]]:
    """Return the methods by name, as functions of the number of steps."""
    if work == "contrastive":
        return {
            name: lambda steps, name=name: ours(WORKLOADS[name], steps, PRECISIONS["bf16"], device=device)[
                "ours"
            ]
            for name in ("default", "tissue", "views")
        }
    load = WORKLOADS[work]
    of: dict[str, Callable[[int], Any]] = {}
    if work == "published":
        of["published loop fp32"] = lambda steps: timed(published(load, steps, device=device), device)
    for name, precision in PRECISIONS.items():
        of[f"by hand {name}"] = lambda steps, p=precision: timed(by_hand(load, steps, p, device), device)
        of[f"ours {name}"] = lambda steps, p=precision: ours(load, steps, p, device=device)["ours"]
    return of


def one(work: str, name: str, steps: int, device: str) -> list[Any]:
    """Run the steps of one method. Only the published loop keeps the default allocator settings."""
    from gtex_vae import runtime
    from gtex_vae.training import environment

    if name.startswith("published loop"):
        import torch

        torch.set_num_threads(runtime.available_cpus())
        torch.set_float32_matmul_precision("highest")
    else:
        runtime.tune_process()
    environment.quiet_libraries()
    if name.startswith("limit"):
        return [limit(WORKLOADS[work], PRECISIONS[name.split()[-1]], device)]
    found: list[Any] = methods(work, device)[name](steps)
    return found


def in_a_process(*of: object) -> list[Any]:
    """Run `one` in its own process."""
    options = zip(("--work", "--one", "--steps", "--device"), map(str, of), strict=True)
    command = [sys.executable, __file__, *(word for option in options for word in option)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def small(steps: int) -> dict[str, Any]:
    """Alternate the loops in one process with one thread."""
    import torch

    from gtex_vae import runtime
    from gtex_vae.training import environment

    runtime.tune_process()
    environment.quiet_libraries()
    torch.set_num_threads(1)
    load = WORKLOADS["small"]
    others = {"published loop": published(load, steps + 1), "by hand": by_hand(load, steps + 1, "32-true")}
    took = ours(load, steps, "32-true", others)
    return {"cpu_seconds": {name: [cpu for _, cpu in of] for name, of in took.items()}}


def in_turn(work: str, rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Measure the median step of each method in each round."""
    names = list(methods(work, device))
    if work != "contrastive":
        names += [f"limit {name}" for name in PRECISIONS]
    batch = WORKLOADS["default" if work == "contrastive" else work].batch
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found = (in_a_process if device == "cpu" else one)(work, name, steps, device)
            wall[name].append(median(step[0] for step in found))
            cpu[name].append(median(step[1] for step in found))
            print(
                f"{name:20s} {wall[name][-1]:8.4f} s, {cpu[name][-1]:8.4f} CPU s", file=sys.stderr, flush=True
            )
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "samples_per_second": {name: batch / median(of) for name, of in wall.items()},
    }


def of_the_card(work: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Describe the GPU, and the share of its peak rate that a step's matrix products reach."""
    import torch

    rate = {name: teraflops_of_the_card(precision) for name, precision in PRECISIONS.items()}
    load = WORKLOADS["default" if work == "contrastive" else work]
    needs = {name: teraflops_of_a_step(load, precision) for name, precision in PRECISIONS.items()}
    return {
        "gpu": torch.cuda.get_device_name(),
        "teraflops_of_the_card": rate,
        "teraflops_of_a_step": needs,
        "utilisation": {
            name: needs[end] / median(of) / rate[end]
            for name, of in seconds.items()
            for end in rate
            if name.endswith(end)
        },
    }


def main() -> None:
    """Run the methods in alternation and write every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", choices=("published", "default", "contrastive", "small"), default="published"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work: str = arguments.work
    if arguments.one:
        print(json.dumps(one(work, arguments.one, arguments.steps, arguments.device)))
        return
    before = os.getloadavg()[0]
    if work == "small":
        found = small(arguments.steps)
    else:
        found = in_turn(work, arguments.rounds, arguments.steps, arguments.device)
    if arguments.device == "cuda":
        found |= of_the_card(work, found["seconds"])
    result = {
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        **found,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "machine": machine([before, os.getloadavg()[0]], ("torch", "lightning")),
    }
    name = "_".join(["train_step", *[work] * (work != "published"), *["gpu"] * (arguments.device == "cuda")])
    write(arguments.result or RESULTS / f"{name}.json", result)


if __name__ == "__main__":
    main()
