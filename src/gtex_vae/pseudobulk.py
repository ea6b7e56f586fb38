"""Make pseudobulk from single cells: ``python -m gtex_vae.pseudobulk input=<sc.h5ad> [key=value ...]``."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gtex_vae.stage import stage

log = logging.getLogger(__name__)


@dataclass
class PseudobulkConfig:
    """Root keys of ``conf/pseudobulk.yaml``."""

    data: dict[str, Any]
    paths: dict[str, Any]
    input: str | None
    donor: str | None
    cell_type: str | None
    layer: str | None
    tissue: str | None
    method: Literal["sum", "mean"]
    min_cells: int
    disjoint: bool
    mixtures_per_donor: int
    proportions: str | dict[str, float]
    concentration: float
    pooled: bool
    seed: int
    overwrite: bool


@stage("pseudobulk", PseudobulkConfig)
def main(config: PseudobulkConfig, run_dir: Path) -> None:
    """Read or simulate cells; write pseudobulk, cell-type profiles, proportions and settings."""
    from gtex_vae import provenance
    from gtex_vae.config import build
    from gtex_vae.data.single_cell.files import write_pseudobulk
    from gtex_vae.data.single_cell.pseudobulk import make_pseudobulk
    from gtex_vae.files import write_json

    simulated = config.input in (None, "demo")
    source = build(config.data["prepare"], under="gtex_vae.data") if simulated else Path(str(config.input))
    keys = ("donor", "cell_type", "layer", "tissue", "method", "min_cells", "disjoint", "mixtures_per_donor",
            "proportions", "concentration", "pooled", "seed")  # fmt: skip
    settings = {key: getattr(config, key) for key in keys}
    made = make_pseudobulk(source, **settings)
    sources = {} if simulated or source.is_dir() else {str(source): provenance.sha256(source)}
    mixing = {**made.mixing, "source": config.data["name"] if simulated else str(source), "sha256": sources}
    record = json.dumps(
        provenance.describe(sources=sources, config=settings, dropped=mixing["genes"]["dropped"])
    )
    for adata in (made.donors, made.profiles):
        adata.uns["provenance"] = {"record": record}
    write_pseudobulk(run_dir, made)
    write_json(run_dir / "mixing.json", mixing)
    if mixing["cells_without_donor"] or mixing["cells_without_type"]:
        log.warning(
            "skipped %d cells without a donor; %d more cells have no cell type and are in no profile",
            mixing["cells_without_donor"], mixing["cells_without_type"],
        )  # fmt: skip
    log.info(
        "%s: from %d cells of %d donors and %d cell types made %d profiles (%d skipped with fewer than %d cells) and "
        "%d mixtures, %d genes", run_dir, mixing["cells"], mixing["donors"], len(mixing["cell_types"]), mixing["profiles"],
        mixing["profiles_below_min_cells"], config.min_cells, mixing["mixtures"], made.donors.n_vars,
    )  # fmt: skip


if __name__ == "__main__":
    main()
