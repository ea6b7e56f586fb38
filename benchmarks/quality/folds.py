"""Folds of GTEx v6 for model selection, without the test donors of the default split.

    python benchmarks/quality/folds.py FOLDER --seeds 11 12 13 [--components 1024]

The test donors of ``data.split_seed=0`` are excluded, so that no choice depends on them. A fifth of the other donors is for
validation, the rest for training. Writes coordinates in the basis of principal components, standardized genes of the
validation samples, and the scores of PCA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata
import numpy as np
import torch

from gtex_vae.data.splits import split_samples
from gtex_vae.data.standardize import Standardizer
from gtex_vae.functional.basis import coordinates
from gtex_vae.models.pca import PCA
from gtex_vae.paths import shared_dir


def known() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expression, donors and tissues of all samples but those of the test donors."""
    adata = anndata.read_h5ad(shared_dir() / "gtex_v6/gtex_v6.h5ad")
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0]
    donor, tissue = adata.obs["donor"].to_numpy().astype(str), adata.obs["tissue"].to_numpy().astype(str)
    rows = split_samples(donor, tissue, val=0.1, test=0.2, seed=0, by="donor") != "test"
    return np.asarray(adata.X, dtype=np.float32)[rows], donor[rows], tissue[rows]


def main() -> None:
    """Write each fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--components", type=int, default=1024)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    x_all_ng, donor, tissue = known()
    for seed in arguments.seeds:
        # val and test of this fold together validate: splitting needs three parts
        valid = split_samples(donor, tissue, val=0.1, test=0.1, seed=seed, by="donor") != "train"
        x_ng = x_all_ng.copy()
        Standardizer(x_ng.shape[1]).fit(x_ng, np.flatnonzero(~valid)).apply_(x_ng)
        pca = PCA.fit(x_ng[~valid], 64, basis=arguments.components)
        basis_fg = torch.from_numpy(pca.components_dg)
        y_nf, outside_n = coordinates(torch.from_numpy(x_ng), basis_fg)
        np.savez(
            arguments.folder / f"fold{seed}.npz",
            y=y_nf.numpy(), outside=outside_n.numpy(), valid=valid, donor=donor, tissue=tissue,
            x_valid=x_ng[valid], basis=pca.components_dg, variance=pca.variance_d, mean=pca.mean_g, noise=pca.noise,
        )  # fmt: skip
        outside = float(outside_n[valid].sum() / np.square(x_ng[valid]).sum())
        print(seed, (~valid).sum(), valid.sum(), len(set(donor[valid])), f"outside {outside:.4f}")


if __name__ == "__main__":
    main()
