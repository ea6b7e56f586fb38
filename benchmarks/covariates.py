"""Prediction of covariates from the embedding of a conditional model, compared with the unconditional model.

    python benchmarks/covariates.py [--columns ischemic_time rin batch sex age] [--name demo] [key=value ...]

Trains both with the package's command and predicts each covariate from the embeddings of held-out donors, by ridge or
logistic regression as in evaluate, and by a random forest to find nonlinear dependence. Further overrides go to both
trainings. On the demo, the counterfactual at 0 minutes of ischemic time is compared with the simulated truth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from record import machine, write

from gtex_vae.analysis.evaluation.run_samples import open_samples
from gtex_vae.analysis.metrics.covariate_prediction import predictability
from gtex_vae.data.covariates import as_number
from gtex_vae.inference.predictors import embed_in_batches
from gtex_vae.inference.trained_model import TrainedModel

KEYS = (
    "reconstruction/r2", "reconstruction/gene_r2_median", "imputation/r2_20", "tissue/knn_accuracy",
    "tissue/logreg_accuracy", "elbo/nats_per_gene", "rate/kl_nats",
)  # fmt: skip
LONG = 300.0  # minutes


def forest_r2(z_nd: np.ndarray, values: pd.Series, donors: pd.Series) -> float:
    """Compute R2 of a random forest on donors left out of its fit."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import GroupKFold, cross_val_predict

    known = values.notna().to_numpy()
    forest = RandomForestRegressor(100, min_samples_leaf=3, max_features=0.3, random_state=0)
    y_n = values[known].to_numpy()
    predicted_n = cross_val_predict(
        forest, z_nd[known], y_n, cv=GroupKFold(5), groups=donors[known].astype(str)
    )
    return 1.0 - float(np.square(y_n - predicted_n).sum() / np.square(y_n - y_n.mean()).sum())


def known_of(run: Path, columns: list[str], *, given: bool) -> dict[str, dict[str, float]]:
    """Score the prediction of each covariate from the embeddings of the run's held-out donors."""
    model = TrainedModel.load(run / "model")
    adata = open_samples(run, model)
    test = adata[(adata.obs["split"] == "test").to_numpy()]
    z_nd = embed_in_batches(model.with_covariates(test.obs if given else test.obs[[]]), np.asarray(test.X))
    table = predictability(z_nd, test.obs, columns)
    found: dict[str, dict[str, float]] = {str(name): row.dropna().to_dict() for name, row in table.iterrows()}
    for name in table.index[table["measure"] == "r2"]:
        values, tissue = (
            as_number(test.obs[name]),
            pd.get_dummies(test.obs["tissue"].astype(str)).to_numpy(float),
        )
        found[name]["latent_forest"] = forest_r2(z_nd, values, test.obs["donor"])
        found[name]["tissue_forest"] = forest_r2(tissue, values, test.obs["donor"])
    return found


def counterfactual(run: Path, folder: Path) -> dict[str, float] | None:
    """Compare expression at 0 minutes of ischemic time with the simulated truth, on held-out donors with long times."""
    import anndata

    from gtex_vae.data.preprocess import processed
    from gtex_vae.runs import directory

    data = directory.read_config(run)["data"]
    path = processed.choose(data["path"], data["processed"])
    truth = processed.read(path)
    if "truth_effects" not in truth.varm:
        return None
    command = [
        "gtex_vae.encode",
        f"run={run}",
        f"input={path}",
        "as_if={ischemic_time: 0}",
        f"hydra.run.dir={folder}",
    ]
    subprocess.run([sys.executable, "-m", *command], check=True)
    made = anndata.read_h5ad(folder / "expression.h5ad")
    split = pd.read_csv(run / "splits.csv", index_col=0)["split"].reindex(truth.obs_names)
    chosen = ((split == "test") & (truth.obs["ischemic_time"] > LONG)).to_numpy()
    effect_g = truth.varm["truth_effects"]["ischemic_time"].to_numpy()
    fold_ng = -truth.obsm["truth_covariates"]["ischemic_time"].to_numpy()[:, None] * effect_g
    tpm_ng = (np.exp2(truth.X) - 1.0) * np.exp2(fold_ng)
    wanted_ng = (np.log2(1e6 * tpm_ng / tpm_ng.sum(1, keepdims=True) + 1.0) - truth.X)[chosen]
    change_ng = (made.layers["as_if"] - made.X)[chosen]
    return {
        "samples": int(chosen.sum()),
        "correlation": float(np.corrcoef(change_ng.ravel(), wanted_ng.ravel())[0, 1]),
        "squared_error_against_no_change": float(
            np.square(change_ng - wanted_ng).sum() / np.square(wanted_ng).sum()
        ),
    }


def main() -> None:
    """Train both models and write the predictions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", nargs="+", default=["ischemic_time", "rin", "batch", "sex", "age"])
    parser.add_argument("--name", default="demo", help="of the data, for the result file")
    arguments, overrides = parser.parse_known_args()
    models: dict[str, Any] = {}
    result = {"command": " ".join(["python", "benchmarks/covariates.py", *sys.argv[1:]]), "models": models}
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("unconditional", "conditional"):
            run = Path(folder, name)
            extra = ["+experiment=conditional", f"data.covariates=[{','.join(arguments.columns)}]"]
            command = ["gtex_vae.train", *extra * (name == "conditional"), "model.mode_steps=0", *overrides]
            subprocess.run([sys.executable, "-m", *command, f"hydra.run.dir={run}"], check=True)
            metrics = json.loads((run / "metrics.json").read_text())
            models[name] = {
                "metrics": {key: metrics[key] for key in KEYS},
                "covariates": known_of(run, arguments.columns, given=True),
            }
        models["conditional, unknown covariates"] = {
            "covariates": known_of(run, arguments.columns, given=False)
        }
        if "ischemic_time" in arguments.columns:
            result["counterfactual"] = counterfactual(run, Path(folder, "encoded"))
        loads.append(os.getloadavg()[0])
    result["machine"] = machine(loads, ("torch", "scikit-learn"))
    write(Path(__file__).parent / "results" / f"covariates_{arguments.name}.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
