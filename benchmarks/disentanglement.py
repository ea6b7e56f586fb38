"""Effect of beta, capacity, cycles and a total-correlation penalty on disentanglement and reconstruction.

    python benchmarks/disentanglement.py [--seeds 0] [--figure docs/figures/disentanglement.png]

Small trainings on the demo (1,500 samples x 2,000 genes, 10 known factors), measured on held-out donors: R2, KL, DCI and MIG
of the known factors, and the total correlation of the posterior means.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from record import machine, write
from torch import Tensor

from gtex_vae.analysis.evaluation.latent_space import known_factors
from gtex_vae.analysis.metrics.disentanglement import dci, mutual_information_gap
from gtex_vae.analysis.metrics.latent import active_units
from gtex_vae.config import build, register_resolvers, to_plain
from gtex_vae.models.objective import Objective, ObjectiveTerms
from gtex_vae.models.pca import PCA
from gtex_vae.models.vae import VAEOutput
from gtex_vae.paths import conf_dir
from gtex_vae.training import environment
from gtex_vae.training.build import build_trainer
from gtex_vae.training.module import VAEModule

RESULT = Path(__file__).parent / "results" / "disentanglement.json"
SMALL = (
    "model.hidden_dims=[256]", "model.n_members=1", "model.n_components=256", "model.latent_dim=32",
    "trainer.max_epochs=30", "trainer.accelerator=cpu", "trainer.precision=32-true", "data.batch_size=64",
    "callbacks.figures=null", "callbacks.console=null", "callbacks.best=null", "callbacks.last=null",
    "callbacks.early_stopping=null", "~logger",
)  # fmt: skip
KL = "callbacks.kl_annealing"
RUNS: dict[str, list[tuple[str, tuple[str, ...], float]]] = {
    "beta": [(f"{beta}", (f"{KL}.beta={beta}",), 0.0) for beta in (1, 4, 16, 64, 256)],
    "annealing at beta 1": [
        ("none", (f"{KL}.shape=constant",), 0.0),
        ("cyclic, 4", (f"{KL}.cycles=4", f"{KL}.ratio=0.5"), 0.0),
        ("shrinking cycles", (f"{KL}.cycles=7.5", f"{KL}.ratio=1.0", f"{KL}.decay=0.7", f"{KL}.floor=0.01"), 0.0),
    ],
    "capacity, nats": [
        (f"{nats}", (f"{KL}.capacity={nats}", f"{KL}.beta=100", f"{KL}.ratio=0.9"), 0.0) for nats in (10, 20, 40)
    ],
    "beta-TC": [(f"{1 + extra}", (), float(extra)) for extra in (3, 15, 63)],
}  # fmt: skip


class TotalCorrelation(Objective):
    r"""The ELBO with a heavier weight on the total correlation of the latent, by minibatch-weighted sampling.

    .. math:: -\mathrm{ELBO} + (\beta - 1)\, \mathrm{KL}\big(q(z) \,\|\, \textstyle\prod_d q(z_d)\big)

    References
    ----------
    Chen et al. (2018), Isolating Sources of Disentanglement in Variational Autoencoders, equation S5.
    """

    def __init__(self, extra: float, samples: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.extra, self.samples = extra, samples

    def __call__(self, likelihood: Any, output: VAEOutput, x_nf: Tensor, **how: Any) -> ObjectiveTerms:
        """The terms, with the penalty added to the loss in training; it follows the KL's own warm-up."""
        terms = super().__call__(likelihood, output, x_nf, **how)
        if not likelihood.training:
            return terms
        penalty = how["beta"] * self.extra * total_correlation(output, self.samples)
        return replace(terms, loss=terms.loss + penalty / likelihood.n_genes)


def total_correlation(output: VAEOutput, samples: int) -> Tensor:
    """Estimate the total correlation in nats."""
    n = len(output.z_nd)
    off_nnd = output.z_nd[:, None] - output.mu_nd
    log_nnd = -0.5 * (
        off_nnd.square() * torch.exp(-output.log_var_nd) + output.log_var_nd + math.log(2 * math.pi)
    )
    constant = math.log(n * samples)
    joint_n = torch.logsumexp(log_nnd.sum(-1), 1) - constant
    return (joint_n - (torch.logsumexp(log_nnd, 1) - constant).sum(-1)).mean()


def gaussian_total_correlation(z_nd: np.ndarray) -> float:
    """Compute the total correlation of a Gaussian with the same correlations, in nats, over dimensions that vary."""
    active_nd = z_nd[:, z_nd.var(0) > 0.01]
    return float(-0.5 * np.linalg.slogdet(np.corrcoef(active_nd.T))[1]) if active_nd.shape[1] > 1 else 0.0


def describe(z_nd: np.ndarray, factors: Any, **known: float) -> dict[str, float]:
    """Compute all values of one embedding of the held-out samples."""
    found = {
        **known,
        "active_units": active_units(z_nd),
        "mig": mutual_information_gap(z_nd, factors),
        "total_correlation": gaussian_total_correlation(z_nd),
    }
    return found | {key.removeprefix("latent/"): value for key, value in dci(z_nd, factors).items()}


def train(config: dict[str, Any], datamodule: Any, pca: PCA, extra: float) -> VAEModule:
    """Train once, as the package's command does."""
    torch.manual_seed(config["seed"])
    module = VAEModule(
        config["model"], config["objective"], config["optimizer"], config["learning_rate"], genes=datamodule.genes,
        standardize=datamodule.standardize, unit=datamodule.unit, seed=config["seed"],
    )  # fmt: skip
    module.scaler.load_state_dict(datamodule.scaler.state_dict())
    module.vae.start_from_pca(*map(torch.from_numpy, (pca.components_dg, pca.variance_d, pca.mean_g)))
    if extra:
        module.objective = TotalCorrelation(extra, len(datamodule.rows("train")))
    with tempfile.TemporaryDirectory() as folder:
        build_trainer(config["trainer"], config["callbacks"], None, Path(folder)).fit(module, datamodule)
    return module.eval()


def main() -> None:
    """Train each setting with each seed, write the table and draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", default=tempfile.gettempdir(), help="folder for the simulated data")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    environment.quiet_libraries()
    register_resolvers()
    rows: list[dict[str, Any]] = []
    datamodule: Any = None
    loads = [os.getloadavg()[0]]
    for family, settings in RUNS.items():
        for name, overrides, extra in settings:
            for seed in arguments.seeds:
                with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                    config = to_plain(
                        compose("train", [*SMALL, f"seed={seed}", f"paths.data={arguments.data}", *overrides])
                    )
                if datamodule is None:
                    datamodule = build(config["data"], under="gtex_vae.data")
                    datamodule.prepare_data()
                    datamodule.setup()
                    x_train_ng, x_test_ng = (datamodule.expression(split) for split in ("train", "test"))
                    pca = PCA.fit(x_train_ng.numpy(), 32, basis=256)
                    factors = known_factors(datamodule.adata[datamodule.kept("test")])
                    rows += pca_rows(pca.leading(32), x_test_ng, factors)
                    basis_fg = torch.from_numpy(pca.components_dg)
                    datamodule.rotate(basis_fg)
                module = train(config, datamodule, pca, extra)
                with torch.no_grad():
                    mu_nd, log_var_nd = module.vae.encode(x_test_ng)
                    left_ng = x_test_ng - module.vae.decode(mu_nd)
                kl = 0.5 * float((mu_nd.square() + log_var_nd.exp() - log_var_nd - 1).sum(1).mean())
                found = describe(mu_nd.numpy(), factors, r2=r2(x_test_ng, left_ng), kl_nats=kl)
                rows.append({"family": family, "setting": name, "seed": seed, **found})
                print(
                    {key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()},
                    flush=True,
                )
                loads.append(os.getloadavg()[0])
                result = {
                    "command": " ".join(["python", "benchmarks/disentanglement.py", *sys.argv[1:]]),
                    "machine": machine(loads, ("torch", "scikit-learn")),
                    "rows": rows,
                }
                write(RESULT, result)
    if arguments.figure is not None:
        draw(rows, arguments.figure)


def r2(x_ng: Tensor, left_ng: Tensor) -> float:
    """Compute the share of variance that is reconstructed."""
    return 1.0 - float(left_ng.square().sum() / (x_ng - x_ng.mean()).square().sum())


def pca_rows(pca: PCA, x_ng: Tensor, factors: Any) -> list[dict[str, Any]]:
    """Score the principal components that initialize every training, and shuffled factors."""
    left_ng = x_ng - torch.from_numpy(pca.reconstruct(x_ng.numpy()))
    scores_nd = pca.embed(x_ng.numpy()) / np.sqrt(pca.variance_d)
    shuffled = factors.sample(frac=1.0, random_state=0).set_axis(factors.index)
    return [
        {"family": name, "setting": "", "seed": 0, **describe(scores_nd, of, r2=r2(x_ng, left_ng))}
        for name, of in (("PCA", factors), ("PCA, factors shuffled", shuffled))
    ]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw disentanglement and MIG against R2, averaged over seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), constrained_layout=True)
    for axis, key, label in zip(
        axes, ("dci_disentanglement", "mig"), ("DCI disentanglement", "MIG"), strict=True
    ):
        for family in dict.fromkeys(row["family"] for row in rows if "shuffled" not in row["family"]):
            of_family = [row for row in rows if row["family"] == family]
            names = list(dict.fromkeys(row["setting"] for row in of_family))
            points = [
                np.mean([(row["r2"], row[key]) for row in of_family if row["setting"] == name], axis=0) for name in names
            ]  # fmt: skip
            line = "none" if family in ("PCA", "annealing at beta 1") else "-"
            axis.plot(*np.transpose(points), marker="o", ms=4, linestyle=line, label=family)
            for name, point in zip(names, points, strict=True):
                axis.annotate(name, point, fontsize=6, xytext=(3, 3), textcoords="offset points")
        axis.set_xlabel("reconstruction R2, held-out donors")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0.0)
    axes[0].legend(fontsize=7, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
