"""Make the processed AnnData: ``python -m gtex_vae.preprocess data=<name> [data.path=FILE] [key=value ...]``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class PreprocessConfig:
    """Root keys of ``conf/preprocess.yaml``."""

    data: dict[str, Any]
    paths: dict[str, Any]
    seed: int
    overwrite: bool


@stage("preprocess", PreprocessConfig)
def main(config: PreprocessConfig, run_dir: Path) -> None:
    """Make the processed file and log its path and content."""
    from gtex_vae.data.loading.disk_matrix import DiskMatrix, check_memory
    from gtex_vae.data.preprocess.near_duplicates import warn_of_duplicates
    from gtex_vae.data.preprocess.processed import make_processed

    check_memory(config.data["memory_gib"])
    processed = Path(config.data["processed"])
    made = make_processed(
        processed,
        config.data["prepare"],
        overwrite=config.overwrite,
        common_with=config.data["common_with"],
        in_chunks=config.data["memory_gib"] is not None,
    )
    adata = DiskMatrix(processed).adata
    warn_of_duplicates(adata)
    log.info(
        "%s %s: %d samples of %d donors and %d tissues x %d genes, %s",
        "made" if made else "up to date:", processed, adata.n_obs, adata.obs["donor"].nunique(),
        adata.obs["tissue"].nunique(), adata.n_vars, adata.uns["expression"]["unit"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
