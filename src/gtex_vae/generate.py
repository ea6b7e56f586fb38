"""Generate profiles with a trained model: ``python -m gtex_vae.generate run=<run>|latest [how=tissue|prior|interpolation]``."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gtex_vae.errors import MissingDataError, RunError
from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class GenerateConfig:
    """Root keys of ``conf/generate.yaml``."""

    run: str
    how: Literal["tissue", "prior", "interpolation"]
    n_samples: int
    tissues: list[str]
    between: list[str]
    seed: int
    data: dict[str, str | None]
    paths: dict[str, Any]
    overwrite: bool


@stage("generate", GenerateConfig)
def main(config: GenerateConfig, run_dir: Path) -> None:
    """Draw synthetic samples, write them as a processed AnnData and audit them on held-out donors."""
    from gtex_vae.analysis.evaluation.run_samples import open_samples
    from gtex_vae.analysis.genes.embedding_file import genes_table
    from gtex_vae.analysis.synthetic.synthesis import audit_synthetic, draw_from_prior, sentence, synthesize
    from gtex_vae.data.preprocess.processed import write_made
    from gtex_vae.files import write_beside, write_json
    from gtex_vae.inference.trained_model import TrainedModel
    from gtex_vae.runs import data_paths
    from gtex_vae.runs.directory import find_run

    run = find_run(config.run, Path(config.paths["outputs"]))
    data_paths.move(run, config.data)
    model = TrainedModel.load(run / "model")
    try:
        samples = open_samples(run, model)
    except MissingDataError as error:
        if config.how != "prior":
            raise RunError(
                f"how={config.how} needs the training data: {error}; how=prior does not"
            ) from error
        log.warning("%s; left out: nearest tissues and the audit", error)
        samples = None
        synthetic = draw_from_prior(model, config.n_samples, seed=config.seed)
        var = genes_table(model)[["gene_name"]]
    else:
        synthetic = synthesize(
            model, samples, how=config.how, n_samples=config.n_samples, tissues=config.tissues,
            between=config.between, seed=config.seed,
        )  # fmt: skip
        var = samples.var.filter(items=["gene_name", "biotype"])
    path = run_dir / "synthetic.h5ad"
    write_made(
        path, synthetic.x_ng, synthetic.obs, var, unit=model.unit,
        record={"config": asdict(config), "run": str(run), "model": model.digest}, obsm={"X_latent": synthetic.z_nd},
    )  # fmt: skip
    log.info("%d synthetic samples, %s: %s", config.n_samples, config.how, path)
    if samples is None or config.how == "interpolation":
        return
    log.info("auditing them on held-out donors")
    table, metrics = audit_synthetic(model, samples, synthetic, seed=config.seed)
    with write_beside(run_dir / "audit.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g")
    write_json(run_dir / "audit.json", metrics)
    log.info("%s\n%s", table.round(4).to_string(), sentence(metrics))


if __name__ == "__main__":
    main()
