"""Four ways to embed 981 donor profiles and 28,449 donor x cell-type profiles of 19,797 genes.

``gtex_vae``: ``python -m gtex_vae.encode`` on the two .h5ad files, including imports and the digest of the input.
``gtex_vae_default``: the same with the default architecture (basis, members) in these widths, and with verdicts.
``anndata_torch``: read the complete .h5ad, standardize, and encode in batches of 64. ``pandas_torch``: the same from CSV with
``pandas.read_csv``, on ``--csv-rows`` profiles; the seconds for all profiles are extrapolated, without imports. All run in
processes of their own; memory is the maximum.

    python benchmarks/encode.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

FILES = {"pseudobulk": 981, "celltype_profiles": 28_449}
GENES = 19_797
HIDDEN, LATENT = (1024, 256), 64
RUNS: dict[str, dict[str, object]] = {
    "gtex_vae": {},
    "gtex_vae_default": {"n_components": 1024, "n_members": 4, "likelihood": "per_sample", "mode_steps": 2},
}
SEEN = 600, 200  # training and validation samples for verdicts
THREADS = "2"
UNIT = "log2(TPM+1)"


def generate(folder: Path, csv_rows: int) -> None:
    """Write a model with random weights, the two .h5ad files, and the first profiles as CSV."""
    import numpy as np
    import pandas as pd
    import torch
    from tqdm import tqdm

    from gtex_vae.data.expression_file import write_expression
    from gtex_vae.data.genes.table import bundled_genes
    from gtex_vae.data.standardize import Standardizer
    from gtex_vae.inference.calibration import Calibration
    from gtex_vae.inference.trained_model import TrainedModel
    from gtex_vae.models.vae import VAE

    rng = np.random.default_rng(0)
    coding = bundled_genes().of_biotype().frame.iloc[:GENES]
    level_g = rng.normal(1, 2, GENES).astype(np.float32)
    scaler = Standardizer(GENES)
    scaler.center_g.copy_(torch.from_numpy(level_g.clip(0)))
    for run, more in RUNS.items():
        torch.manual_seed(0)
        architecture = {"latent_dim": LATENT, "hidden_dims": list(HIDDEN), **more}
        model = TrainedModel(
            VAE(GENES, **architecture),
            scaler,
            gene_ids=list(coding.index),
            gene_names=list(coding["gene_name"]),
            unit=UNIT,
            architecture=architecture,
        ).eval()
        model.save(folder / run / "model")
        if more:
            seen_ng, held_out_ng = (rng.standard_normal((n, GENES), np.float32) for n in SEEN)
            reference = Calibration.fit(model, seen_ng, held_out_ng, np.arange(SEEN[1]))
            assert reference is not None
            reference.save(folder / run / "model")
        (folder / run / "config.yaml").write_text("{}")
        (folder / run / "SUCCESS").touch()
    var = pd.DataFrame({"gene_name": coding["gene_name"]})
    for name, n in FILES.items():
        obs = pd.DataFrame(index=[f"{name}_{row}" for row in range(n)])
        with write_expression(folder / f"{name}.h5ad", obs, var, unit=UNIT) as file:
            for start in tqdm(range(0, n, 1000), desc=name, delay=2, leave=False):
                stop = min(start + 1000, n)
                noise_ng = rng.standard_normal((stop - start, GENES), np.float32)
                x_ng = np.maximum(noise_ng + level_g, 0)
                file.write(slice(start, stop), X=x_ng)
                if name == "celltype_profiles" and start == 0:
                    rows = pd.DataFrame(x_ng[:csv_rows], index=obs.index[:csv_rows], columns=var.index)
                    rows.to_csv(folder / "profiles.csv")


def in_batches(folder: Path, x_ng: object) -> int:
    """Standardize and encode at batch 64."""
    import torch

    from gtex_vae.inference.trained_model import TrainedModel

    model = TrainedModel.load(folder / "gtex_vae" / "model")
    x = model.scaler(torch.as_tensor(x_ng))
    with torch.inference_mode():
        z = torch.cat([model.vae.embed(x[at : at + 64]) for at in range(0, len(x), 64)])
    return len(z)


def anndata_torch(folder: Path, name: str) -> int:
    """Read the whole file and encode it."""
    import anndata

    return in_batches(folder, anndata.read_h5ad(folder / f"{name}.h5ad").X)


def pandas_torch(folder: Path) -> float:
    """Read the CSV and encode it; return seconds without imports."""
    import numpy as np
    import pandas as pd
    import torch  # noqa: F401

    import gtex_vae.inference.trained_model  # noqa: F401

    before = time.perf_counter()
    in_batches(folder, pd.read_csv(folder / "profiles.csv", index_col=0).to_numpy(np.float32))
    return time.perf_counter() - before


def timed(*arguments: str, folder: Path) -> dict[str, float]:
    """Return wall seconds and peak memory of one process, and the seconds that it prints."""
    environ = {**os.environ, "OMP_NUM_THREADS": THREADS}
    before = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(arguments)} failed")
    seconds = time.perf_counter() - before
    result = {"seconds": round(seconds, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1)}
    if "pandas_torch" in arguments:
        result["without_imports"] = round(float(printed), 1)
    return {**result, "peak_gb": round(usage.ru_maxrss / 1e6, 2)}


def main() -> None:
    """Generate, measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv-rows", type=int, default=500)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "encode.json")
    parser.add_argument("--generate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.generate:
        generate(arguments.generate, arguments.csv_rows)
        return
    if arguments.way:
        print(globals()[arguments.way[0]](Path.cwd(), *arguments.way[1:]))
        return

    me, runs, load = str(Path(__file__).resolve()), {}, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(
            [sys.executable, me, "--generate", str(folder), "--csv-rows", str(arguments.csv_rows)], check=True
        )
        for name in FILES:
            for run in RUNS:
                command = ("-m", "gtex_vae.encode", f"run={folder}/{run}", f"input={name}.h5ad")
                runs[f"{run}/{name}"] = timed(*command, folder=folder)
            runs[f"anndata_torch/{name}"] = timed(me, "--way", "anndata_torch", name, folder=folder)
        runs["pandas_torch/subset"] = timed(me, "--way", "pandas_torch", folder=folder)

    profiles = sum(FILES.values())

    def total(way: str) -> dict[str, float]:
        parts = [runs[f"{way}/{name}"] for name in FILES]
        return {
            "seconds": round(sum(part["seconds"] for part in parts), 1),
            "cpu_seconds": round(sum(part["cpu_seconds"] for part in parts), 1),
            "peak_gb": max(part["peak_gb"] for part in parts),
        }

    result = {
        "command": f"python benchmarks/encode.py --csv-rows {arguments.csv_rows}",
        "profiles": FILES,
        "genes": GENES,
        "model": {"hidden_dims": HIDDEN, "latent_dim": LATENT},
        **{run: total(run) for run in RUNS},
        "anndata_torch": total("anndata_torch"),
        "pandas_torch": {
            "measured_profiles": arguments.csv_rows,
            **runs["pandas_torch/subset"],
            "seconds_for_all_extrapolated": round(
                runs["pandas_torch/subset"]["without_imports"] * profiles / arguments.csv_rows
            ),
        },
        "runs": runs,
        "threads": int(THREADS),
        "cpus": os.cpu_count(),
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "anndata", "pandas", "h5py")},
    }
    print(json.dumps(result, indent=1))
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
