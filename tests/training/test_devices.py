"""Several devices: requested devices, SLURM tasks, and statistics over the samples of all processes."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed, multiprocessing, nn

from gtex_vae.errors import ConfigError
from gtex_vae.nn import distributed as processes
from gtex_vae.nn.norms import BatchNorm
from gtex_vae.training import devices
from gtex_vae.training.environment import cluster_environment

SLURM = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_NUM_TASKS")


@pytest.fixture(autouse=True)
def outside_slurm(monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("trainer", "wanted"),
    [({"devices": 1}, 1), ({"devices": "2"}, 2), ({"devices": [0, 3]}, 2), ({"devices": 2, "num_nodes": 2}, 4), ({"devices": "auto"}, 1)],
)  # fmt: skip
def test_number_of_processes(trainer, wanted):
    assert devices.number(trainer) == wanted


def test_strategies():
    assert devices.strategy({"devices": 1}) == "auto"
    assert devices.strategy({"devices": 2, "strategy": "ddp"}) == "ddp"
    fsdp = devices.strategy({"devices": 2, "strategy": "fsdp"})
    assert isinstance(fsdp, ModelParallelStrategy)
    assert fsdp._data_parallel_size == 2
    with pytest.raises(ConfigError, match="auto, ddp, fsdp"):
        devices.strategy({"devices": 2, "strategy": "deepspeed"})


@pytest.mark.parametrize(
    ("tasks", "wanted", "nodes", "message"),
    [
        (1, 2, 1, "tasks_per_node=2"),
        (2, 1, 1, "srun started 2 tasks"),
        (4, 2, 1, "4 task"),
        (2, 2, 1, None),
        (1, 1, 1, None),
    ],
)
def test_devices_must_be_the_tasks_of_the_job(tasks, wanted, nodes, message, monkeypatch):
    for name, value in zip(SLURM, ("7", str(tasks), str(tasks), str(tasks)), strict=True):
        monkeypatch.setenv(name, value)
    if message is None:
        found = cluster_environment(wanted, nodes)
        assert isinstance(found, SLURMEnvironment if tasks > 1 else LightningEnvironment)
        assert tasks == 1 or found.auto_requeue is False
    else:
        with pytest.raises(ConfigError, match=message):
            cluster_environment(wanted, nodes)


def test_one_process_in_an_allocation_of_many_tasks_is_one_process(monkeypatch):
    """As in an interactive session without srun."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    cluster_environment(1)


def test_alone_it_is_torchs_batch_norm():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(3):
        x = torch.randn(6, 4)
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def _part(rank: int, address: str, folder: str) -> None:
    """A process with half of a batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    x = torch.load(f"{folder}/x.pt")[rank::2].requires_grad_()
    norm = BatchNorm(4)
    y = norm(x)
    # A value that depends on all samples: the mean of squares.
    processes.mean((y * torch.arange(4)).square().mean() + y.sigmoid().mean()).log().backward()
    chosen = processes.agree(10 + rank)
    torch.save((y.detach(), x.grad, norm.state_dict(), chosen), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_halves_are_normalized_as_the_whole(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(10, 4) * 3 + 5
    torch.save(x, tmp_path / "x.pt")
    multiprocessing.spawn(_part, (f"file://{tmp_path}/meet", str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole, norm = x.clone().requires_grad_(), nn.BatchNorm1d(4)
    y = norm(whole)
    ((y * torch.arange(4)).square().mean() + y.sigmoid().mean()).log().backward()
    assert whole.grad is not None
    for rank, (y_part, gradient, state, chosen) in enumerate(parts):
        torch.testing.assert_close(y_part, y[rank::2])
        # each process's loss is that of all, and DDP takes the mean of their gradients: 2 x 1/2
        torch.testing.assert_close(gradient / 2, whole.grad[rank::2], rtol=1e-4, atol=1e-6)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(state[name], value)
        assert chosen == 10
