"""Training loops: the published one, a plain loop with our arithmetic, and the package's trainer.

Each yields wall and CPU seconds of its steps after `WARM` warm-up steps. A GPU runs asynchronously, so a measurement there is
the mean over a block of steps, with synchronization before and after.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM = 3
BLOCK = 25  # steps of a measurement on a GPU
HELD_OUT = 140  # samples of the validation and of the test split, not used by steps


@dataclass(frozen=True)
class Workload:
    """A model on random data: genes, samples per step, and further config overrides."""

    genes: int
    batch: int
    overrides: tuple[str, ...]

    def config(self, precision: str) -> dict[str, Any]:
        """Compose the complete config of a training run."""
        from hydra import compose, initialize_config_dir

        from gtex_vae.config import register_resolvers, to_plain
        from gtex_vae.paths import conf_dir

        register_resolvers()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            plain: dict[str, Any] = to_plain(
                compose("train", [*self.overrides, f"trainer.precision={precision}"])
            )
        return plain


WORKLOADS = {
    "published": Workload(19_797, 128, ("+experiment=seed_64",)),
    "default": Workload(7_039, 128, ()),
    "tissue": Workload(7_039, 128, ("+experiment=contrastive_tissue",)),
    "views": Workload(7_039, 128, ("+experiment=contrastive_views",)),
    "small": Workload(4_000, 128, ("+experiment=seed_64", "model.hidden_dims=[1024,256]")),
}


def size_of_block(device: str) -> int:
    """Return the number of steps per measurement."""
    return 1 if device == "cpu" else BLOCK


def batches_for(blocks: int, device: str) -> int:
    """Return the number of steps of a loop with this many measurements, including warm-up."""
    return blocks + WARM if device == "cpu" else (blocks + 1) * BLOCK


def now(device: str) -> tuple[float, float]:
    """Synchronize the device and return wall and CPU seconds."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def seconds_of(step: Callable[[], object], device: str = "cpu", steps: int = 1) -> tuple[float, float]:
    """Average wall and CPU seconds per step."""
    wall, cpu = now(device)
    for _ in range(steps):
        step()
    wall_after, cpu_after = now(device)
    return (wall_after - wall) / steps, (cpu_after - cpu) / steps


def published(work: Workload, steps: int, x_ng: Any = None, device: str = "cpu") -> Iterator[Any]:
    """Run the published system's loop: DataLoader over a TensorDataset, fp32, Adam, clipping, three ``.item()`` per step.

    Yields after every step. With a matrix of samples it goes through that for ever, yields after every epoch, and what it
    yields is a function that reconstructs samples.
    """
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    model = work.config("32-true")["model"]
    hidden, latent = model["hidden_dims"], model["latent_dim"]

    def stack(widths: list[int]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ELU(), nn.Dropout(0.3)]
        return layers

    encoder = nn.Sequential(*stack([work.genes, *hidden]))
    mu, log_var = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)
    decoder = nn.Sequential(*stack([latent, *hidden[::-1]]), nn.Linear(hidden[0], work.genes))
    for part in (encoder, mu, log_var, decoder):
        part.to(device)
    parameters = [p for part in (encoder, mu, log_var, decoder) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    @torch.no_grad()
    def reconstruct(samples: torch.Tensor) -> torch.Tensor:
        encoder.eval(), decoder.eval()
        made = decoder(mu(encoder(samples)))
        encoder.train(), decoder.train()
        return made

    x = torch.randn(work.batch * batches_for(steps, device), work.genes) if x_ng is None else x_ng
    loader = DataLoader(TensorDataset(x), batch_size=work.batch, shuffle=True, drop_last=True)
    epochs = itertools.repeat(loader, 1) if x_ng is None else itertools.repeat(loader)
    for batch, last in ((b, i == len(loader) - 1) for epoch in epochs for i, (b,) in enumerate(epoch)):
        optimizer.zero_grad()
        batch = batch.to(device)
        h = encoder(batch)
        m, lv = mu(h), log_var(h)
        out = decoder(m + torch.exp(0.5 * lv) * torch.randn_like(m))
        reconstruction = functional.mse_loss(out, batch)
        kl = -0.5 * torch.mean(1 + lv - m.pow(2) - lv.exp())
        loss = reconstruction + 0.5 * kl
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        loss.item(), reconstruction.item(), kl.item()
        if x_ng is None or last:
            yield reconstruct


def by_hand(work: Workload, steps: int, precision: str, device: str = "cpu") -> Iterator[None]:
    """Run our model, objective and optimizer in a plain loop, without trainer, callbacks or logging."""
    import torch

    from gtex_vae.config import build

    config = work.config(precision)
    vae = build(config["model"], under="gtex_vae.models", n_genes=work.genes).to(device)
    objective = build(config["objective"], under="gtex_vae.models")
    optimizer = build(config["optimizer"], under="torch.optim", params=vae.parameters())
    features = config["model"]["n_components"] or work.genes
    x = torch.randn(work.batch * batches_for(steps, device), features, device=device)
    outside_n = None if vae.basis_fg is None else torch.ones(work.batch, device=device)
    members = len(vae.encoders)
    for row_n in torch.randperm(len(x), device=device).split(work.batch):
        x_nf = x.index_select(0, row_n)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
            output = vae(x_nf)
            loss = objective(
                vae.likelihood, output, torch.cat([x_nf] * members) if members > 1 else x_nf, beta=0.5,
                outside_n=None if outside_n is None else torch.cat([outside_n] * members),
            ).loss  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), config["trainer"]["gradient_clip_val"])
        optimizer.step()
        yield


def ours(
    work: Workload,
    steps: int,
    precision: str,
    others: dict[str, Iterator[None]] | None = None,
    *,
    device: str = "cpu",
) -> dict[str, list[tuple[float, float]]]:
    """Run the package's module, callbacks, logger and trainer; ``others`` take one step after each of its steps.

    A step lasts from the end of the previous one to its own end, so that it includes everything the trainer does.
    """
    import numpy as np
    import pandas as pd
    import torch
    from anndata import AnnData
    from lightning.pytorch import Callback

    from gtex_vae.data.datamodule import ExpressionDataModule
    from gtex_vae.training.build import build_trainer
    from gtex_vae.training.module import VAEModule

    took: dict[str, list[tuple[float, float]]] = {"ours": [], **{name: [] for name in others or {}}}
    block, batches = size_of_block(device), batches_for(steps, device)

    class Clock(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step % block:
                return
            counts = trainer.global_step > (WARM if block == 1 else block)
            if counts:
                took["ours"].append(
                    tuple((b - a) / block for a, b in zip(self.since, now(device), strict=True))
                )
            for name, steps_of in (others or {}).items():
                seconds = seconds_of(lambda steps_of=steps_of: next(steps_of))
                if counts:
                    took[name].append(seconds)
            self.since = now(device)

    config = work.config(precision)
    with tempfile.TemporaryDirectory() as folder:
        n = work.batch * batches + 2 * HELD_OUT + 20
        obs = pd.DataFrame(
            {"donor": [f"d{i}" for i in range(n)], "tissue": [f"t{i % 53}" for i in range(n)]},
            index=[f"s{i}" for i in range(n)],
        )
        adata = AnnData(np.random.default_rng(0).standard_normal((n, work.genes), dtype=np.float32), obs=obs)
        adata.write_h5ad(f"{folder}/x.h5ad")
        del adata
        held = HELD_OUT / n
        data = ExpressionDataModule("bench", f"{folder}/x.h5ad", val=held, test=held, batch_size=work.batch)
        data.setup()
        left_out = ("best", "last", "figures", "console", "early_stopping")  # they only act between epochs
        callbacks = {k: v for k, v in config["callbacks"].items() if k not in left_out}
        settings = {"max_epochs": 1, "limit_train_batches": batches, "limit_val_batches": 0}
        settings["accelerator"] = {"cpu": "cpu", "cuda": "gpu"}[device]
        trainer_config = {**config["trainer"], **settings, "enable_checkpointing": False}
        trainer = build_trainer(trainer_config, callbacks, config["logger"], Path(folder))
        trainer.callbacks.append(Clock())
        torch.manual_seed(0)
        module = VAEModule(
            config["model"], config["objective"], config["optimizer"], None,
            genes=data.genes, standardize=data.standardize, unit="", contrastive=config.get("contrastive"),
        )  # fmt: skip
        if module.contrastive is not None:
            module.contrastive.look_up(data.adata.obs)
        if module.vae.basis_fg is not None and not module.needs_genes(trainer.callbacks):
            data.rotate(module.vae.basis_fg)
        trainer.fit(module, data)
    return took


def timed(loop: Iterator[None], device: str = "cpu") -> list[tuple[float, float]]:
    """Measure wall and CPU seconds of each step after warm-up; on a GPU, of the mean step of each block."""
    took, block = [], size_of_block(device)
    while True:
        try:
            took.append(seconds_of(lambda: next(loop), device, block))
        except StopIteration:
            return took[WARM:] if block == 1 else took[1:]


class _Done(Exception):  # noqa: N818
    """Raised to skip everything after training."""


def train_watched(
    config: dict[str, Any], run_dir: Path, watch: Any, before_pca: Callable[[], None] = lambda: None
) -> None:
    """Run the package's training of a config without final metrics, with an additional callback.

    The callback may set ``done`` to end it after any validation.
    """
    from lightning.pytorch import Callback

    from gtex_vae.training import fit

    class End(Callback):
        def on_validation_end(self, *_: Any) -> None:
            if getattr(watch, "done", False):
                raise _Done

        def on_train_end(self, *_: Any) -> None:
            raise _Done

    build_trainer, fit_pca = fit.build_trainer, fit.fit_pca

    def with_watch(*arguments: Any) -> Any:
        trainer = build_trainer(*arguments)
        trainer.callbacks += [watch, End()]
        return trainer

    def after_telling(*arguments: Any) -> Any:
        before_pca()
        return fit_pca(*arguments)

    fit.build_trainer, fit.fit_pca = with_watch, after_telling
    try:
        fit.fit_vae({"contrastive": None, **config}, run_dir)
    except _Done:
        pass
    finally:
        fit.build_trainer, fit.fit_pca = build_trainer, fit_pca


def layers(work: Workload, precision: str) -> list[tuple[int, int, int]]:
    """List inputs, outputs and matrix products of every linear layer in a training step."""
    import torch
    from torch import nn

    from gtex_vae.config import build

    with torch.device("meta"):
        vae = build(work.config(precision)["model"], under="gtex_vae.models", n_genes=work.genes)
    data = (work.genes, vae.encoders[0].mlp[0].in_features)  # the gradient of the data is not computed
    of = (layer for layer in vae.modules() if isinstance(layer, nn.Linear))
    return [(a.in_features, a.out_features, 2 if a.in_features in data else 3) for a in of]


def limit(work: Workload, precision: str, device: str = "cpu") -> tuple[float, float]:
    """Compute the seconds of a step with only the model's matrix products, each at the fastest measured rate."""
    import torch
    from torch import nn

    from gtex_vae.nn.linear import _product

    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    wall, cpu = 0.0, 0.0
    for inputs, outputs, products in layers(work, precision):
        weight_oi = torch.randn(outputs, inputs).to(device, dtype)
        x_ni = torch.randn(work.batch, inputs).to(device, dtype)
        gradient_no = torch.randn(work.batch, outputs).to(device, dtype)
        for a, b in [(x_ni, weight_oi), (gradient_no.T, x_ni.T), (gradient_no, weight_oi.T)][:products]:
            ways: list[Callable[[], object]] = [lambda a=a, b=b: nn.functional.linear(a, b)]
            if device == "cpu":
                ways.append(lambda a=a, b=b: _product(a, b))
            for way in ways:
                way()
            block = size_of_block(device)
            took = [seconds_of(way, device, block) for _ in range(3) for way in ways]
            wall, cpu = wall + min(of[0] for of in took), cpu + min(of[1] for of in took)
    return wall, cpu


def teraflops_of_a_step(work: Workload, precision: str) -> float:
    """Floating-point operations of the model's own products in a step, in 10^12."""
    return sum(2 * work.batch * i * o * products for i, o, products in layers(work, precision)) / 1e12


def teraflops_of_the_card(precision: str, size: int = 8192) -> float:
    """Measure the rate of one large square product on a GPU, in 10^12 operations per second."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    took = [seconds_of(lambda: a @ b, "cuda", BLOCK) for _ in range(3)]
    return 2 * size**3 / min(wall for wall, _ in took) / 1e12
