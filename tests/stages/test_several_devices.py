"""Two processes on CPUs compute what one does with the whole batch; one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gtex_vae.runs import directory

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
# 25 validation samples for two processes: an odd number
SMALL = (
    "data.prepare.n_samples=150", "data.prepare.n_genes=120", "data.val=0.2", "data.test=0.3", "model.hidden_dims=[32]",
    "model.latent_dim=8", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1",
)  # fmt: skip
# dropout and masks are drawn by each process for itself
PLAIN = ("model.dropout=0.0", "trainer.max_epochs=4")
KINDS = {
    "ddp": ("trainer=ddp", "data.batch_size=8"),
    "fsdp": ("trainer=fsdp", "data.batch_size=8"),
}  # fmt: skip


def train(
    run_dir: Path, *overrides: str, data: Path, script: str = "-m gtex_vae.train", **environ: str
) -> subprocess.CompletedProcess[str]:
    environ |= {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    line = [
        sys.executable,
        *script.split(),
        *SMALL,
        f"paths.data={data}",
        f"hydra.run.dir={run_dir}",
        *overrides,
    ]
    return subprocess.run(
        line, capture_output=True, text=True, env={**os.environ, **environ}, cwd=run_dir.parent, timeout=300
    )


def curve(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_data) -> Path:
    """One process, with the batch that two will share."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done = train(run, *PLAIN, "data.batch_size=16", data=tiny_data, script=str(HERE / "without_noise.py"))
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module", params=KINDS)
def shared(request, tmp_path_factory, tiny_data) -> Path:
    run = tmp_path_factory.mktemp(request.param) / "run"
    done = train(run, *PLAIN, *KINDS[request.param], data=tiny_data, script=str(HERE / "without_noise.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reconstruction R2") == 1  # measured once
    assert done.stdout.count("fitting a PCA") == 1  # said once
    assert done.stderr == ""
    return run


@pytest.mark.slow
def test_as_one_process_with_the_whole_batch(alone, shared):
    one, two = (load_file(run / "model" / "weights.safetensors") for run in (alone, shared))
    assert list(one) == list(two)
    for name in one:
        torch.testing.assert_close(
            two[name], one[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    for tag in ("train/loss", "train/mse", "train/kl_nats", "val/loss", "val/mse", "val/r2", "val/kl_nats"):
        expected, found = curve(alone, tag), curve(shared, tag)
        assert [step for step, _ in found] == [step for step, _ in expected], tag
        # equal sums: no sample is counted twice, and none is left out
        assert [v for _, v in found] == pytest.approx([v for _, v in expected], rel=1e-4, abs=1e-5), tag
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (alone, shared)]
    for key in ("reconstruction/r2", "imputation/r2_20", "rate/kl_nats"):
        assert metrics[1][key] == pytest.approx(metrics[0][key], abs=1e-3), key


@pytest.mark.slow
def test_one_process_writes(alone, shared):
    files = [
        sorted(str(p.relative_to(run)) for p in run.rglob("*") if "tensorboard" not in str(p))
        for run in (alone, shared)
    ]
    assert files[0] == files[1]
    lines = [(run / "log.txt").read_text() for run in (alone, shared)]
    assert lines[1].count("measuring on") == lines[0].count("measuring on") == 1
    assert directory.status(shared) == "finished"


@pytest.mark.slow
def test_checkpoints_are_whole_and_load_anywhere(alone, shared):
    for name in ("best", "last"):
        one, two = (
            torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (alone, shared)
        )
        assert {k: v.shape for k, v in one["state_dict"].items()} == {
            k: v.shape for k, v in two["state_dict"].items()
        }
        assert {type(v) for v in two["state_dict"].values()} == {torch.Tensor}
    assert len(two["optimizer_states"][0]["state"]) == len(one["optimizer_states"][0]["state"])


@pytest.mark.slow
def test_killed_and_resumed_as_undisturbed(shared, tmp_path, tiny_data):
    kind = KINDS["fsdp" if "fsdp" in str(shared) else "ddp"]
    script = str(HERE / "without_noise.py")
    stopped = train(tmp_path / "stopped", *PLAIN, *kind, data=tiny_data, script=script, DIE_AT_SAVE="2")
    assert stopped.returncode != 0
    assert directory.status(tmp_path / "stopped") == "unfinished"
    done = train(tmp_path / "stopped", *PLAIN, *kind, data=tiny_data, script=script)
    assert done.returncode == 0, done.stderr
    assert "resuming the unfinished run" in done.stdout
    one, two = (load_file(run / "model" / "weights.safetensors") for run in (shared, tmp_path / "stopped"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=0)


@pytest.mark.slow
def test_the_published_model_with_as_many_dimensions_as_genes(tmp_path, tiny_data):
    """The 19,797-dimensional configuration with fewer genes and narrower layers, its parameters divided."""
    done = train(
        tmp_path / "run", "+experiment=seed_19797", "trainer=fsdp", "model.latent_dim=120", "model.hidden_dims=[64,32]",
        "trainer.max_epochs=2", "data.batch_size=8", data=tiny_data,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "model" / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize(
    ("environ", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, True),
    ],
)
def test_which_process_writes(environ, first, monkeypatch):
    for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert directory.is_first_process() is first
