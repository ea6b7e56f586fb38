"""Contrastive learning compared with baselines: three tables.

    python benchmarks/contrastive.py demo [--cell-seed 2]     # 981 simulated donors, 29 cell types
    python benchmarks/contrastive.py pbmc [--splits 10]       # 40 donors of OneK1K
    python benchmarks/contrastive.py gtex [--seeds 0 1 2]     # terms of tissue and views on GTEx v6, compared with no term

``demo`` and ``pbmc`` use the VAE of ``--run``, or train one first (on the demo or GTEx v6). OneK1K has few donors: each split
holds out a quarter, and a donor's value is the mean over the splits that hold it out. Intervals resample donors. All steps
run the package's commands; further ``key=value`` arguments go to training.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from record import machine, write

from gtex_vae.analysis.metrics.bootstrap import draw_donors
from gtex_vae.paths import shared_dir

RESULTS = Path(__file__).parent / "results"
METHODS = {"": "model", "baseline/vae/": "vae", "baseline/pca/": "pca", "baseline/expression/": "expression"}
PBMC = "onek1k/onek1k_40donors_1000genes.h5ad"
PBMC_OVERLAP = 0.05  # of the model's 7,039 genes the extract of OneK1K has 524
TERMS = {
    "plain": [],
    "tissue": ["+experiment=contrastive_tissue"],
    "views": ["+experiment=contrastive_views"],
}
KEYS = (
    "reconstruction/r2", "imputation/r2_05", "imputation/r2_20", "imputation/r2_50", "tissue/knn_accuracy",
    "tissue/logreg_accuracy", "rate/kl_nats",
)  # fmt: skip


def run(*command: str) -> None:
    """Run one of the product's commands."""
    subprocess.run([sys.executable, "-m", *command], check=True)


def train(folder: Path, *overrides: str) -> None:
    """Train in a folder, unless the run exists."""
    if not (folder / "SUCCESS").exists():
        run("gtex_vae.train", f"hydra.run.dir={folder}", *overrides)


def align(folder: Path, vae: str, *overrides: str) -> dict[str, float]:
    """Align donors on a VAE in a folder and evaluate it."""
    train(folder, "+experiment=contrastive", f"run={vae}", *overrides)
    run("gtex_vae.evaluate", f"run={folder}")
    metrics: dict[str, float] = json.loads((folder / "evaluation" / "metrics.json").read_text())
    return metrics


def trained(folder: Path, given: str | None, *overrides: str) -> str:
    """Return the given VAE, or train one."""
    if given is None:
        train(folder / "vae", *overrides)
    return given or str(folder / "vae")


def demo(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Retrieval of held-out simulated donors."""
    vae = trained(folder, arguments.run, "data=demo")
    seed = f"alignment.cells.prepare.seed={arguments.cell_seed}"
    metrics = align(folder / "alignment", vae, seed, *arguments.overrides)
    top1 = {name: metrics[f"{prefix}contrastive/top1"] for prefix, name in METHODS.items()}
    intervals = pd.read_csv(folder / "alignment" / "evaluation" / "intervals.csv", keep_default_na=False)
    ratio = top1["model"] / max(value for name, value in top1.items() if name != "model")
    print(f"top-1 {top1}, {ratio:.2f} times the best of the others")
    return {
        "cell_seed": arguments.cell_seed,
        "ratio": ratio,
        "metrics": metrics,
        "intervals": intervals.to_dict("records"),
    }


def pbmc(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Retrieval of held-out real donors, over several splits."""
    vae = trained(folder, arguments.run, "data=gtex_v6_shared")
    tables = []
    for split in range(arguments.splits):
        where = folder / f"split_{split}"
        align(
            where, vae, f"input={(shared_dir() / PBMC).resolve()}", f"alignment.min_overlap={PBMC_OVERLAP}",
            f"alignment.split_seed={split}", *arguments.overrides,
        )  # fmt: skip
        tables.append(
            pd.read_csv(where / "evaluation" / "retrieval.csv", dtype={"donor": str}).set_index("donor")
        )
    ranks = pd.concat(tables)
    found = pd.DataFrame(
        {name: (ranks[[f"{name}_rank", f"{name}_rank_back"]] <= 1).mean(axis=1) for name in METHODS.values()}
    )
    by_donor = found.groupby(level=0).mean()
    drawn = draw_donors(len(by_donor), 2000, 0)
    rows = {}
    for name in METHODS.values():
        for what, value_n in (
            (name, by_donor[name]),
            (f"model minus {name}", by_donor["model"] - by_donor[name]),
        ):
            means = drawn @ value_n.to_numpy() / len(by_donor)
            rows[what] = [
                float(value_n.mean()),
                *(float(edge) for edge in np.quantile(means, [0.025, 0.975])),
            ]
    del rows["model minus model"]
    print(pd.DataFrame(rows, index=["top-1", "low", "high"]).T.round(3).to_string())
    held_out = float(np.mean([len(table) for table in tables]))
    return {"splits": arguments.splits, "donors": len(by_donor), "chance": 1 / held_out, "top1": rows}


def gtex(folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Compare a VAE with each term with the same VAE without."""
    rows = []
    for seed in arguments.seeds:
        for name, experiment in TERMS.items():
            where = folder / f"{name}_{seed}"
            data = ("data=gtex_v6_shared", f"seed={seed}", f"paths.data={folder / 'data'}")
            train(where, *data, *experiment, *arguments.overrides)
            rows.append(read(where, name, seed))
    table = pd.DataFrame(rows)
    print(table.groupby("model")[list(KEYS)].mean().T.round(4).to_string())
    return {"runs": rows}


def read(where: Path, name: str, seed: int) -> dict[str, object]:
    """Read the main metrics of a run."""
    metrics = json.loads((where / "metrics.json").read_text())
    return {"model": name, "seed": seed, **{key: metrics[key] for key in KEYS}}


def main() -> None:
    """Measure one table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=["demo", "pbmc", "gtex"])
    parser.add_argument("--run", help="a trained VAE")
    parser.add_argument("--folder", type=Path, help="where runs are kept, and taken from when given again")
    parser.add_argument("--cell-seed", type=int, default=2)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        result = {"demo": demo, "pbmc": pbmc, "gtex": gtex}[arguments.table](folder, arguments)
    loads.append(os.getloadavg()[0])
    given = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    command = " ".join(["python", "benchmarks/contrastive.py", *given])
    about = machine(loads, ["torch", "lightning", "scikit-learn"])
    write(RESULTS / f"contrastive_{arguments.table}.json", {"command": command, **result, **about})


if __name__ == "__main__":
    main()
