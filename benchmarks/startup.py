"""Startup time of each stage: imports by package, and a tiny run.

    python benchmarks/startup.py [--repeats 3] [--jobs 100]

Each stage runs like a job in a new process, on data so small that startup dominates. The first run fills the page cache and is
not counted. Import times are those of ``python -X importtime``, summed by package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from record import write

SOURCE = Path(__file__).parents[1] / "src"
TINY = (
    "data.prepare.n_samples=300", "data.prepare.n_genes=200", "data.batch_size=32", "model.hidden_dims=[32]",
    "model.latent_dim=8", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
)  # fmt: skip
STAGES = {
    "preprocess": (*TINY[:2],),
    "train": TINY,
    "pseudobulk": ("data.prepare.n_donors=4", "data.prepare.n_genes=60", "data.prepare.cells_per_donor=60"),
    "encode": ("run=latest", "input=data/processed/demo.h5ad"),
    "evaluate": ("run=latest",),
    "analyze": ("run=latest",),
}
SHOWN = 8


def run(folder: Path, module: str, arguments: tuple[str, ...], *flags: str) -> tuple[float, str]:
    """Run a command; return seconds and stderr."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *flags, "-m", module, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.stderr


def imports(stderr: str) -> Counter[str]:
    """Sum import times by top package."""
    seconds: Counter[str] = Counter()
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", stderr, re.MULTILINE):
        seconds[name.split(".")[0]] += int(own) / 1e6
    return seconds


def measure(repeats: int) -> dict[str, object]:
    """Measure all stages in order."""
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for stage, arguments in STAGES.items():
            module = f"gtex_vae.{stage}"
            run(folder, module, arguments)
            wall = min(run(folder, module, arguments)[0] for _ in range(repeats))
            found = imports(run(folder, module, arguments, "-X", "importtime")[1])
            config = min(run(folder, module, (*arguments, "--cfg", "job"))[0] for _ in range(repeats))
            result[stage] = {
                "tiny_run_s": round(wall, 2),
                "until_the_config_is_composed_s": round(config, 2),
                "imports_s": round(sum(found.values()), 2),
                "imports_by_package_s": {name: round(value, 2) for name, value in found.most_common(SHOWN)},
            }
            print(stage, json.dumps(result[stage]), flush=True)
    return result


def submission(folder: Path, jobs: int) -> float | None:
    """Measure the seconds to submit a sweep to SLURM; ``None`` without SLURM."""
    if subprocess.run("sinfo", shell=True, capture_output=True).returncode != 0:
        return None
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "gtex_vae.train", "-m", "hydra/launcher=slurm_cpu", f"seed=range({jobs})",
         "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "+hydra.launcher.additional_parameters={hold: true}"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"submitted \d+ job\(s\), (\d+)", line):
                seconds = time.perf_counter() - start
                process.kill()
                subprocess.run(["scancel", found.group(1)], check=True)
                return seconds
    raise RuntimeError("nothing was submitted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = submission(Path(folder), given.jobs)
    result = {
        "command": " ".join(["python", "benchmarks/startup.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        f"submitting_{given.jobs}_jobs_s": None if seconds is None else round(seconds, 1),
        "stages": measure(given.repeats),
    }
    write(given.result, result)


if __name__ == "__main__":
    main()
