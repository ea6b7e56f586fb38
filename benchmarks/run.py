"""Run all benchmarks, make the table of their ratios, and check that no ratio got worse.

    python benchmarks/run.py [NAME ...]             # full size on an idle machine: about an hour
    python benchmarks/run.py --small [NAME ...]     # minutes
    python benchmarks/run.py --check                # seconds, on any machine: fails if a ratio is more than 15 % worse
    python benchmarks/run.py --table                # docs/benchmarks.md from the stored results

Each benchmark is a script that measures the alternatives in alternation and writes a JSON file of all runs. A ratio is the
time of the alternative divided by ours: above 1, we are faster. Only ratios are compared, because times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from record import processor

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SMALL = RESULTS / "small"
DOCS = HERE.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- ratios: python benchmarks/run.py --table -->", "<!-- end of ratios -->"
LOST = 0.15  # of a stored ratio; more is a failure
ATTEMPTS = 3  # a ratio is lost if it is lost in every attempt


@dataclass(frozen=True)
class Ratio:
    """Ratio `theirs` / `ours` of two places in a result: dots separate keys, ``*`` is every item of a list."""

    label: str
    theirs: str
    ours: str
    anywhere: bool = False  # same arithmetic on both sides: comparable on any processor


@dataclass(frozen=True)
class Benchmark:
    """A script, its arguments at full and at small size, and ratios to show and to check."""

    script: str
    full: tuple[str, ...] = ()
    small: tuple[str, ...] | None = None
    ratios: tuple[Ratio, ...] = ()
    checked: tuple[Ratio, ...] = field(default=())


def of_runs(label: str, theirs: str, ours: str, key: str = "seconds") -> Ratio:
    """Make a ratio over all runs of two methods."""
    return Ratio(label, f"runs.{theirs}.*.{key}", f"runs.{ours}.*.{key}")


def of_steps(label: str, theirs: str, ours: str) -> Ratio:
    """Make a ratio of steps."""
    return Ratio(label, f"seconds.{theirs}", f"seconds.{ours}")


BENCHMARKS = {
    "train_step": Benchmark(
        "train_step.py",
        ("--work", "published"),
        ("--work", "small", "--steps", "20"),
        (
            of_steps("training step, published model, fp32: published loop / ours", "published loop fp32", "ours fp32"),
            of_steps("the same, bfloat16: published loop fp32 / ours", "published loop fp32", "ours bf16"),
            of_steps("fp32: plain loop / our trainer", "by hand fp32", "ours fp32"),
            of_steps("bfloat16: plain loop / our trainer", "by hand bf16", "ours bf16"),
            of_steps("fp32: matrix products alone / ours", "limit fp32", "ours fp32"),
            of_steps("bfloat16: matrix products alone / ours", "limit bf16", "ours bf16"),
        ),
        (
            Ratio("training step: published loop / ours", "cpu_seconds.published loop", "cpu_seconds.ours"),
            Ratio("training step: plain loop / our trainer", "cpu_seconds.by hand", "cpu_seconds.ours", anywhere=True),
        ),
    ),
    "train_step_default": Benchmark(
        "train_step.py",
        ("--work", "default", "--steps", "20"),
        None,
        (
            of_steps("default model, fp32: plain loop / our trainer", "by hand fp32", "ours fp32"),
            of_steps("default model, bfloat16: plain loop / our trainer", "by hand bf16", "ours bf16"),
            of_steps("default model, fp32: matrix products alone / ours", "limit fp32", "ours fp32"),
            of_steps("default model, bfloat16: matrix products alone / ours", "limit bf16", "ours bf16"),
        ),
    ),
    "train_step_contrastive": Benchmark(
        "train_step.py",
        ("--work", "contrastive", "--steps", "20"),
        None,
        (
            of_steps("default model, bfloat16: without / with the contrastive term of tissues", "default", "tissue"),
            of_steps("default model, bfloat16: without / with the contrastive term of views", "default", "views"),
        ),
    ),
    "ingest": Benchmark(
        "ingest.py",
        ("--rows", "1500", "--repeats", "5"),
        ("--rows", "60", "--repeats", "3"),
        (
            of_runs("reading a GCT, all genes: pandas / ours", "pandas_all", "gtex_vae_all"),
            of_runs("reading a GCT, all genes: decompression alone / ours", "decompress", "gtex_vae_all"),
        ),
        (of_runs("reading a GCT: pandas / ours, CPU seconds", "pandas_all", "gtex_vae_all", "cpu_seconds"),),
    ),
    "load": Benchmark(
        "load.py",
        (),
        ("--samples", "2000", "--genes", "4000", "--repeats", "3"),
        (of_runs("a processed file to training data: reading its bytes / ours", "plain", "setup"),),
    ),
    "out_of_core": Benchmark(
        "out_of_core.py",
        ("--rounds", "4"),
        ("--samples", "6000", "--genes", "2000", "--rounds", "1"),
        (
            # samples per second: the other way round
            of_runs("training from disk / from memory, samples/s", "disk", "memory", "samples_per_second"),
        ),
    ),
    "pseudobulk": Benchmark(
        "pseudobulk.py",
        ("--repeats", "3"),
        ("--cells", "60000", "--subset", "20000", "--repeats", "1"),
        (
            of_runs("pseudobulk of 100,000 cells: pandas / ours", "subset_pandas_groupby", "subset_streamed_sums"),
            of_runs("the same, peak memory", "subset_pandas_groupby", "subset_streamed_sums", "peak_gb"),
        ),
    ),
    "encode": Benchmark(
        "encode.py",
        ("--csv-rows", "500"),
        None,
        (
            Ratio("encoding 29,430 profiles: AnnData and torch / ours", "anndata_torch.seconds", "gtex_vae.seconds"),
            Ratio("the same, peak memory", "anndata_torch.peak_gb", "gtex_vae.peak_gb"),
        ),
    ),
    "time_to_quality": Benchmark("time_to_quality.py"),
    "scaling": Benchmark("scaling.py", (), ("--largest", "1000")),
    "startup": Benchmark("startup.py", ("--repeats", "1")),
    "memory": Benchmark(
        "memory.py",
        (),
        None,
        (
            Ratio(
                "peak memory of training at GTEx size: 1.6 x data + 16 bytes a parameter / ours",
                "default.limit_gb",
                "default.peak_gb",
            ),
        ),
    ),
    "fast_path": Benchmark("fast_path.py"),
    "pipeline": Benchmark("pipeline.py"),
}  # fmt: skip


def values(result: Any, path: str) -> list[float]:
    """Read the numbers at a place of a result."""
    found = [result]
    for key in path.split("."):
        found = [item for of in found for item in (of if key == "*" else [of[key]])]
    return [float(v) for of in found for v in (of if isinstance(of, list) else [of])]


def ratio(result: Any, of: Ratio) -> tuple[float, float, float]:
    """Compute the ratio of medians, and its range over pairs if both have equally many runs."""
    theirs, ours = values(result, of.theirs), values(result, of.ours)
    whole = median(theirs) / median(ours)
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)] if len(theirs) == len(ours) else [whole]
    return whole, min(pairs), max(pairs)


def best_ratio(result: Any, of: Ratio) -> float:
    """Compute the ratio of the fastest runs: other programs can only slow a run down."""
    return min(values(result, of.theirs)) / min(values(result, of.ours))


def run(name: str, result: Path, *, small: bool) -> None:
    """Run one benchmark."""
    benchmark = BENCHMARKS[name]
    arguments = benchmark.small if small else benchmark.full
    assert arguments is not None
    subprocess.run(
        [sys.executable, str(HERE / benchmark.script), *arguments, "--result", str(result)], check=True
    )


def table() -> str:
    """Markdown of every ratio whose result is there."""
    lines = ["| | median | range over pairs |", "|---|---|---|"]
    for name, benchmark in BENCHMARKS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            for of in benchmark.ratios:
                try:
                    whole, least, greatest = ratio(result, of)
                except KeyError:  # result of an older version
                    continue
                lines.append(f"| {of.label} | {whole:.2f} | {least:.2f} to {greatest:.2f} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the page with an updated table."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def lost(name: str, result: Any, stored: Any) -> list[str]:
    """List ratios more than `LOST` below the stored ones; on another processor only those with ``anywhere``."""
    same = stored["machine"].get("processor") == processor()
    found = []
    for of in BENCHMARKS[name].checked:
        now, then = best_ratio(result, of), best_ratio(stored, of)
        if not (same or of.anywhere):
            print(f"{of.label}: {now:.2f} (stored on another processor: {then:.2f}; not compared)")
            continue
        print(f"{of.label}: {now:.2f}, stored {then:.2f}")
        if now < (1.0 - LOST) * then:
            found.append(f"{of.label}: {now:.2f} is more than {LOST:.0%} below the stored {then:.2f}")
    return found


def check(names: Sequence[str]) -> int:
    """Measure small versions and compare, with up to `ATTEMPTS` repetitions."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            stored = json.loads((SMALL / f"{name}.json").read_text())
            for _ in range(ATTEMPTS):
                path = Path(folder) / f"{name}.json"
                run(name, path, small=True)
                if not (losses := lost(name, json.loads(path.read_text()), stored)):
                    break
            failures += losses
    print("\n".join(failures), file=sys.stderr)
    return 1 if failures else 0


def main() -> None:
    """Run, compare or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--small", action="store_true")
    kind.add_argument("--check", action="store_true")
    kind.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if arguments.check:
        sys.exit(check(arguments.names or [name for name, of in BENCHMARKS.items() if of.checked]))
    if not arguments.table:
        small = arguments.small
        sized = [name for name, of in BENCHMARKS.items() if not small or of.small is not None]
        for name in arguments.names or sized:
            run(name, (SMALL if small else RESULTS) / f"{name}.json", small=small)
        if small:
            return
    DOCS.write_text(with_table(DOCS.read_text()))


if __name__ == "__main__":
    main()
