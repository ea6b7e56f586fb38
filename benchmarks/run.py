"""All benchmarks with one command; their ratios as a table, and a guard against losing them.

    python benchmarks/run.py [NAME ...]             # full size, an idle machine: about an hour
    python benchmarks/run.py --small [NAME ...]     # minutes
    python benchmarks/run.py --check                # seconds, any machine: fails where a ratio lost more than 15 %
    python benchmarks/run.py --table                # docs/benchmarks.md from the stored results

Each benchmark is a script of its own that measures side by side and writes a JSON of every run. A ratio is what a user
would do instead over what we do (seconds over seconds): above 1 we are ahead. Times of one machine say little about
another, so only ratios are compared.
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
LOST = 0.15  # of a stored ratio: more is a failure
ATTEMPTS = 3  # a ratio counts as lost when it is in every attempt


@dataclass(frozen=True)
class Ratio:
    """Two places in a result: dots between keys, ``*`` for every item of a list; `theirs` over `ours`."""

    says: str
    theirs: str
    ours: str
    anywhere: bool = False  # of the same arithmetic, so that it should hold on any processor


@dataclass(frozen=True)
class Benchmark:
    """A script, its arguments at full and at small size, and what its result is looked at for."""

    script: str
    full: tuple[str, ...] = ()
    small: tuple[str, ...] | None = None
    ratios: tuple[Ratio, ...] = ()
    checked: tuple[Ratio, ...] = field(default=())


def of_runs(says: str, theirs: str, ours: str, key: str = "seconds") -> Ratio:
    """A ratio of all runs of two ways."""
    return Ratio(says, f"runs.{theirs}.*.{key}", f"runs.{ours}.*.{key}")


def of_steps(says: str, theirs: str, ours: str) -> Ratio:
    """A ratio of steps."""
    return Ratio(says, f"seconds.{theirs}", f"seconds.{ours}")


BENCHMARKS = {
    "train_step": Benchmark(
        "train_step.py",
        ("--work", "published"),
        ("--work", "small", "--steps", "20"),
        (
            of_steps("training step, published model, fp32: published loop / ours", "published loop fp32", "ours fp32"),
            of_steps("the same, bfloat16: published loop fp32 / ours", "published loop fp32", "ours bf16"),
            of_steps("fp32: loop by hand / our trainer", "by hand fp32", "ours fp32"),
            of_steps("bfloat16: loop by hand / our trainer", "by hand bf16", "ours bf16"),
            of_steps("fp32: nothing but the multiply-adds / ours", "limit fp32", "ours fp32"),
            of_steps("bfloat16: nothing but the multiply-adds / ours", "limit bf16", "ours bf16"),
        ),
        (
            Ratio("training step: published loop / ours", "cpu_seconds.published loop", "cpu_seconds.ours"),
            Ratio("training step: loop by hand / our trainer", "cpu_seconds.by hand", "cpu_seconds.ours", anywhere=True),
        ),
    ),
    "train_step_default": Benchmark(
        "train_step.py",
        ("--work", "default", "--steps", "20"),
        None,
        (
            of_steps("default model, fp32: loop by hand / our trainer", "by hand fp32", "ours fp32"),
            of_steps("default model, bfloat16: loop by hand / our trainer", "by hand bf16", "ours bf16"),
            of_steps("default model, fp32: nothing but the multiply-adds / ours", "limit fp32", "ours fp32"),
            of_steps("default model, bfloat16: nothing but the multiply-adds / ours", "limit bf16", "ours bf16"),
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
        (of_runs("a processed file to training data: its bytes alone / ours", "plain", "setup"),),
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
    """Numbers at a place of a result."""
    found = [result]
    for key in path.split("."):
        found = [item for of in found for item in (of if key == "*" else [of[key]])]
    return [float(v) for of in found for v in (of if isinstance(of, list) else [of])]


def ratio(result: Any, of: Ratio) -> tuple[float, float, float]:
    """Ratio of the medians, least and greatest of the pairs where both were measured as often."""
    theirs, ours = values(result, of.theirs), values(result, of.ours)
    whole = median(theirs) / median(ours)
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)] if len(theirs) == len(ours) else [whole]
    return whole, min(pairs), max(pairs)


def best_ratio(result: Any, of: Ratio) -> float:
    """Ratio of the fastest: what other programs do to a machine only ever adds."""
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
    lines = ["| | median | least and greatest pair |", "|---|---|---|"]
    for name, benchmark in BENCHMARKS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            for of in benchmark.ratios:
                try:
                    whole, least, greatest = ratio(result, of)
                except KeyError:  # of an older form of the benchmark
                    continue
                lines.append(f"| {of.says} | {whole:.2f} | {least:.2f} to {greatest:.2f} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def lost(name: str, result: Any, stored: Any) -> list[str]:
    """Ratios that are more than `LOST` below the stored ones; on another processor only those that hold anywhere."""
    same = stored["machine"].get("processor") == processor()
    found = []
    for of in BENCHMARKS[name].checked:
        now, then = best_ratio(result, of), best_ratio(stored, of)
        if not (same or of.anywhere):
            print(f"{of.says}: {now:.2f} (stored on another processor: {then:.2f}; not compared)")
            continue
        print(f"{of.says}: {now:.2f}, stored {then:.2f}")
        if now < (1.0 - LOST) * then:
            found.append(f"{of.says}: {now:.2f} is more than {LOST:.0%} below the stored {then:.2f}")
    return found


def check(names: Sequence[str]) -> int:
    """Measure the small forms and compare; a ratio that is lost is measured again before it counts."""
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
