"""Time and memory of evaluate and analyze, by part.

    python benchmarks/evaluate.py RUN --genesets ../shared/data/genesets/*.gmt
    python benchmarks/evaluate.py --samples 17000 --genes 20000       # simulated, a small model of two epochs

Each stage runs as a user runs it, in its own process. Functions are timed by name; the remainder (imports, Hydra, tables) is
the rest. The peak of a part is the peak of the process during the part.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from record import machine, peak_gb, reset_peak, write

PARTS = {
    "evaluate": {
        "gtex_vae.analysis.evaluation.run_samples": ("open_samples", "split_samples"),
        "gtex_vae.analysis.evaluate_run": ("Calibration.load_or_fit", "write_gene_embeddings"),
        "gtex_vae.analysis.evaluation.evaluate": (
            "score_methods", "rate_metrics", "_raw_logreg", "interval_table", "gene_table", "tissue_table",
            "predictability", "_coverage", "latent_tables", "evaluate_genes",
        ),
    },
    "analyze": {
        "gtex_vae.analysis.report.report_data": (
            "read_samples", "audit", "run_predictions", "projections.umap_map", "projections.tsne_map", "model_embeddings",
            "cosine_neighbours",
        ),
        "gtex_vae.analysis.report.figures": ("write_figure",),
        "gtex_vae.analysis.report.page": ("report",),
    },
}  # fmt: skip
SMALL = (
    "model.n_components=256", "model.n_members=2", "model.hidden_dims=[512]", "trainer.max_epochs=2",
    "data.prepare.n_factors=30",
)  # fmt: skip


def timed(name: str, function: Callable[..., Any], parts: dict[str, dict[str, float]]) -> Callable[..., Any]:
    """Wrap a function to add its seconds and peak memory to its part."""

    def wrapped(*arguments: Any, **how: Any) -> Any:
        parts["rest"]["peak_gb"] = round(max(parts["rest"]["peak_gb"], peak_gb()), 2)
        reset_peak()
        before = time.perf_counter()
        try:
            return function(*arguments, **how)
        finally:
            part = parts.setdefault(name, {"seconds": 0.0, "peak_gb": 0.0})
            part["seconds"] = round(part["seconds"] + time.perf_counter() - before, 2)
            part["peak_gb"] = round(max(part["peak_gb"], peak_gb()), 2)
            reset_peak()

    return wrapped


def measure(stage: str, arguments: list[str]) -> None:
    """Body of one process: the stage with its parts timed."""
    start, parts = time.perf_counter(), {"rest": {"seconds": 0.0, "peak_gb": 0.0}}
    for module_name, names in PARTS[stage].items():
        for name in names:
            owner: Any = import_module(module_name)
            *path, last = name.split(".")
            for step in path:
                owner = getattr(owner, step)
            setattr(owner, last, timed(name.strip("_"), getattr(owner, last), parts))
    sys.argv = [stage, *arguments]
    runpy.run_module(f"gtex_vae.{stage}", run_name="__main__", alter_sys=True)
    seconds = time.perf_counter() - start
    rest = parts["rest"]
    rest["seconds"] = round(seconds - sum(part["seconds"] for part in parts.values()), 2)
    rest["peak_gb"] = round(max(rest["peak_gb"], peak_gb()), 2)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    Path(os.environ["RESULT"]).write_text(
        json.dumps({
            "seconds": round(seconds, 1), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_gb": max(part["peak_gb"] for part in parts.values()), "parts": parts,
        })
    )  # fmt: skip


def simulated(folder: Path, samples: int, genes: int) -> Path:
    """A run on simulated data of this size."""
    run = folder / "run"
    subprocess.run(
        [sys.executable, "-m", "gtex_vae.train", "data.name=large", f"data.prepare.n_samples={samples}",
         f"data.prepare.n_genes={genes}", f"paths.data={folder}", f"hydra.run.dir={run}", *SMALL],
        check=True,
    )  # fmt: skip
    return run


def main() -> None:
    """Run both stages and write the times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--genesets", nargs="*", default=[])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--genes", type=int)
    parser.add_argument("--result", type=Path, default=Path(__file__).parent / "results" / "evaluate.json")
    parser.add_argument("--measure", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], arguments.measure[1:])
        return
    known = json.loads(arguments.result.read_text()) if arguments.result.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or simulated(Path(folder), arguments.samples, arguments.genes)
        n_samples = len((run / "splits.csv").read_text().splitlines()) - 1
        n_genes = len(json.loads((run / "model" / "model.json").read_text())["gene_ids"])
        stages = known[f"{n_samples} x {n_genes}"] = {
            "command": " ".join(["python benchmarks/evaluate.py", *sys.argv[1:]])
        }
        for stage in PARTS:
            before = os.getloadavg()[0]
            sets = [f"genesets=[{','.join(map(str, arguments.genesets))}]"] if stage == "evaluate" else []
            result = Path(folder) / f"{stage}.json"
            subprocess.run(
                [sys.executable, __file__, "--measure", stage, f"run={run}", *sets,
                 f"hydra.run.dir={folder}/{stage}"],
                check=True, env={**os.environ, "RESULT": str(result)},
            )  # fmt: skip
            found = json.loads(result.read_text())
            loads = (before, os.getloadavg()[0])
            stages[stage] = {**found, "machine": machine(loads, ("torch", "numpy", "scikit-learn"))}
            write(arguments.result, known)
            print(stage, found["seconds"], "s,", found["cpu_seconds"], "CPU s,", found["peak_gb"], "GB")
            for name, part in sorted(found["parts"].items(), key=lambda item: -item[1]["seconds"]):
                print(f"  {name:24s}{part['seconds']:8.2f} s{part['peak_gb']:7.2f} GB", flush=True)
        stages["report_mb"] = round((run / "analysis" / "report.html").stat().st_size / 1e6, 2)
        write(arguments.result, known)


if __name__ == "__main__":
    main()
