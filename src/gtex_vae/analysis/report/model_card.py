"""Model card in Markdown with the YAML header of Hugging Face.

It is saved with the weights as ``README.md``, so that the ``model`` folder can be shared on its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from gtex_vae.analysis.metrics.catalogue import METRICS, PCA, keys_shown, label, unavailable
from gtex_vae.analysis.report.comparisons import Intervals, tone
from gtex_vae.analysis.report.report_data import read_intervals
from gtex_vae.data.preprocess import processed
from gtex_vae.data.splits import SPLITS
from gtex_vae.errors import DataError
from gtex_vae.files import write_text
from gtex_vae.runs import data_paths, directory

CARD = "README.md"
TYPES = {"r2": "r2", "accuracy": "accuracy", "mse": "mse", "mae": "mae"}  # types known to Hugging Face
WITH_INTERVALS = [key for key, row in METRICS.items() if row.interval and not key.startswith("contrastive/")]
SHOWN = [*WITH_INTERVALS, *keys_shown("summary")]


def write_card(run: Path) -> None:
    """Write or update ``model/README.md`` of a training run.

    Parameters
    ----------
    run
        Run directory with ``config.yaml``, ``provenance.json``, ``splits.csv``, ``metrics.json`` and ``model/``. Intervals
        are included if the run was evaluated.
    """
    write_text(run / "model" / CARD, model_card(run))


def model_card(run: Path) -> str:
    """Return the text of the card; see `write_card`."""
    config = directory.read_config(run)
    model = _read(run / "model" / "model.json")
    record = _read(run / "provenance.json")
    metrics, intervals = _measured(run)
    alignment = config.get("alignment") is not None
    name = "single cells and bulk" if alignment else str(config["data"].get("name") or "expression")
    title = f"{name}: {model['architecture']['latent_dim']} dimensions"
    text = [
        _header(name, metrics, alignment),
        f"# {title}\n",
        f"A variational autoencoder of bulk gene expression ({len(model['gene_ids']):,} genes, {model['unit']}), trained with "
        f"gtex-vae {record.get('version', '')}. Its posterior mean is the embedding of a sample.\n",
        _use(alignment),
        _data(run, config, model, alignment),
        _split(run / "splits.csv", config, alignment),
        _architecture(model),
        _metrics(metrics, intervals, alignment),
        _limits(metrics, intervals, model),
        _made(record),
    ]
    return "\n".join(text)


def metrics_section(run: Path) -> str:
    """Return only the table of metrics."""
    alignment = directory.read_config(run).get("alignment") is not None
    return _metrics(*_measured(run), alignment)


def _measured(run: Path) -> tuple[dict[str, float | None], Intervals]:
    """Read the metrics of train and evaluate, and the intervals of evaluate."""
    metrics = {**_read(run / "metrics.json"), **_read(run / "evaluation" / "metrics.json")}
    path = run / "evaluation" / "intervals.csv"
    return metrics, read_intervals(path) if path.exists() else {}


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _header(name: str, metrics: Mapping[str, float | None], alignment: bool) -> str:
    """Return the YAML header."""
    chosen = [key for key in metrics if key.startswith("contrastive/")] if alignment else WITH_INTERVALS
    results = [
        {"type": TYPES.get(key.rpartition("_")[2].rpartition("/")[2], key), "name": label(key),
         "value": round(float(value), 4)}
        for key in chosen if (value := metrics.get(key)) is not None
    ]  # fmt: skip
    entry = {
        "task": {"type": "feature-extraction", "name": "embedding of held-out donors"},
        "dataset": {"type": name, "name": name, "split": "test"},
        "metrics": results,
    }
    header: dict[str, Any] = {
        "library_name": "gtex-vae",
        "pipeline_tag": "feature-extraction",
        "tags": ["biology", "transcriptomics", "gene-expression", "bulk-rna-seq", "variational-autoencoder"],
        "model-index": [{"name": name, "results": [entry] if results else []}],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"


def _use(alignment: bool) -> str:
    """Describe the intended use."""
    lines = [
        "## Intended use\n",
        "- Embedding bulk RNA-seq samples of the human tissues listed below, for maps, nearest neighbours and as features.",
        "- Imputing genes that were not measured, with intervals.",
        "- Detecting samples that are unlike the training data.",
        "\nNot intended for diagnosis or decisions about a person, nor for tissues, species and kinds of data that it was not "
        "trained on.\n",
        "    import gtex_vae",
        "    embedded = gtex_vae.load(FOLDER).encode(adata)    # any unit, Ensembl ids or symbols\n",
    ]
    if alignment:
        lines.insert(4, "- With `alignment/` from the same run: finding the donor of a cell type's profile.")
    return "\n".join(lines)


def _data(run: Path, config: Mapping[str, Any], model: Mapping[str, Any], alignment: bool) -> str:
    """Describe sources, samples, genes and exclusions."""
    lines = ["## Data\n"]
    if alignment:
        source = config.get("input") or "simulated single cells"
        return "\n".join(
            [
                *lines,
                f"The alignment: {source}. The model is that of the run {config.get('pretrained')}; see its card for its data.\n",
            ]
        )
    data = data_paths.locate(run, config["data"])
    try:
        record, obs = processed.describe(processed.choose(data.get("path"), data["processed"]))
    except DataError:
        return "\n".join([*lines, f"`data={data.get('name')}`; the processed file no longer exists.\n"])
    kept = obs["tissue"].dropna().astype(str)
    lines.append(
        f"{len(obs):,} samples of {obs['donor'].nunique():,} donors and {kept.nunique()} tissues x {len(model['gene_ids']):,} "
        f"genes, {model['unit']}.\n"
    )
    sources = record.get("sources", {})
    lines += [f"- source `{Path(path).name}`, sha256 `{digest}`" for path, digest in sources.items()]
    if not sources:
        lines.append(
            f"- no source file: generated by `{record.get('config', {}).get('_target_', 'unknown')}`"
        )
    for what in ("samples", "genes"):
        counts = record.get("dropped", {}).get(what, {})
        found = ", ".join(f"{count:,} {why}" for why, count in counts.items() if isinstance(count, int))
        lines.append(f"- {what} excluded: {found or 'none'}")
    lines.append(f"- standardized per gene with training samples only ({data.get('standardize')})")
    listed = ", ".join(f"{tissue} ({count:,})" for tissue, count in kept.value_counts().items())
    return "\n".join([*lines, f"- tissues: {listed or 'not annotated'}\n"])


def _split(path: Path, config: Mapping[str, Any], alignment: bool) -> str:
    """Count samples and donors of each split."""
    table = pd.read_csv(path, dtype=str)
    by = "donor" if alignment else config["data"].get("split_by", "donor")
    lines = ["## Split\n", "| | samples | donors |", "|---|--:|--:|"]
    for part in SPLITS:
        rows = table[table["split"] == part]
        lines.append(f"| {part} | {len(rows):,} | {rows['donor'].nunique():,} |")
    given = {part: set(table.loc[table["split"] == part, "donor"].dropna()) for part in SPLITS}
    shared = len((given["train"] | given["val"]) & given["test"])
    text = (
        "No donor is in two splits."
        if not shared
        else f"**{shared} donors are in training and test: all metrics are too optimistic.**"
    )
    return "\n".join(
        [
            *lines,
            f"\nSplit by {by}. {text} The best epoch was chosen on `val`; all metrics below are measured on `test`.\n",
        ]
    )


def _architecture(model: Mapping[str, Any]) -> str:
    """List the constructor's arguments."""
    rows = [f"| {key} | {value} |" for key, value in model["architecture"].items()]
    return "\n".join(["## Architecture\n", "| `model.` | |", "|---|---|", *rows, ""])


def _metrics(metrics: Mapping[str, float | None], intervals: Intervals, alignment: bool) -> str:
    """Compare metrics with PCA, with intervals if the run was evaluated."""
    if alignment:
        rows = [
            f"| {label(key)} | {_figure(value)} |"
            for key, value in metrics.items()
            if key.startswith("contrastive/")
        ]
        return "\n".join(["## Metrics, held-out donors\n", "| | |", "|---|--:|", *rows, ""])
    lines = [
        "## Metrics, held-out donors\n",
        "| | model | 95 % interval | PCA | difference | 95 % interval |",
        "|---|--:|---|--:|--:|---|",
    ]
    for key in [key for key in SHOWN if metrics.get(key) is not None]:
        ours, pca = metrics[key], metrics.get(f"{PCA}/{key}")
        own, paired = intervals.get((key, "")), intervals.get((key, PCA))
        difference = "" if ours is None or pca is None else f"{ours - pca:+.3f}"
        lines.append(
            f"| {label(key)} | {_figure(ours)} | {_bounds(own)} | {_figure(pca)} | {difference} | {_bounds(paired)} |"
        )
    text = (
        "Intervals are over donors (bootstrap)."
        if intervals
        else "Add intervals with `python -m gtex_vae.evaluate run=RUN`."
    )
    return "\n".join(
        [
            *lines,
            f"\nThe PCA has as many components and the same training samples. {text} {unavailable(metrics)}".rstrip()
            + "\n",
        ]
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _bounds(interval: Any) -> str:
    return "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"


def _limits(metrics: Mapping[str, float | None], intervals: Intervals, model: Mapping[str, Any]) -> str:
    """List known limits."""
    lines = [
        "## Limits\n",
        f"- Expression in other units than {model['unit']} is converted if possible; differences between laboratories are not "
        "corrected.",
        "- The metrics hold for the tissues, ages, ancestries and protocol of the training cohort; for others they are unknown. "
        "`ood_verdict` of encode marks samples that are unlike the training data.",
        "- Embeddings contain technical variation (ischemic time, RNA quality, batch) if the data does: "
        "`evaluation/covariates.csv` lists how much.",
        "- Predictions are averages: rare extreme values of a gene are smoothed.",
    ]
    equal = [
        label(key)
        for key in WITH_INTERVALS
        if (key, PCA) in intervals and tone(key, intervals[key, PCA].low, intervals[key, PCA].high) == "open"
    ]
    if equal:
        lines.append(f"- No significant difference from PCA: {', '.join(equal)}.")
    if not intervals:
        lines.append(
            "- Not evaluated after training: no intervals, no coverage, no out-of-distribution verdicts."
        )
    return "\n".join([*lines, ""])


def _made(record: Mapping[str, Any]) -> str:
    """List command, versions and packages."""
    git = record.get("git") or {}
    packages = ", ".join(f"{name} {version}" for name, version in record.get("packages", {}).items())
    command = " ".join(["python -m gtex_vae.train", *map(str, record.get("command", [])[1:])])
    return "\n".join([
        "## How to reproduce\n", f"    {command}\n",
        f"- {record.get('created', 'unknown time')}, revision {git.get('revision', 'unknown')}"
        f"{' (edited)' if git.get('dirty') else ''}, Python {record.get('python', '?')}", f"- {packages}", "",
    ])  # fmt: skip
