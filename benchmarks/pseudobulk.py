"""Pseudobulk of 1.2 million simulated cells, streamed from disk, compared with a pandas groupby.

Every method runs in its own process, in alternation; times are those of the fastest runs. pandas needs a dense matrix, so both
methods are timed on the first cells only. The cells of 100 donors are simulated, and repeated under other names until
there are enough donors.

    python benchmarks/pseudobulk.py
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

DONORS, CELLS, GENES, CELL_TYPES = 981, 1_200_000, 2000, 29
SIMULATED_DONORS = 100


def generate(path: Path, cells: int) -> None:
    """Write the cells, donor after donor, without ever holding them all."""
    import anndata as ad
    import h5py
    import pandas as pd
    from anndata.io import sparse_dataset, write_elem

    from gtex_vae.data.simulate.cells import simulate_singlecell

    donors = min(DONORS, SIMULATED_DONORS)
    few = simulate_singlecell(
        n_donors=donors, n_cell_types=CELL_TYPES, cells_per_donor=round(cells / DONORS), n_genes=GENES
    )
    tables = []
    ad.AnnData(few.X[:0], var=few.var[["gene_name", "biotype"]]).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        for copy in range(-(-DONORS // donors)):
            kept = few.obs["donor"].cat.codes.to_numpy(int) + copy * donors < DONORS
            block = few[kept]
            tables.append(block.obs.assign(donor=f"{copy}_" + block.obs["donor"].astype(str)))
            if copy == 0:
                # an empty matrix would get chunks of one value, which cost a kilobyte each to read
                write_elem(file, "X", block.X)
            else:
                sparse_dataset(file["X"]).append(block.X)
        obs = pd.concat(tables)
        obs["donor"] = obs["donor"].astype("category")
        obs.index = [f"cell{at}" for at in range(len(obs))]
        del file["obs"]
        write_elem(file, "obs", obs)
    print(json.dumps({"cells": len(obs), "donors": int(obs["donor"].nunique())}))


def streamed(path: Path) -> list[int]:
    """Make donors, profiles and mixtures as the stage does."""
    from gtex_vae.data.single_cell.pseudobulk import make_pseudobulk

    made = make_pseudobulk(path)
    return [*made.donors.shape, *made.profiles.shape]


def streamed_sums(path: Path) -> list[int]:
    """Add up each donor's cell types and no more: what the groupby does."""
    from gtex_vae.data.single_cell.cells import open_cells
    from gtex_vae.data.single_cell.groups import group_cells
    from gtex_vae.data.single_cell.sums import sum_groups

    with open_cells(path) as cells:
        grouping = group_cells(cells.obs["donor"], cells.obs["cell_type"], None, "cells")
        return list(sum_groups(cells, grouping.group_i, len(grouping.key_s)).shape)


def pandas_groupby(path: Path) -> list[int]:
    """Add up each donor's cell types in a data frame."""
    import anndata as ad
    import pandas as pd

    cells = ad.read_h5ad(path)
    frame = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    keys = [cells.obs["donor"].to_numpy(), cells.obs["cell_type"].to_numpy()]
    return list(frame.groupby(keys, observed=True).sum().shape)


WAYS = {"streamed": streamed, "streamed_sums": streamed_sums, "pandas_groupby": pandas_groupby}


def measure(name: str, path: Path) -> None:
    """Body of one process: import, run, print seconds and peak memory."""
    import anndata  # noqa: F401
    import pandas  # noqa: F401

    import gtex_vae.data.single_cell.pseudobulk  # noqa: F401

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = time.perf_counter()
    shape = WAYS[name](path)
    seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": round(seconds, 2), "peak_gb": round(peak * 1024 / 1e9, 3),
                      "imports_gb": round(imported * 1024 / 1e9, 3), "shape": shape}))  # fmt: skip


def child(*arguments: str) -> dict:
    """Run this script in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Generate, measure in turn, write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--subset", type=int, default=100_000, help="cells of the comparison with pandas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "pseudobulk.json")
    parser.add_argument("--generate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(arguments.generate, arguments.cells)
        return
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return

    runs: dict[str, list[dict]] = {"streamed": [], "subset_streamed_sums": [], "subset_pandas_groupby": []}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        whole, subset = Path(folder) / "cells.h5ad", Path(folder) / "subset.h5ad"
        facts = child("--cells", str(arguments.cells), "--generate", str(whole))
        few = child("--cells", str(arguments.subset), "--generate", str(subset))
        facts["file_gb"] = round(whole.stat().st_size / 1e9, 2)
        for _ in range(arguments.repeats):
            for name in runs:
                loads.append(os.getloadavg()[0])
                path = subset if name.startswith("subset_") else whole
                runs[name].append(child("--measure", name.removeprefix("subset_"), str(path)))
                print(name, runs[name][-1], file=sys.stderr)
    best = {name: min(run["seconds"] for run in done) for name, done in runs.items()}
    peak = {name: max(run["peak_gb"] for run in done) for name, done in runs.items()}
    result = {
        "command": " ".join(["python benchmarks/pseudobulk.py", *sys.argv[1:]]),
        **facts,
        "genes": GENES,
        "cell_types": CELL_TYPES,
        "subset_cells": few["cells"],
        "seconds": best,
        "peak_gb": peak,
        "ratios_on_subset": {
            "pandas_over_streamed_seconds": round(
                best["subset_pandas_groupby"] / best["subset_streamed_sums"], 2
            ),
            "pandas_over_streamed_peak": round(
                peak["subset_pandas_groupby"] / peak["subset_streamed_sums"], 2
            ),
        },
        "runs": runs,
        "machine": machine(loads, ("numpy", "scipy", "pandas", "anndata", "h5py")),
    }
    write(arguments.result, result)
    print(
        json.dumps(
            {key: result[key] for key in ("cells", "seconds", "peak_gb", "ratios_on_subset")}, indent=1
        )
    )


if __name__ == "__main__":
    main()
