"""Prediction of gene sets from gene embeddings by support vector machines, after a published protocol.

Shapes: ``g`` genes, ``d`` embedding dimensions, ``i`` genes of one task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gtex_vae.analysis.genes.function import Members

SMALLEST = 20  # genes per set
NEGATIVES = 10  # per gene of the set
HELD_OUT = 0.2
FOLDS = 3
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True)
class Task:
    """Gene set to predict, with its negatives and folds.

    Attributes
    ----------
    collection, name
        Collection and name of the set.
    gene_i, positive_i
        Indices of its genes and of up to ten times as many negatives; True for the set's genes.
    fold_i
        0 to 2: cross-validation fold; -1: held out.
    """

    collection: str
    name: str
    gene_i: NDArray[np.intp]
    positive_i: NDArray[np.bool_]
    fold_i: NDArray[np.intp]


def draw_tasks(collections: Mapping[str, Members], terms: int, *, seed: int = 0) -> list[Task]:
    """Draw gene sets to predict, their negatives and their folds.

    Parameters
    ----------
    collections
        Name of a collection to the gene indices of its sets.
    terms
        Total number of sets, divided evenly among the collections where possible; only sets of at least 20 genes.
    seed
        Seed of all draws.

    Returns
    -------
    list of Task
        Negatives are genes of other sets of the collection, at most ten per member.
    """
    random = np.random.default_rng(seed)
    large = {
        name: [key for key, genes in members.items() if len(genes) >= SMALLEST]
        for name, members in collections.items()
    }
    left, tasks = terms, []
    # smallest collections first: the others take what these cannot provide
    for order, collection in enumerate(sorted(large, key=lambda name: len(large[name]))):
        take = min(len(large[collection]), left // (len(large) - order))
        left -= take
        members = collections[collection]
        annotated = np.unique(np.concatenate(list(members.values()))) if members else np.empty(0, np.intp)
        for key in sorted(random.choice(large[collection], take, replace=False).tolist() if take else []):
            task = _draw_task(collection, key, members[key], annotated, random)
            if task is not None:
                tasks.append(task)
    return tasks


def _draw_task(
    collection: str,
    name: str,
    genes: NDArray[np.intp],
    annotated: NDArray[np.intp],
    random: np.random.Generator,
) -> Task | None:
    """Draw one set's negatives and folds; None if there are too few negatives."""
    others = np.setdiff1d(annotated, genes)
    if len(others) < FOLDS / HELD_OUT:
        return None
    others = random.choice(others, min(len(others), NEGATIVES * len(genes)), replace=False)
    classes = [random.permutation(genes), others]
    folds = []
    for members in classes:
        held_out = max(1, int(HELD_OUT * len(members)))
        folds.append(np.concatenate([np.full(held_out, -1), np.arange(len(members) - held_out) % FOLDS]))
    positive_i = np.arange(len(genes) + len(others)) < len(genes)
    return Task(collection, name, np.concatenate(classes), positive_i, np.concatenate(folds))


def supervised_table(embeddings: Mapping[str, NDArray[np.floating]], tasks: Sequence[Task]) -> pd.DataFrame:
    """Compute the AUROC on held-out genes of a support vector machine, per gene set and embedding.

    The protocol is that of gene-embedding-benchmarks, task GO. A fifth of the genes is held out. On the other genes,
    three-fold cross-validation chooses C from 0.1, 1, 10, 100 and 1000 by AUROC; a support vector machine with a
    Gaussian kernel (gamma="scale", from all three folds) and balanced classes is then fitted to them. Two things differ.
    The benchmark takes negatives from other branches of GO (the AGR slim), which a GMT file does not contain, so
    here they are genes of other sets of the collection. It also uses only GO terms with experimental evidence.

    Parameters
    ----------
    embeddings
        Name to embedding, shape (g, d).
    tasks
        See `draw_tasks`.

    Returns
    -------
    DataFrame
        Indexed by collection and set; columns ``genes`` and the AUROC of each embedding.

    References
    ----------
    Zhong, Li, Dannenfelser and Yao (2025), Benchmarking gene embeddings from sequence, expression, network, and text
    models for functional prediction tasks, doi:10.1101/2025.01.29.635607; code: github.com/ylaboratory/
    gene-embedding-benchmarks, src/gene_level_benchmark.
    """
    from tqdm import tqdm

    rows = []
    for task in tqdm(tasks, desc="predicting gene sets", unit="set", leave=False, delay=2, disable=None):
        row: dict[str, object] = {
            "collection": task.collection,
            "set": task.name,
            "genes": int(task.positive_i.sum()),
        }
        rows.append(
            row | {name: _held_out_auroc(x_gd[task.gene_i], task) for name, x_gd in embeddings.items()}
        )
    columns = ["collection", "set", "genes", *embeddings]
    return pd.DataFrame(rows, columns=columns).set_index(["collection", "set"])


def _held_out_auroc(x_id: NDArray[np.floating], task: Task) -> float:
    """Compute the AUROC on the held-out genes of one task."""
    from sklearn.metrics import roc_auc_score

    fitted_i = task.fold_i >= 0
    kernel_ii = _gaussian_kernel(x_id, fitted_i)

    def auroc(penalty: float, train_i: NDArray[np.bool_], test_i: NDArray[np.bool_]) -> float:
        from sklearn.svm import SVC

        machine = SVC(C=penalty, kernel="precomputed", class_weight="balanced", cache_size=50)
        machine.fit(kernel_ii[np.ix_(train_i, train_i)], task.positive_i[train_i])
        decision_i = machine.decision_function(kernel_ii[np.ix_(test_i, train_i)])
        return float(roc_auc_score(task.positive_i[test_i], decision_i))

    means = []
    for penalty in PENALTIES:
        folds = [(fitted_i & (task.fold_i != fold), task.fold_i == fold) for fold in range(FOLDS)]
        means.append(np.mean([auroc(penalty, train_i, test_i) for train_i, test_i in folds]))
    return auroc(PENALTIES[int(np.argmax(means))], fitted_i, ~fitted_i)


def _gaussian_kernel(x_id: NDArray[np.floating], fitted_i: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute exp(-gamma |x - y|^2) with gamma = 1 / (d Var(x)), scikit-learn's "scale"."""
    variance = float(x_id[fitted_i].var(dtype=np.float64))
    # centered, because squared distances from products lose precision far from the origin
    x_id = np.asarray(x_id - x_id.mean(axis=0), dtype=np.float32)
    gamma = 1.0 / (x_id.shape[1] * variance) if variance > 0 else 1.0
    square_i = np.einsum("id,id->i", x_id, x_id, dtype=np.float64)
    distance_ii = square_i[:, None] + square_i - 2.0 * (x_id @ x_id.T)
    return np.exp(-gamma * np.maximum(distance_ii, 0.0))
