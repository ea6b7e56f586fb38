"""Catalogue of metrics: label, direction, intervals and requirements of every key of ``metrics.json``.

The report, the model card, TensorBoard, the sweep page and the console read it. Add a metric here to show it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Better = Literal["higher", "lower", ""]
Shown = Literal["headline", "summary", "detail"]

TISSUES = "at least two labelled tissues"
GENE_SETS = "gene sets (genesets=FILE.gmt)"
VALIDATION = "validation donors to calibrate on"
TRUTH = "simulated data with known factors"


class Metric(NamedTuple):
    """One metric.

    Parameters
    ----------
    key
        Key of ``metrics.json``, without a baseline's prefix.
    label
        Name in tables and figures.
    better
        ``higher``, ``lower``, or empty if neither is better.
    shown
        ``headline``: everywhere, first. ``summary``: also in the model card and among TensorBoard's hyperparameters.
        ``detail``: in the complete tables only.
    interval
        True if `evaluate` computes a bootstrap interval over donors.
    needs
        Requirement beyond held-out samples; without it the metric is null or missing.
    """

    key: str
    label: str
    better: Better = "higher"
    shown: Shown = "detail"
    interval: bool = False
    needs: str = ""


BASELINES = {
    "baseline/pca": "PCA with as many components",
    "baseline/mean": "the training mean",
    "baseline/tissue_mean": "the tissue's mean",
    "baseline/knn": "nearest training samples",
}
PCA = "baseline/pca"
SETTINGS = {
    "": "all held-out donors",
    "matched/": "20 donors of similar composition",
    "same_composition/": "mixtures of equal composition",
    "without_composition/": "composition regressed out",
}
LEVELS = (50, 80, 90, 95)  # per cent, of the predictive intervals


def _coverage(group: str) -> list[Metric]:
    """Rows of the coverage of predictive intervals, which should equal their level."""
    return [
        Metric(
            f"{group}/coverage_{level}",
            f"coverage of {level} % intervals, {group}",
            better="",
            shown="summary" if level == 90 else "detail",
            needs=VALIDATION,
        )
        for level in LEVELS
    ]


def _retrieval() -> list[Metric]:
    """Rows of the retrieval of donors, in every setting."""
    names: tuple[tuple[str, str, Better], ...] = (
        ("top1", "top-1", "higher"),
        ("top5", "top-5", "higher"),
        ("mrr", "MRR", "higher"),
        ("median_rank", "median rank", "lower"),
        ("foscttm", "FOSCTTM (0 is best)", "lower"),
    )
    headline = {f"contrastive/{name}" for name in ("top1", "top5", "mrr", "foscttm")}
    headline |= {f"contrastive/{setting}top1" for setting in SETTINGS}
    return [
        Metric(
            key := f"contrastive/{setting}{name}",
            f"{label}, {SETTINGS[setting]}" if setting else label,
            better,
            "headline" if key in headline else "detail",
            interval=name in ("top1", "mrr"),
        )
        for setting in SETTINGS
        for name, label, better in names
    ]


METRICS = {
    row.key: row
    for row in (
        Metric("reconstruction/r2", "reconstruction R2", "higher", "headline", interval=True),
        Metric("reconstruction/mse", "reconstruction MSE", "lower", interval=True),
        Metric("reconstruction/mae", "reconstruction MAE", "lower", interval=True),
        Metric("reconstruction/gene_r2_median", "median gene R2", "higher", "headline", interval=True),
        Metric("reconstruction/gene_pearson_median", "median gene Pearson correlation", interval=True),
        Metric("imputation/r2_05", "imputation R2, 5 % hidden", interval=True),
        Metric("imputation/r2_20", "imputation R2, 20 % hidden", "higher", "headline", interval=True),
        Metric("imputation/r2_50", "imputation R2, 50 % hidden", interval=True),
        Metric("tissue/knn_accuracy", "tissue by 15 nearest neighbours", "higher", "headline", True, TISSUES),
        Metric("tissue/logreg_accuracy", "tissue by logistic regression", "higher", "headline", True, TISSUES),
        Metric("cluster/silhouette_tissue", "silhouette of tissues", needs=TISSUES),
        Metric("cluster/calinski_harabasz_tissue", "Calinski-Harabasz index of tissues", needs=TISSUES),
        Metric("cluster/ari", "ARI of k-means with tissues", needs=TISSUES),
        Metric("cluster/nmi", "NMI of k-means with tissues", needs=TISSUES),
        Metric("rate/kl_nats", "KL, nats per sample", "lower", "summary"),
        Metric("elbo/nats_per_gene", "ELBO, nats per gene", "higher", "summary"),
        Metric("latent/active_units", "active latent dimensions", "higher", "summary"),
        Metric("latent/effective_rank", "effective rank of the embedding"),
        Metric("latent/mean_absolute_correlation", "mean absolute correlation of dimensions", "lower"),
        Metric("latent/distance_ratio_tissue", "distance of any two samples / of one tissue", needs=TISSUES),
        Metric("latent/distance_ratio_donor", "distance of any two samples / of one donor", needs=TISSUES),
        Metric("latent/mig", "mutual information gap", needs=TRUTH),
        Metric("latent/dci_disentanglement", "DCI disentanglement", needs=TRUTH),
        Metric("latent/dci_completeness", "DCI completeness", needs=TRUTH),
        Metric("latent/dci_informativeness", "DCI informativeness", needs=TRUTH),
        *_coverage("reconstruction"),
        *_coverage("imputation"),
        Metric("out_of_distribution/well_inside", "held-out samples like training data", "", "summary", needs=VALIDATION),
        Metric("out_of_distribution/at_the_edge", "held-out samples at the edge", "", "summary", needs=VALIDATION),
        Metric("out_of_distribution/outside", "held-out samples unlike training data", "", "summary", needs=VALIDATION),
        Metric("out_of_distribution/median_score", "median out-of-distribution score", "", needs=VALIDATION),
        Metric("gene/function_auroc", "gene function AUROC", "higher", "summary", needs=GENE_SETS),
        Metric("gene/function_auroc_matched", "gene function AUROC, genes of equal expression", needs=GENE_SETS),
        Metric("gene/function_auroc_null", "gene function AUROC, shuffled sets", "", needs=GENE_SETS),
        Metric("gene/supervised_auroc", "gene function AUROC, supervised", needs=GENE_SETS),
        Metric("gene/enriched_dimensions", "latent dimensions enriched for a gene set", needs=GENE_SETS),
        *_retrieval(),
        Metric("val/loss", "validation loss", "lower"),
        Metric("val/r2", "validation R2"),
        Metric("val/imputation_r2_20", "validation imputation R2, 20 % hidden"),
        Metric("val/kl_nats", "validation KL, nats per sample", "lower"),
        Metric("val/foscttm", "validation FOSCTTM", "lower"),
    )
}  # fmt: skip


def split_prefix(key: str) -> tuple[str, str]:
    """Separate the method from the metric.

    >>> split_prefix("baseline/pca/cluster/ari"), split_prefix("cluster/ari")
    (('baseline/pca', 'cluster/ari'), ('', 'cluster/ari'))
    """
    parts = key.split("/", 2)
    return (
        ("/".join(parts[:2]), parts[2])
        if len(parts) == 3 and parts[0] in ("baseline", "embedding")
        else ("", key)
    )


def describe(key: str) -> Metric:
    """Look a metric up, whatever method it is of.

    Parameters
    ----------
    key
        Key of ``metrics.json``, with or without a baseline's prefix.

    Returns
    -------
    Metric
        The row of the catalogue. Its last part may be the name of a gene set collection, which is added to the label. A metric
        that is not in the catalogue is its own label, and higher is better.

    Examples
    --------
    >>> describe("baseline/pca/reconstruction/mse").better
    'lower'
    >>> describe("gene/function_auroc/go").label, describe("my/score").label
    ('gene function AUROC (go)', 'my/score')
    """
    key = split_prefix(key)[1]
    if key in METRICS:
        return METRICS[key]
    parent, _, last = key.rpartition("/")
    if parent in METRICS:
        row = METRICS[parent]
        return row._replace(key=key, label=f"{row.label} ({last})", shown="detail", interval=False)
    return Metric(key, key)


def label(key: str) -> str:
    """Name of a metric in tables and figures."""
    return describe(key).label


def unavailable(metrics: Mapping[str, float | None]) -> str:
    """List undefined metrics of the model with their requirements; empty if there are none.

    >>> unavailable({"cluster/ari": None, "cluster/nmi": float("nan"), "reconstruction/r2": 0.9})
    'Not available: ARI of k-means with tissues, NMI of k-means with tissues (needs at least two labelled tissues).'
    """
    groups: dict[str, list[str]] = {}
    for key, value in metrics.items():
        if split_prefix(key)[0] == "" and (value is None or math.isnan(value)):
            groups.setdefault(describe(key).needs, []).append(label(key))
    texts = [f"{', '.join(labels)}{f' (needs {needs})' if needs else ''}" for needs, labels in groups.items()]
    return f"Not available: {'; '.join(texts)}." if texts else ""


def lower_is_better(key: str) -> bool:
    """Whether smaller values of a metric are better."""
    return describe(key).better == "lower"


def keys_shown(*levels: Shown, group: str = "") -> Sequence[str]:
    """Keys of these levels, in the order of the catalogue.

    Parameters
    ----------
    *levels
        Values of `Metric.shown`.
    group
        ``contrastive`` for the metrics of an alignment; empty for those of a VAE.
    """
    return [
        row.key
        for row in METRICS.values()
        if row.shown in levels and row.key.startswith("contrastive/") == (group == "contrastive")
    ]


HEADLINE = tuple(keys_shown("headline"))
TISSUE_KEYS = tuple(key for key in METRICS if key.startswith(("tissue/", "cluster/")))
