"""Time and memory to load a processed file of GTEx size, compared with reading its bytes.

Each method runs several times in a process of its own, in alternation. Seconds are those of the fastest runs without
imports. Peak memory excludes imports. The file is in the page cache.

    python benchmarks/load.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import machine, write

SAMPLES = 17_382
GENES = 19_800


def generate(path: Path, samples: int, genes: int) -> None:
    """Write a processed .h5ad: genes at levels of their own, sixteen factors, 18 samples a donor."""
    import numpy as np
    import pandas as pd

    from gtex_vae.data.expression_file import write_expression

    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical([f"D{at // 18}" for at in range(samples)]),
            "tissue": pd.Categorical([f"T{at % 18}" for at in range(samples)]),
        },
        index=[f"S{at}" for at in range(samples)],
    )
    var = pd.DataFrame(
        {"gene_name": [f"G{at}" for at in range(genes)]}, index=[f"ENSG{at:011d}" for at in range(genes)]
    )
    level_g = rng.uniform(0, 9, genes).astype(np.float32)
    weight_fg = rng.standard_normal((16, genes), dtype=np.float32) * np.float32(0.4)
    with write_expression(path, obs, var, unit="log2(TPM+1)") as file:
        for start in range(0, samples, 1000):
            n = min(1000, samples - start)
            x_ng = level_g + rng.standard_normal((n, 16), dtype=np.float32) @ weight_fg
            x_ng += rng.standard_normal((n, genes), dtype=np.float32) * np.float32(0.5)
            file.write(slice(start, start + n), X=np.maximum(x_ng, 0))


def plain(path: Path) -> None:
    """Read the bytes of the matrix into an array."""
    import h5py
    import numpy as np

    with h5py.File(path) as file:
        offset, shape = file["X"].id.get_offset(), file["X"].shape
    x_ng = np.empty(shape, np.float32)
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        view = memoryview(x_ng).cast("B")
        while len(view):
            view = view[file.readinto(view) :]


def setup(path: Path) -> None:
    """Read, check, split by donor and standardize, as training does."""
    from gtex_vae.data.datamodule import ExpressionDataModule

    ExpressionDataModule("full", str(path)).setup()


READERS = {"plain": plain, "setup": setup}


def measure(name: str, path: Path) -> None:
    """Body of one process."""
    import anndata  # noqa: F401

    import gtex_vae.data.datamodule  # noqa: F401
    from gtex_vae.runtime import tune_process

    tune_process()  # as training does: it also changes how memory is had
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, time.perf_counter()
    work = time.process_time()
    READERS[name](path)
    print(
        json.dumps(
            {
                "seconds": round(time.perf_counter() - start, 3),
                "cpu_seconds": round(time.process_time() - work, 3),
                "imports_gb": round(before, 3),
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 - before, 3),
            }
        )
    )


def main() -> None:
    """Generate, measure in turn, print the table and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "load.json")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return

    runs: dict[str, list[dict]] = {name: [] for name in READERS}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.h5ad"
        generate(path, arguments.samples, arguments.genes)
        for _ in range(arguments.repeats):
            for name in READERS:
                loads.append(os.getloadavg()[0])
                done = subprocess.run(
                    [sys.executable, __file__, "--measure", name, str(path)],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                runs[name].append(json.loads(done.stdout))
                print(name, runs[name][-1], file=sys.stderr)
    matrix_gb = 4 * arguments.samples * arguments.genes / 1e9
    best = {name: min(run["seconds"] for run in of) for name, of in runs.items()}
    peak = max(run["peak_gb"] for run in runs["setup"])
    result = {
        "command": "python benchmarks/load.py " + " ".join(Path(word).name for word in sys.argv[1:]),
        "matrix": [arguments.samples, arguments.genes],
        "matrix_gb": round(matrix_gb, 3),
        "seconds": best,
        "cpu_seconds": {name: min(run["cpu_seconds"] for run in of) for name, of in runs.items()},
        "setup_over_plain": round(best["setup"] / best["plain"], 2),
        "peak_over_matrix": round(peak / matrix_gb, 3),
        "runs": runs,
        "machine": machine(loads, ("numpy", "torch", "anndata", "h5py")),
    }
    write(arguments.result, result)
    print(
        f"setup {best['setup']:.2f} s, the bytes alone {best['plain']:.2f} s, "
        f"peak {peak:.2f} GB of a matrix of {matrix_gb:.2f} GB"
    )


if __name__ == "__main__":
    main()
