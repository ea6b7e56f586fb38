"""Embed any matrix: ``python -m gtex_vae.encode run=<run>|latest input=<matrix> [key=value ...]``."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class EncodeConfig:
    """Root keys of ``conf/encode.yaml``."""

    run: str
    input: str
    unit: str | None
    orientation: str | None
    layer: str | None
    annotations: list[str]
    min_overlap: float
    sd: bool
    impute: bool
    interval: float | None
    reconstruct: bool
    as_if: dict[str, Any] | None
    export: bool
    batch_size: int
    paths: dict[str, Any]
    overwrite: bool


@stage("encode", EncodeConfig)
def main(config: EncodeConfig, run_dir: Path) -> None:
    """Bring the matrix to the model's genes and unit, encode it block by block, and write what was asked for."""
    import torch

    from gtex_vae.data.expression_file import write_expression
    from gtex_vae.data.readers.backed import open_matrix
    from gtex_vae.files import write_json
    from gtex_vae.inference.calibration import Calibration, check_interval
    from gtex_vae.inference.covariates import covariates_of
    from gtex_vae.inference.embedding_file import Embeddings, expression_tables
    from gtex_vae.inference.encoding import encode_blocks, model_input
    from gtex_vae.inference.model import Model
    from gtex_vae.inference.model_input import wanted_genes
    from gtex_vae.inference.out_of_distribution import sentence
    from gtex_vae.runs.directory import find_run
    from gtex_vae.runtime import tune_process

    tune_process()
    run = find_run(config.run, Path(config.paths["outputs"]))
    model = Model.load(run / "model").to("cuda" if torch.cuda.is_available() else "cpu")
    calibration = Calibration.load(run / "model")
    check_interval(config.interval, config.impute, calibration, str(run))
    if config.export:
        model.export(run_dir / "model.pt2")
    how: dict[str, Any] = {"unit": config.unit, "orientation": config.orientation, "layer": config.layer}
    with open_matrix(config.input, keep_gene=wanted_genes(model.gene_ids, model.gene_names), **how) as matrix:
        data = model_input(model, matrix, impute=config.impute, min_overlap=config.min_overlap)
        covariates = covariates_of(model, matrix, annotations=config.annotations, as_if=config.as_if)
        write_json(run_dir / "alignment.json", data.report)
        log.info("%s: %d samples, %.1f %% of the model's %d genes, in %s", config.input, len(data),
                 100 * data.present_g.mean(), len(model.gene_ids), data.report["unit"]["used"])  # fmt: skip
        embeddings = Embeddings(model, data, run=str(run), input=config.input, sd=config.sd)
        expression = write_expression(
            run_dir / "expression.h5ad", *expression_tables(model, data), unit=model.unit,
            layers=["reconstruction"] * config.reconstruct + ["lower", "upper"] * bool(config.interval)
            + ["as_if"] * bool(config.as_if),
        ) if config.impute or config.reconstruct or config.as_if else nullcontext()  # fmt: skip
        with expression as file:
            for part in encode_blocks(
                model, data, impute=config.impute, reconstruct=config.reconstruct, calibration=calibration,
                projector=embeddings.projector, interval=config.interval, covariates=covariates, batch_size=config.batch_size,
            ):  # fmt: skip
                embeddings.add(part)
                if file is not None:
                    file.write(part.rows, X=part.x_ng, **part.layers)
    embeddings.write(run_dir)
    if calibration is not None:
        log.info("%s", sentence(embeddings.adata.obs["ood_verdict"]))
    log.info("embeddings (%d x %d): %s", len(data), model.vae.latent_dim, run_dir / "embeddings.h5ad")


if __name__ == "__main__":
    main()
