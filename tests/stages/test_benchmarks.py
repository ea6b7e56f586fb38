"""Benchmarks: their ratios hold at small size, and the docs state their results."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    return run


@pytest.mark.slow
def test_no_ratio_is_lost():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--check"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_lost_ratio_is_found(run, capsys):
    stored = json.loads((run.SMALL / "train_step.json").read_text())
    assert run.lost("train_step", stored, stored) == []
    slower = copy.deepcopy(stored)
    slower["cpu_seconds"]["ours"] = [1.2 * value for value in stored["cpu_seconds"]["ours"]]
    # of arithmetic that depends on the processor only the same kind is compared
    stored["machine"]["processor"] = run.processor()
    assert len(run.lost("train_step", slower, stored)) == 2
    stored["machine"]["processor"] = "another"
    assert len(run.lost("train_step", slower, stored)) == 1
    assert "not compared" in capsys.readouterr().out
    bearable = copy.deepcopy(stored)
    bearable["cpu_seconds"]["ours"] = [1.1 * value for value in stored["cpu_seconds"]["ours"]]
    assert run.lost("train_step", bearable, stored) == []


def test_the_docs_show_the_stored_ratios(run):
    text = run.DOCS.read_text()
    assert run.with_table(text) == text
    assert text.count(run.BEGIN) == text.count(run.END) == 1


def test_every_benchmark_is_in_the_suite(run):
    parts = {"run.py", "record.py", "loops.py"}
    quality = {  # not of speed
        "contrastive.py", "counts.py", "covariates.py", "disentanglement.py", "evaluate.py", "gene_function.py", "gtex_v6.py",
        "out_of_distribution.py", "published.py",
    }  # fmt: skip
    scripts = {benchmark.script for benchmark in run.BENCHMARKS.values()}
    assert {path.name for path in BENCHMARKS.glob("*.py")} - parts - quality == scripts
