"""An installed wheel trains from any directory; it contains configs and types."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="pip install -e '.[dev]' brings what builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    run(
        "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder), cwd=ROOT
    )
    (built,) = folder.glob("gtex_vae-*.whl")
    return built


def test_content(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "gtex_vae/py.typed" in names
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"gtex_vae/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    for path in (ROOT / "src" / "gtex_vae").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT / "src").as_posix() in names
    plugins = {f"hydra_plugins/{path.name}" for path in (ROOT / "src" / "hydra_plugins").glob("*.py")}
    assert plugins <= names
    # hydra_plugins belongs to everybody: an __init__.py there would hide the other plugins
    assert "hydra_plugins/__init__.py" not in names
    assert not [name for name in names - plugins if not name.startswith(("gtex_vae/", "gtex_vae-"))]


def test_trains_from_an_unrelated_directory(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        "--target",
        str(site),
        str(wheel),
        cwd=tmp_path,
    )
    where = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    assert run("-c", "import gtex_vae; print(gtex_vae.__file__)", cwd=elsewhere, **where).startswith(
        str(site)
    )
    assert "latent_dim: 64" in run("-m", "gtex_vae.train", "--cfg", "job", cwd=elsewhere, **where)
    done = run(
        "-m", "gtex_vae.train", "data.prepare.n_samples=150", "data.prepare.n_genes=120", "data.val=0.2",
        "data.test=0.3", "data.batch_size=16", "model.hidden_dims=[8]", "model.latent_dim=2", "trainer.max_epochs=1",
        "trainer.limit_train_batches=1", cwd=elsewhere, **where,
    )  # fmt: skip
    assert "held-out donors" in done
    (run_dir,) = (elsewhere / "outputs" / "train" / "runs").iterdir()
    assert (run_dir / "SUCCESS").exists()
