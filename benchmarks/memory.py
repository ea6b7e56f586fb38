"""Peak memory of the training command at GTEx size, compared with 1.6 times the data + 16 bytes per parameter.

A processed file of 17,382 samples x 19,797 genes is written (`load.generate`), and `python -m gtex_vae.train` runs on it in
a process of its own, from imports to the last figure, with a few batches per epoch: more batches do not need more memory.
16 bytes are a weight, its gradient and Adam's two moments. Each set of overrides is a row in the result. The second command
below measures a million samples on disk (8 GB) with the model of `scaling.py`, to check its extrapolation.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--batches 10] [+experiment=seed_64 ...]
    OMP_NUM_THREADS=1 python benchmarks/memory.py --samples 1000000 --genes 2000 --batches 0 data.memory_gib=1 \
        model.n_components=256 model.n_members=2 'model.hidden_dims=[512,128]' model.mode_steps=0
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from load import SAMPLES, generate
from record import command, machine, write

GENES = 19_797
DATA_FACTOR, PARAMETER_BYTES = 1.6, 16
RESULT = Path(__file__).parent / "results" / "memory.json"


def parameters(run: Path) -> int:
    """Trained parameters of a run's model."""
    from gtex_vae.inference.trained_model import TrainedModel

    return sum(parameter.numel() for parameter in TrainedModel.load(run / "model").vae.parameters())


def main() -> None:
    """Generate, train, compare and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--batches", type=int, default=10, help="of the one epoch; 0: all")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments, overrides = parser.parse_known_args()
    key = " ".join(overrides) or "default"
    overrides = [
        "trainer.max_epochs=1", f"trainer.limit_train_batches={arguments.batches or 'null'}", *overrides,
    ]  # fmt: skip
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path, run = Path(folder) / "full.h5ad", Path(folder) / "run"
        generate(path, arguments.samples, arguments.genes)
        took = command(
            "gtex_vae.train", "data=demo", "data.name=full", "data.prepare=null", f"data.processed={path}",
            f"hydra.run.dir={run}", *overrides,
        )  # fmt: skip
        found = parameters(run)
    data_gb = 4 * arguments.samples * arguments.genes / 1e9
    limit_gb = DATA_FACTOR * data_gb + PARAMETER_BYTES * found / 1e9
    before = json.loads(arguments.result.read_text()) if arguments.result.exists() else {}
    result = {
        "command": " ".join(["python", "benchmarks/memory.py", *sys.argv[1:]]),
        "matrix": [arguments.samples, arguments.genes],
        "data_gb": round(data_gb, 3),
        "parameters": found,
        "limit_gb": round(limit_gb, 2),
        **took,
        "machine": machine([load, os.getloadavg()[0]], ("numpy", "torch", "lightning")),
    }
    write(arguments.result, {**before, key: result})
    print(f"{key}: peak {took['peak_gb']:.2f} GB, limit {limit_gb:.2f} GB")


if __name__ == "__main__":
    main()
