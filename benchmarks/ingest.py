"""Reading a GCT of GTEx size: this package compared with pandas.read_csv and with decompression alone.

Every reader runs several times in its own process, in alternation, so that a busy machine affects all of them. Ratios are of
the fastest runs. Imports and loading of compiled code are measured separately on a tiny file. CPU seconds of all threads
estimate the time on a machine without a free second core.

    python benchmarks/ingest.py --rows 1500
    python benchmarks/ingest.py --rows 56200 --repeats 1 --without-pandas --result benchmarks/results/ingest_full.json
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
GENES = 56_200
# protein-coding genes of GENCODE v26, as in GTEx v8: a third of the rows
CODING = 19_800
VALUES_IN_POOL = 1 << 20
# then rows repeat, which does not affect gzip: its window is half a row
DISTINCT_ROWS = 1500


def generate(path: Path, rows: int, samples: int) -> None:
    """Write a GCT whose numbers are spread like TPM: four digits, half of them zero, genes at their own level."""
    import numpy as np
    from isal import igzip
    from tqdm import tqdm

    rng = np.random.default_rng(0)
    values = np.sort(np.exp(rng.normal(0, 3.2, VALUES_IN_POOL)))
    text = np.array([b"%.4g" % value if value < 1e4 else b"%d" % value for value in values], object)
    logs = np.log(values)
    names = [b"GTEX-%05d-%04d-SM-%05d" % (at // 18, at % 18, at) for at in range(samples)]
    with igzip.open(path, "wb", compresslevel=3) as file:
        file.write(b"#1.2\n%d\t%d\n" % (rows, samples))
        file.write(b"Name\tDescription\t" + b"\t".join(names) + b"\n")
        bodies: list[bytes] = []
        for row in tqdm(range(rows), desc="generating", mininterval=5, delay=2, leave=False):
            if row < DISTINCT_ROWS:
                silent = rng.random()
                level, zeros = (
                    (-6, 0.9)
                    if silent < 0.35
                    else (-2, 0.4)
                    if silent < 0.6
                    else (rng.normal(1.7, 1.8), 0.01)
                )
                at = np.searchsorted(logs, rng.normal(level, 0.7, samples)).clip(0, VALUES_IN_POOL - 1)
                fields = text[at]
                fields[rng.random(samples) < zeros] = b"0"
                bodies.append(b"\t".join(fields.tolist()) + b"\n")
            file.write(b"ENSG%011d.%d\tSYM%d\t" % (row, row % 9, row) + bodies[row % DISTINCT_ROWS])


def decompress(path: Path) -> tuple[int, ...]:
    """Decompress with the fastest decompressor at hand, and throw the text away."""
    from isal import igzip

    size = 0
    with igzip.open(path, "rb") as file:
        while block := file.read(4 << 20):
            size += len(block)
    return (size,)


def gtex_vae_all(path: Path) -> tuple[int, ...]:
    """Read every gene."""
    from gtex_vae.data.readers import read_matrix

    return read_matrix(path).x_ng.shape


def gtex_vae_coding(path: Path) -> tuple[int, ...]:
    """Read the share of genes that are protein-coding."""
    from gtex_vae.data.readers import read_matrix

    # evenly spread over the file, like coding genes
    return read_matrix(
        path,
        keep_gene=lambda gene, _: (
            int(gene[4:15]) * CODING // GENES != (int(gene[4:15]) + 1) * CODING // GENES
        ),
    ).x_ng.shape


def pandas_all(path: Path) -> tuple[int, ...]:
    """Read every gene as most people do."""
    import numpy as np
    import pandas as pd

    frame = pd.read_csv(path, sep="\t", skiprows=2, index_col=[0, 1])
    return np.ascontiguousarray(frame.to_numpy(np.float32).T).shape


READERS = {
    "decompress": decompress,
    "gtex_vae_coding": gtex_vae_coding,
    "gtex_vae_all": gtex_vae_all,
    "pandas_all": pandas_all,
}


def measure(name: str, path: Path, tiny: Path) -> None:
    """Body of one process: start on a tiny file, read, print seconds, peak memory and shape."""
    before = time.perf_counter()
    READERS[name](tiny)
    start, work = time.perf_counter(), time.process_time()
    shape = READERS[name](path)
    seconds, work = time.perf_counter() - start, time.process_time() - work
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    times = {
        "start_seconds": round(start - before, 3),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(work, 3),
        "peak_gb": round(peak, 3),
    }
    print(json.dumps({**times, "shape": shape}))


def child(*arguments: str) -> str:
    """Run this script in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def main() -> None:
    """Generate, measure in turn, print the table and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1500, help="genes (GTEx v8 has 56,200)")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--file", type=Path, help="a GCT.gz of your own instead of a generated one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--without-pandas", action="store_true", help="pandas needs tens of gigabytes for the full file"
    )
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "ingest.json")
    parser.add_argument("--generate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(arguments.generate, arguments.rows, arguments.samples)
        return
    if arguments.measure:
        measure(arguments.measure[0], *map(Path, arguments.measure[1:]))
        return

    readers = [name for name in READERS if not (arguments.without_pandas and name == "pandas_all")]
    runs: dict[str, list[dict]] = {name: [] for name in readers}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "matrix.gct.gz"
        tiny = Path(folder) / "tiny.gct.gz"
        child("--rows", "10", "--samples", "9", "--generate", str(tiny))
        if arguments.file is None:
            child("--rows", str(arguments.rows), "--samples", str(arguments.samples), "--generate", str(path))
        compressed = path.stat().st_size
        for _ in range(arguments.repeats):
            for name in readers:
                loads.append(os.getloadavg()[0])
                runs[name].append(json.loads(child("--measure", name, str(path), str(tiny))))
                print(name, runs[name][-1], file=sys.stderr)

    best = {name: min(run["seconds"] for run in all_runs) for name, all_runs in runs.items()}
    ratios = {
        f"{name}_over_decompression": best[name] / best["decompress"]
        for name in readers
        if name != "decompress"
    }
    if "pandas_all" in best:
        ratios["pandas_all_over_gtex_vae_all"] = best["pandas_all"] / best["gtex_vae_all"]
    result = {
        "command": "python benchmarks/ingest.py " + " ".join(Path(word).name for word in sys.argv[1:]),
        "matrix": {name: all_runs[0]["shape"] for name, all_runs in runs.items() if name != "decompress"},
        "compressed_gb": round(compressed / 1e9, 3),
        "text_gb": round(runs["decompress"][0]["shape"][0] / 1e9, 3),
        "seconds": best,
        "cpu_seconds": {name: min(run["cpu_seconds"] for run in all_runs) for name, all_runs in runs.items()},
        "start_seconds": {
            name: min(run["start_seconds"] for run in all_runs) for name, all_runs in runs.items()
        },
        "peak_gb": {name: max(run["peak_gb"] for run in all_runs) for name, all_runs in runs.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "runs": runs,
        "machine": machine(loads, ("numpy", "pandas", "isal", "numba")),
    }
    write(arguments.result, result)
    print(f"{'':18}{'start s':>9}{'seconds':>9}{'CPU s':>9}{'peak GB':>9}{'/ decompression':>17}")
    for name in readers:
        print(
            f"{name:18}{result['start_seconds'][name]:9.2f}{best[name]:9.2f}{result['cpu_seconds'][name]:9.2f}{result['peak_gb'][name]:9.2f}{best[name] / best['decompress']:17.2f}"
        )
    if "pandas_all" in best:
        print(f"pandas / gtex_vae: {best['pandas_all'] / best['gtex_vae_all']:.1f}")


if __name__ == "__main__":
    main()
