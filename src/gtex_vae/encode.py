"""Embed any matrix: ``python -m gtex_vae.encode run=<run>|<model folder>|latest input=<matrix>``."""

from __future__ import annotations

import logging
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
    impute: bool | None
    interval: float | None
    reconstruct: bool
    as_if: dict[str, Any] | None
    export: bool
    batch_size: int
    paths: dict[str, Any]
    overwrite: bool


@stage("encode", EncodeConfig)
def main(config: EncodeConfig, run_dir: Path) -> None:
    """Map the matrix to the model's genes and unit, encode it block by block and write the requested files."""
    import torch

    from gtex_vae.data.readers.backed import open_matrix
    from gtex_vae.files import write_json
    from gtex_vae.inference.calibration import Calibration, check_interval
    from gtex_vae.inference.covariates import covariates_of
    from gtex_vae.inference.embedding_file import encode_to_files
    from gtex_vae.inference.encoding import model_input
    from gtex_vae.inference.model import Model
    from gtex_vae.inference.model_input import wanted_genes
    from gtex_vae.inference.out_of_distribution import sentence
    from gtex_vae.runs.directory import find_model
    from gtex_vae.runtime import tune_process

    tune_process()
    folder = find_model(config.run, Path(config.paths["outputs"]))
    model = Model.load(folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    calibration = Calibration.load(folder)
    check_interval(config.interval, config.impute, calibration, str(folder.parent))
    if config.export:
        model.export(run_dir / "model.pt2")
    how: dict[str, Any] = {"unit": config.unit, "orientation": config.orientation, "layer": config.layer}
    impute = config.impute is not False
    with open_matrix(config.input, keep_gene=wanted_genes(model.gene_ids, model.gene_names), **how) as matrix:
        data = model_input(model, matrix, impute=impute, min_overlap=config.min_overlap)
        covariates = covariates_of(model, matrix, annotations=config.annotations, as_if=config.as_if)
        write_json(run_dir / "alignment.json", data.report)
        log.info("%s", data.summary(config.input))
        embedded = encode_to_files(
            model, data, run_dir, sd=config.sd, expression=bool(config.impute), covariates=covariates,
            reconstruct=config.reconstruct, interval=config.interval, impute=impute, calibration=calibration,
            batch_size=config.batch_size, facts={"run": str(folder.parent), "input": config.input},
        )  # fmt: skip
    if calibration is not None:
        log.info("%s", sentence(embedded.obs["ood_verdict"]))
    log.info("embeddings (%d x %d): %s", *embedded.shape, run_dir / "embeddings.h5ad")


if __name__ == "__main__":
    main()
