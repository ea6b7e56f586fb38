"""Settings of all tests; commands run as a user runs them, each in a process of its own, and a small data set for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# the same examples on every machine and every run, and no failure because the machine was busy
settings.register_profile("gtex_vae", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("gtex_vae")

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
TINY = (
    "data.prepare.n_samples=150",
    "data.prepare.n_genes=120",
    "data.val=0.2",
    "data.test=0.3",
    "data.batch_size=16",
    "model.hidden_dims=[32]",
    "model.latent_dim=8",
    "trainer.max_epochs=4",
    "trainer.accelerator=${oc.env:GTEX_VAE_TEST_ACCELERATOR,cpu}",
    "trainer.precision=32-true",
)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


class WarmPython:
    """Runs ``python -m module arguments`` in forks of a process that has done the imports (see warm_python.py)."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        environ = {
            **os.environ,
            "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
            "COLUMNS": "200",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "warm_python.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip
        assert self._answer() == {"ready": True}

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the process of the commands ended, code {self._process.wait(30)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __call__(
        self,
        module: str,
        *arguments: str,
        cwd: Path | None = None,
        environ: dict[str, str] | None = None,
        die: tuple[str, int] | None = None,
        meanwhile: Callable[[int], None] | None = None,
    ) -> Done:
        """Run a command to its end; ``meanwhile`` is given its pid."""
        files = self.scratch / "stdout", self.scratch / "stderr"
        order = {
            "argv": [module, *arguments], "cwd": str(cwd or self.scratch), "environ": environ or {},
            "stdout": str(files[0]), "stderr": str(files[1]), "die": die,
        }  # fmt: skip
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        pid = self._answer()["pid"]
        if meanwhile is not None:
            meanwhile(pid)
        code = self._answer()["code"]
        return Done(code, *(file.read_text(encoding="utf-8", errors="replace") for file in files))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


Train = Callable[..., Done]


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """``command("gtex_vae.train", "seed=1", ...)``."""
    warm = WarmPython(tmp_path_factory.mktemp("command"))
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder where the first run makes the processed file of the small data set."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def train(command: WarmPython, tiny_data: Path) -> Train:
    """Train on the small data set: ``train(run_dir, "seed=1", ...)``."""

    def run(run_dir: Path | None, *overrides: str, tiny: Sequence[str] = TINY, **how: Any) -> Done:
        where = () if run_dir is None else (f"hydra.run.dir={run_dir}",)
        return command("gtex_vae.train", *tiny, f"paths.data={tiny_data}", *where, *overrides, **how)

    return run


@pytest.fixture(scope="session")
def analyzed(train: Train, command: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with its report, never evaluated before."""
    run = tmp_path_factory.mktemp("analyzed") / "run"
    done = train(run, "trainer.log_every_n_steps=1")
    assert done.code == 0, done.stderr
    done = command("gtex_vae.analyze", f"run={run}", cwd=run.parent)
    assert done.code == 0, done.stderr
    return run
