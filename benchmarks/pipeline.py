"""All stages on the GTEx v6 extract, from the matrix to the report, as a user runs them.

    python benchmarks/pipeline.py [key=value ...]

Preprocess, train with the default schedule, evaluate with all collections of gene sets, and analyze, each in its own process. Further overrides go to training.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from record import command, machine, write

from gtex_vae.paths import shared_dir

RESULT = Path(__file__).parent / "results" / "pipeline.json"


def stages(folder: Path, overrides: list[str]) -> dict[str, list[str]]:
    """Name to the arguments of ``python -m gtex_vae.NAME``."""
    sets = ",".join(str(path.resolve()) for path in sorted((shared_dir() / "genesets").glob("*.gmt")))
    where = ["data=gtex_v6_shared", f"paths.data={folder}", f"paths.outputs={folder}"]
    return {
        "preprocess": where,
        "train": [*where, f"hydra.run.dir={folder}/run", *overrides],
        "evaluate": [f"run={folder}/run", f"genesets=[{sets}]"],
        "analyze": [f"run={folder}/run"],
    }


def main() -> None:
    """Run the stages and write what each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    loads, rows = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for stage, of_stage in stages(Path(folder), arguments.overrides).items():
            loads.append(os.getloadavg()[0])
            rows[stage] = command(f"gtex_vae.{stage}", *of_stage)
            print(stage, rows[stage], flush=True)
    result = {
        "command": " ".join(["python", "benchmarks/pipeline.py", *arguments.overrides]),
        "stages": rows,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "machine": machine(loads, ("torch",)),
    }
    write(arguments.result, result)


if __name__ == "__main__":
    main()
