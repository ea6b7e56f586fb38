"""Gene embeddings of a run compared with PCA loadings and raw profiles, over every collection of gene sets.

    python benchmarks/gene_function.py RUN [--terms 100]

RUN is trained on the real GTEx v6 extract. Computes only the gene metrics of evaluate. The whitening was chosen on the fifth
of the gene sets whose name has a CRC-32 divisible by 5; the other sets are also reported separately.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from pathlib import Path

import pandas as pd

from gtex_vae.analysis.evaluation.run_samples import open_samples, split_samples
from gtex_vae.analysis.genes.evaluation import evaluate_genes
from gtex_vae.analysis.genes.gene_sets import collections_for
from gtex_vae.inference.predictors import embed_in_batches
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA
from gtex_vae.paths import shared_dir

sys.path.insert(0, str(Path(__file__).parent))
import record

RESULT = Path(__file__).parent / "results" / "gene_function.json"
NAMES = ["decoder_loadings", "output_weights", "pca", "expression"]


def main() -> None:
    """Score the embeddings, collect the tables, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--terms", type=int, default=100)
    arguments = parser.parse_args()
    load, model = os.getloadavg()[0], TrainedModel.load(arguments.run / "model")
    adata = open_samples(arguments.run, model)
    files = sorted((shared_dir() / "genesets").glob("*.gmt"))
    collections = collections_for(adata, [str(path) for path in files])
    x_train_ng, train_obs = split_samples(adata)["train"]
    z_train_nd = embed_in_batches(model.with_covariates(train_obs), x_train_ng)
    pca = PCA.fit(x_train_ng, model.vae.latent_dim)
    start = time.process_time()
    judged = evaluate_genes(model, z_train_nd, pca, x_train_ng, collections, supervised_terms=arguments.terms)
    seconds = time.process_time() - start
    whole = judged.tables["gene_function"]
    rest = {}
    for name in collections:
        table = judged.tables[f"gene_function_{name}"]
        kept = table[[zlib.crc32(str(key).encode()) % 5 != 0 for key in table.index]]
        rest[name] = {"sets": len(kept), **{column: round(float(kept[column].mean()), 4) for column in NAMES}}
    supervised = judged.tables["gene_supervised"]
    found = pd.DataFrame(
        {
            "all sets": whole["auroc"].groupby("embedding").mean(),
            "four fifths": pd.DataFrame(rest).T[NAMES].mean(),
            "same level": whole["matched"].groupby("embedding").mean(),
            "random sets": whole["null"].groupby("embedding").mean(),
            "supervised": supervised[NAMES].mean(),
        }
    ).loc[NAMES]
    by_collection = supervised.groupby("collection")
    record.write(
        RESULT,
        {
            "command": " ".join(["python", "benchmarks/gene_function.py", *sys.argv[1:]]),
            "cpu_seconds": round(seconds),
            "machine": record.machine([load, os.getloadavg()[0]], ["torch", "numpy", "scikit-learn"]),
            "means_over_collections": found.round(4).to_dict("index"),
            "collections": whole.round(4)
            .astype(object)
            .where(whole.notna(), None)
            .reset_index()
            .to_dict("records"),
            "not_used_for_choosing": rest,
            "supervised": by_collection[NAMES]
            .mean()
            .round(4)
            .assign(sets=by_collection.size())
            .to_dict("index"),
            "enriched_dimensions": {
                key: value for key, value in judged.metrics.items() if "enriched_dimensions" in key
            },
        },
    )
    print(found.round(4).to_string())


if __name__ == "__main__":
    main()
