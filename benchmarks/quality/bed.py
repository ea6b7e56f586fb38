"""Train and score variants of the default model quickly, on folds of `folds.py`.

    python benchmarks/quality/bed.py FOLDER VARIANT [--fold 11] [--epochs 12] [--members 2] [--save]

The package's modules are trained on coordinates in a plain loop with the package's schedules, and scored on the fold's
validation donors. Each run adds a row to ``FOLDER/rows.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import variants

from gtex_vae import runtime
from gtex_vae.analysis.metrics.imputation import hidden_batches
from gtex_vae.analysis.metrics.tissue import accuracy, knn_predict, logreg_predict
from gtex_vae.functional.schedules import kl_weight, warmup_cosine
from gtex_vae.models.objective import Objective
from gtex_vae.models.pca import PCA
from gtex_vae.models.vae import VAE

BATCH_SIZE = 128
FAR = 10.0  # standard deviations: a handful of held-out entries beyond it would decide R2


class Fold:
    """What `folds.py` wrote."""

    def __init__(self, folder: Path, seed: int, components: int | None = None) -> None:
        self.folder, self.seed = folder, seed
        data = np.load(folder / f"fold{seed}.npz")
        valid = data["valid"]
        y_nf, outside_n = torch.from_numpy(data["y"]), torch.from_numpy(data["outside"])
        y_nf, rest_nf = y_nf[:, :components], y_nf[:, y_nf.shape[1] if components is None else components :]
        outside_n = outside_n + rest_nf.square().sum(1)
        self.train_nf, self.train_outside_n = y_nf[~valid], outside_n[~valid]
        self.valid_nf, self.valid_outside_n = y_nf[valid], outside_n[valid]
        self.train_tissue, self.valid_tissue = data["tissue"][~valid], data["tissue"][valid]
        self.train_donor = data["donor"][~valid]
        self.x_valid_ng = torch.from_numpy(data["x_valid"])
        self.pca = PCA(data["mean"], data["basis"], data["variance"], float(data["noise"]))
        self.hidden_ng = torch.from_numpy(np.concatenate(list(
            hidden_batches(len(self.x_valid_ng), self.x_valid_ng.shape[1], 0.2, seed=0, batch_size=512)
        )))  # fmt: skip

    def weights(self, variant: str) -> dict[str, torch.Tensor]:
        """What ``--save`` kept of a variant on this fold."""
        return torch.load(weights_file(self.folder, variant, self.seed), weights_only=True)


def weights_file(folder: Path, variant: str, fold: int) -> Path:
    """Where ``--save`` puts a variant."""
    return folder / f"{variant}_{fold}.pt"


def score(reconstruct, z_train_nd: np.ndarray, z_valid_nd: np.ndarray, fold: Fold) -> dict[str, float]:
    """Figures on the validation donors."""
    x_ng, hidden_ng = fold.x_valid_ng, fold.hidden_ng
    near_ng = x_ng.abs() < FAR
    x_hat_ng = reconstruct(x_ng, None)
    imputed_ng = reconstruct(torch.where(hidden_ng, 0.0, x_ng), ~hidden_ng)
    rows = {}
    for name, got_ng, counted_ng in (
        ("r2", x_hat_ng, near_ng),
        ("imputation", imputed_ng, hidden_ng & near_ng),
    ):
        error, spread = (got_ng - x_ng).square() * counted_ng, x_ng.square() * counted_ng
        rows[name] = 1.0 - float(error.sum() / spread.sum())
    for name, predict in (("knn", knn_predict), ("logistic", logreg_predict)):
        rows[name] = accuracy(predict(z_train_nd, z_valid_nd, fold.train_tissue), fold.valid_tissue)
    return rows


def score_vae(vae: VAE, fold: Fold) -> dict[str, float]:
    """Figures of a model in evaluation mode."""
    with torch.inference_mode():
        z_train_nd, z_valid_nd = (
            torch.cat([vae.infer(part)[0] for part in y_nf.split(512)]).numpy()
            for y_nf in (fold.train_nf, fold.valid_nf)
        )
        figures = score(vae.reconstruct, z_train_nd, z_valid_nd, fold)
        x_hat_nf = vae.decode_features(torch.from_numpy(z_train_nd))
        total = fold.train_nf.square().sum() + fold.train_outside_n.sum()
        error = (x_hat_nf - fold.train_nf).square().sum() + fold.train_outside_n.sum()
    return figures | {"train_r2": 1.0 - float(error / total)}


def score_pca(fold: Fold, latent_dim: int) -> dict[str, float]:
    """Figures of the baseline."""
    pca = fold.pca.leading(latent_dim)
    mean_nf = torch.from_numpy(fold.pca.components_dg @ fold.pca.mean_g)
    z = [(part - mean_nf)[:, :latent_dim].numpy() for part in (fold.train_nf, fold.valid_nf)]
    return score(
        lambda x, seen: torch.as_tensor(pca.reconstruct(x.numpy(), None if seen is None else seen.numpy())),
        *z,
        fold,
    )


def train(fold: Fold, settings: dict, *, epochs: int, members: int, latent_dim: int, seed: int) -> VAE:
    """The default recipe, changed by a variant's settings."""
    torch.manual_seed(seed)
    vae = VAE(
        fold.x_valid_ng.shape[1], latent_dim, n_components=fold.train_nf.shape[1],
        **{"n_members": members} | settings.get("model", {}),
    )  # fmt: skip
    settings.get("change", lambda vae: None)(vae)
    pca = [torch.from_numpy(part) for part in (fold.pca.components_dg, fold.pca.variance_d, fold.pca.mean_g)]
    vae.start_from_pca(*pca)
    extra = settings.get("extra", lambda vae, fold: None)(vae, fold)
    decay = settings.get("weight_decay", 1.0)
    paths = {part.skip.weight for part in (*vae.encoders, *vae.decoders) if part.skip is not None}
    outs = {p for decoder in vae.decoders for p in decoder.out.parameters() if p.ndim > 1}
    free = {p for name, p in vae.named_parameters() if p.ndim <= 1 or p in paths or name.startswith("prior.")}
    groups = (
        ([p for p in vae.parameters() if p not in outs | free], decay),
        ([p for p in vae.parameters() if p in outs], settings.get("out_decay", decay)),
        ([p for p in vae.parameters() if p in free], 0.0),
    )
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": value} for parameters, value in groups],
        lr=settings.get("lr", 2e-3),
        fused=True,
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    objective = Objective()
    augment = settings.get("augment", lambda fold: None)(fold)
    forward = settings.get("forward", lambda: lambda vae, y_nf, progress: vae(y_nf))()
    n, batch_size = len(fold.train_nf), settings.get("batch_size", BATCH_SIZE)
    total = epochs * (n // batch_size)
    step = 0
    vae.train()
    for _ in range(epochs):
        for rows in torch.randperm(n)[: n - n % batch_size].split(batch_size):
            y_nf = fold.train_nf[rows] if augment is None else augment(rows, step / total)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * warmup_cosine((step + 0.5) / total, warmup=0.3, final=0.0)
            with torch.autocast("cpu", torch.bfloat16):
                output = forward(vae, y_nf, step / total)
            whole_nf = torch.cat([y_nf] * (len(output.mu_nd) // len(y_nf)))
            outside_n = torch.cat([fold.train_outside_n[rows]] * (len(output.mu_nd) // len(y_nf)))
            beta = kl_weight(step / total, ratio=0.25, beta=settings.get("beta", 1.0))
            if "loss" in settings:
                loss = settings["loss"](vae.likelihood, output, whole_nf, outside_n, beta)
            else:
                loss = objective(vae.likelihood, output, whole_nf, beta=beta, outside_n=outside_n).loss
            if extra is not None:
                loss = loss + beta * extra(vae, output, whole_nf) / vae.n_genes
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            step += 1
    return vae.eval()


def main() -> None:
    """Train one variant, or score the PCA."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--fold", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--latent_dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    runtime.tune_process()
    settings = {} if arguments.variant == "pca" else variants.VARIANTS[arguments.variant]
    fold = Fold(arguments.folder, arguments.fold, settings.get("components"))
    start = time.perf_counter()
    if arguments.variant == "pca":
        figures = score_pca(fold, arguments.latent_dim)
    else:
        vae = train(
            fold, settings, epochs=arguments.epochs, members=arguments.members,
            latent_dim=arguments.latent_dim, seed=arguments.seed,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        figures = {"components": fold.train_nf.shape[1], "seconds": round(seconds)}
        for vae.mode_steps in arguments.steps:
            figures |= {f"{name}_{vae.mode_steps}": value for name, value in score_vae(vae, fold).items()}
        if arguments.save:
            torch.save(vae.state_dict(), weights_file(arguments.folder, arguments.variant, arguments.fold))
    row = {k: v for k, v in vars(arguments).items() if k not in ("folder", "steps", "save")} | {
        k: round(v, 4) for k, v in figures.items()
    }
    print(row)
    with (arguments.folder / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
