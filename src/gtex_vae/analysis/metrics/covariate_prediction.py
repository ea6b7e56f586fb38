"""Prediction of covariates from an embedding: biology, donors and technical variation, beyond the tissue.

Shapes: n samples, d latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.metrics.tissue import logreg_predict
from gtex_vae.data.covariates import as_number


def predictability(
    z_nd: NDArray[np.floating], obs: pd.DataFrame, covariates: Sequence[str], *, folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Score the prediction of each covariate from the embedding, compared with the tissue and with chance.

    Numbers are predicted by ridge regression, with the penalty chosen inside the training folds, and scored by R2.
    Classes are predicted by multinomial logistic regression and scored by accuracy. Test folds contain other donors than
    training folds, except for the covariate ``donor``, which is predicted for left-out samples of donors with several.
    The gain over the tissue is the information beyond the tissue; for ischemic time or RIN it is technical variation.

    Parameters
    ----------
    z_nd
        Embedding, shape (n, d).
    obs
        Annotations of the samples, with the columns ``donor`` and ``tissue``.
    covariates
        Columns to predict. Absent columns and columns with a single value are skipped. Ranges such as "60-69" count as
        their middle; numbers with at most ten values, such as a death code, count as classes.
    folds
        Number of cross-validation folds.
    seed
        Seed of the folds.

    Returns
    -------
    DataFrame
        Indexed by covariate: ``measure`` (``r2`` or ``accuracy``), ``samples``, ``classes`` (missing for numbers),
        ``latent``, ``tissue`` (prediction by the tissue's mean or most common class in the training folds) and ``chance`` (0,
        or the share of the most common class).
    """
    from tqdm import tqdm

    rows = {}
    for name in tqdm(
        [name for name in covariates if name in obs], desc="predicting covariates", leave=False, disable=None
    ):
        values = as_number(obs[name])
        kept = (values.notna() & obs["donor"].notna() & obs["tissue"].notna()).to_numpy()
        if name == "donor":
            kept = kept & (values.map(values.value_counts()).to_numpy(dtype=float) > 1)
        values = values[kept].reset_index(drop=True)
        if values.nunique() < 2:
            continue
        donors, tissues = (obs.loc[kept, column].astype(str).to_numpy() for column in ("donor", "tissue"))
        groups = np.arange(len(values)) if name == "donor" else donors
        split = _folds(groups, folds, seed)
        predict = _by_ridge if pd.api.types.is_float_dtype(values) else _by_logistic
        from_tissue = _by_tissue_mean if predict is _by_ridge else _by_tissue_mode
        row = _score(values, [(test, predict(z_nd[kept], values, train, test)) for train, test in split])
        if name != "tissue":
            of_tissue = [(test, from_tissue(tissues, values, train, test)) for train, test in split]
            row["tissue"] = _score(values, of_tissue)["latent"]
        rows[name] = row
    columns = ["measure", "samples", "classes", "latent", "tissue", "chance"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("covariate")
    return table.astype({"samples": int, "classes": "Int64"})


def _folds(groups: NDArray, folds: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows into training and test rows of each fold; a group is never in both."""
    codes, names = pd.factorize(groups)
    fold_of = np.random.default_rng(seed).permutation(len(names)) % folds
    return [
        (np.flatnonzero(fold_of[codes] != fold), np.flatnonzero(fold_of[codes] == fold))
        for fold in range(min(folds, len(names)))
    ]


def _score(values: pd.Series, parts: Sequence[tuple[NDArray[np.intp], NDArray]]) -> dict[str, object]:
    """Score out-of-fold predictions, pooled over folds."""
    rows = np.concatenate([test for test, _ in parts])
    truth, predicted = values.to_numpy()[rows], np.concatenate([prediction for _, prediction in parts])
    if pd.api.types.is_float_dtype(values):
        r2 = 1 - np.square(truth - predicted).sum() / np.square(truth - truth.mean()).sum()
        return {"measure": "r2", "samples": len(rows), "latent": float(r2), "chance": 0.0}
    shares = pd.Series(truth).value_counts(normalize=True)
    right = float((truth.astype(str) == predicted.astype(str)).mean())
    return {
        "measure": "accuracy",
        "samples": len(rows),
        "classes": len(shares),
        "latent": right,
        "chance": float(shares.iloc[0]),
    }


def _by_ridge(
    z_nd: NDArray[np.floating], values: pd.Series, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 8)))
    return model.fit(z_nd[train], values.to_numpy()[train]).predict(z_nd[test])


def _by_logistic(
    z_nd: NDArray[np.floating], values: pd.Series, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray:
    return logreg_predict(z_nd[train], z_nd[test], values.to_numpy()[train])


def _by_tissue_mean(
    tissues: NDArray, values: pd.Series, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray:
    means = values[train].groupby(tissues[train]).mean()
    return pd.Series(tissues[test]).map(means).fillna(values[train].mean()).to_numpy()


def _by_tissue_mode(
    tissues: NDArray, values: pd.Series, train: NDArray[np.intp], test: NDArray[np.intp]
) -> NDArray:
    commonest = values[train].groupby(tissues[train]).agg(lambda group: group.mode().iloc[0])
    return pd.Series(tissues[test]).map(commonest).fillna(values[train].mode().iloc[0]).to_numpy()
