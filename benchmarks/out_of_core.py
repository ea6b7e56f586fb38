"""Training from disk with limited memory compared with training from memory: samples/s and peak memory.

100,000 simulated samples x 5,000 genes in a processed .h5ad. Each training is one epoch of a VAE on genes with the package's
module, callbacks and trainer, in its own process, in alternation. The file is dropped from the page cache before an epoch from
disk. Loaders are also measured without a model: ours on .h5ad and sharded zarr, and anndata's AnnLoader on the .h5ad. So is
preprocessing of the file as raw input, in memory and in chunks.

    python benchmarks/out_of_core.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import machine, write

SAMPLES, GENES, BATCH = 100_000, 5_000, 128
MEMORY_GIB = 0.5
# on genes, so that they pass through the loader; coordinates may fit into memory
MODEL = ["model.n_components=null", "model.n_members=1", "model.hidden_dims=[1024]"]
WARM = 5
RESULT = Path(__file__).parent / "results" / "out_of_core.json"


def write_zarr(source: Path, target: Path) -> None:
    """Copy X into sharded, compressed zarr v3: chunks of about 1 MiB, 64 of them a shard."""
    import anndata
    import h5py
    import zarr

    anndata.settings.zarr_write_format = 3
    tables = anndata.read_h5ad(source, backed="r")
    anndata.AnnData(obs=tables.obs, var=tables.var).write_zarr(target)
    with h5py.File(source) as file:
        x_ng = file["X"]
        rows = (1 << 20) // (4 * x_ng.shape[1])
        array = zarr.open_group(str(target), mode="r+").create_array(
            "X", shape=x_ng.shape, dtype="f4", chunks=(rows, x_ng.shape[1]), shards=(64 * rows, x_ng.shape[1]),
            overwrite=True,
        )  # fmt: skip
        array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        for start in range(0, x_ng.shape[0], 64 * rows):
            array[start : start + 64 * rows] = x_ng[start : start + 64 * rows]
    zarr.consolidate_metadata(str(target))


def forget(path: Path) -> None:
    """Drop the files of a store from the page cache."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        with open(file, "rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(path: Path, memory_gib: float | None) -> dict[str, float]:
    """One epoch; samples per second and peak memory."""
    import torch
    from hydra import compose, initialize_config_dir
    from lightning.pytorch import Callback

    from gtex_vae import runtime
    from gtex_vae.config import register_resolvers, to_plain
    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.paths import conf_dir
    from gtex_vae.training import environment
    from gtex_vae.training.build import build_trainer
    from gtex_vae.training.module import VAEModule

    class Clock(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == WARM:
                self.start, self.work = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.end, self.work_end = time.perf_counter(), time.process_time()

    runtime.tune_process()
    environment.quiet_libraries()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = to_plain(compose("train", MODEL))
    data = ExpressionDataModule("bench", str(path), batch_size=BATCH, memory_gib=memory_gib)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started = time.perf_counter()
    data.setup()
    setup = time.perf_counter() - started
    held = ("best", "last", "figures", "console", "early_stopping")
    callbacks = {key: value for key, value in config["callbacks"].items() if key not in held}
    settings = {**config["trainer"], "max_epochs": 1, "limit_val_batches": 0, "enable_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(settings, callbacks, None, Path(folder))
        clock = Clock()
        trainer.callbacks.append(clock)
        torch.manual_seed(0)
        module = VAEModule(
            config["model"], config["objective"], config["optimizer"], None,
            genes=data.genes, standardize=data.standardize, unit="",
        )  # fmt: skip
        if memory_gib is not None:
            forget(path)
        trainer.fit(module, data)
    samples = (trainer.global_step - WARM) * BATCH
    return {
        "samples_per_second": round(samples / (clock.end - clock.start), 1),
        "samples_per_cpu_second": round(samples / (clock.work_end - clock.work), 1),
        "setup_seconds": round(setup, 2),
        "imports_gb": round(before, 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
    }


def load(path: Path, loader: str) -> dict[str, float]:
    """Samples per second of a loader alone."""
    from gtex_vae.data.datamodule import ExpressionDataModule

    if loader == "AnnLoader":
        import anndata
        from anndata.experimental import AnnLoader

        batches = AnnLoader(anndata.read_h5ad(path, backed="r"), batch_size=BATCH, shuffle=True)
        most = 40
    else:
        data = ExpressionDataModule("bench", str(path), batch_size=BATCH, memory_gib=MEMORY_GIB)
        data.setup()
        batches, most = data.train_dataloader(), 10**9
    forget(path)
    start, samples = time.perf_counter(), 0
    for at, batch in enumerate(batches):
        samples += len(batch.X if loader == "AnnLoader" else batch.x_nf)
        if at + 1 == most:
            break
    return {"samples_per_second": round(samples / (time.perf_counter() - start), 1)}


def prepare(path: Path, where: str) -> dict[str, float]:
    """Preprocess; seconds and peak memory."""
    from gtex_vae.data.preprocess.processed import make_processed

    node = {"_target_": "gtex_vae.data.preprocess.prepare.prepare_matrix", "path": str(path), "genes": "all"}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        start = time.perf_counter()
        make_processed(Path(folder) / "x.h5ad", node, in_chunks=where == "disk")
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": round(seconds, 1), "peak_gb": round(peak, 3)}


def child(*arguments: str) -> dict[str, float]:
    """Run this script in a new process."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Generate, take turns, print the table and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where the files go, and stay; a temporary folder otherwise"
    )
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.train:
        where, path = arguments.train
        print(json.dumps(train(Path(path), MEMORY_GIB if where == "disk" else None)))
        return
    if arguments.prepare:
        print(json.dumps(prepare(Path(arguments.prepare[1]), arguments.prepare[0])))
        return
    if arguments.load:
        print(json.dumps(load(Path(arguments.load[1]), arguments.load[0])))
        return

    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    path, sharded = folder / "large.h5ad", folder / "large.zarr"
    runs: dict[str, list[dict]] = {"memory": [], "disk": []}
    loaders: dict[str, list[float]] = {}
    loads = []
    prepared = {}
    try:
        if not path.exists():
            import load as load_benchmark  # benchmarks/load.py

            load_benchmark.generate(path, arguments.samples, arguments.genes)
        if not sharded.exists():
            write_zarr(path, sharded)
        for where in runs:
            prepared[where] = child("--prepare", where, str(path))
            print("prepare", where, prepared[where], file=sys.stderr, flush=True)
        for _ in range(arguments.rounds):
            for where, of in runs.items():
                loads.append(os.getloadavg()[0])
                of.append(child("--train", where, str(path)))
                print(where, of[-1], file=sys.stderr, flush=True)
            for name, file in {"h5ad": path, "zarr": sharded, "AnnLoader": path}.items():
                rate = child("--load", name, str(file))["samples_per_second"]
                loaders.setdefault(name, []).append(rate)
                print(name, rate, file=sys.stderr, flush=True)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    rate = {where: [run["samples_per_second"] for run in of] for where, of in runs.items()}
    work = {where: [run["samples_per_cpu_second"] for run in of] for where, of in runs.items()}
    result = {
        "command": "python benchmarks/out_of_core.py " + " ".join(Path(word).name for word in sys.argv[1:]),
        "matrix": [arguments.samples, arguments.genes],
        "matrix_gb": round(4 * arguments.samples * arguments.genes / 1e9, 3),
        "memory_gib": MEMORY_GIB,
        "disk_over_memory": {
            "best": round(max(rate["disk"]) / max(rate["memory"]), 3),
            "median_of_pairs": round(
                statistics.median(a / b for a, b in zip(rate["disk"], rate["memory"], strict=True)), 3
            ),
            "per_cpu_second": round(statistics.median(work["disk"]) / statistics.median(work["memory"]), 3),
        },
        "peak_gb": {where: max(run["peak_gb"] for run in of) for where, of in runs.items()},
        "imports_gb": max(run["imports_gb"] for run in runs["disk"]),
        "loader_samples_per_second": {name: max(rates) for name, rates in loaders.items()},
        "prepare": prepared,
        "runs": runs,
        "loaders": loaders,
        "machine": {
            **machine(loads, ("numpy", "torch", "anndata", "h5py", "zarr")),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        },
    }
    write(arguments.result, result)
    print(
        json.dumps({key: result[key] for key in ("disk_over_memory", "peak_gb", "loader_samples_per_second")})
    )


if __name__ == "__main__":
    main()
