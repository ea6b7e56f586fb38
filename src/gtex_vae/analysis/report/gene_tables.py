"""Tables and a figure of gene embeddings for the report.

Shapes: ``d`` latent dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from gtex_vae.analysis.genes.evaluation import SIGNIFICANT
from gtex_vae.analysis.report.plots import blank_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "decoder_loadings": "decoder loadings",
    "output_weights": "output weights",
    "pca": "PCA loadings",
    "expression": "raw profiles",
}
# Okabe and Ito's palette, with markers
STYLES = {
    "decoder_loadings": ("#0072B2", "o"),
    "output_weights": ("#009E73", "s"),
    "pca": ("#D55E00", "^"),
    "expression": ("#555555", "v"),
}
DESCRIPTIONS = {
    "decoder_loadings": "decoder loadings, the average change of each gene's predicted expression along each latent "
    "dimension (Jacobian of the decoder), centered over genes and partly whitened",
    "output_weights": "weights of the decoder's last layer, centered over genes and partly whitened",
}
SETS_NAMED = 3

Rows = tuple[list[str], list[list[Any]], int]


def gene_function_rows(table: pd.DataFrame) -> Rows:
    """List the AUROC of each collection and embedding, with interval, matched for expression, and of random sets."""
    difference = "{minus_pca:+.3f} ({minus_pca_low:+.3f} to {minus_pca_high:+.3f})"
    rows: list[list[Any]] = [
        [
            row["collection"],
            NAMES.get(row["embedding"], row["embedding"]),
            int(row["sets"]),
            float(row["auroc"]),
            f"{row['low']:.3f} to {row['high']:.3f}",
            float(row["matched"]),
            f"{row['null']:.3f} ({row['null_low']:.3f} to {row['null_high']:.3f})",
            ""
            if row["embedding"] == "pca"
            else difference.format(**{str(key): value for key, value in row.items()}),
        ]
        for row in table.to_dict("records")
    ]
    header = [
        "collection",
        "embedding",
        "gene sets",
        "AUROC",
        "95 % interval",
        "same expression level",
        "random sets",
        "minus PCA",
    ]
    return header, rows, 2


def supervised_rows(table: pd.DataFrame) -> Rows:
    """Average the AUROC of predicted gene sets by collection."""
    names = [name for name in NAMES if name in table]
    grouped = table.groupby("collection")
    means = grouped[names].mean()
    sizes = grouped.size()
    rows: list[list[Any]] = [
        [str(collection), int(sizes[collection]), *values]
        for collection, values in zip(means.index, means.to_numpy().tolist(), strict=True)
    ]
    return ["collection", "gene sets", *(NAMES[name] for name in names)], rows, 1


def enrichment_rows(table: pd.DataFrame) -> Rows:
    """List increasing and decreasing gene sets per dimension, sorted by the smallest q."""
    rows: list[list[Any]] = []
    found = table[table["q"] < SIGNIFICANT]
    best = found.groupby("dimension")["q"].min().sort_values(kind="stable")
    for dimension in best.index:
        part = found[found["dimension"] == dimension]
        named = []
        for sign in ("+", "-"):
            side = part[part["sign"] == sign].sort_values("p", kind="stable").head(SETS_NAMED)
            named.append(", ".join(f"{row['set']} (q {row['q']:.0e})" for row in side.to_dict("records")))
        rows.append([dimension, *named])
    return ["dimension", "increasing gene sets", "decreasing gene sets"], rows, 3


def gene_function_figure(table: pd.DataFrame) -> Figure:
    """Draw the AUROC of every collection and embedding with its interval, and random sets as a band."""
    collections = list(dict.fromkeys(table["collection"]))
    embeddings = [name for name in NAMES if (table["embedding"] == name).any()]
    figure = blank_figure(9.0, 1.6 + 0.16 * len(collections) * (len(embeddings) + 1.5))
    axes = figure.subplots()
    step = 1.0 / (len(embeddings) + 1.5)
    for place, name in enumerate(embeddings):
        part = table[table["embedding"] == name].set_index("collection").reindex(collections)
        y = [row + (place - (len(embeddings) - 1) / 2) * step for row in range(len(collections))]
        color, marker = STYLES[name]
        auroc, low, high = part[["auroc", "low", "high"]].to_numpy(dtype=float).T
        errors = [auroc - low, high - auroc]
        axes.errorbar(auroc, y, xerr=errors, fmt=marker, color=color, label=NAMES[name], ms=5.5, lw=1.4)
    null = table.groupby("collection")[["null_low", "null_high"]].agg({"null_low": "min", "null_high": "max"})
    for row, collection in enumerate(collections):
        low, high = null.loc[collection]
        axes.fill_betweenx(
            [row - 0.45, row + 0.45], low, high, color="#bbbbbb", lw=0, label=None if row else "random sets"
        )
    axes.set_yticks(range(len(collections)), collections)
    axes.invert_yaxis()
    plain_axes(axes, "mean AUROC of genes ranked by similarity to the other genes of their set")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure
