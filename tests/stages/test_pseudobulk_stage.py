"""The command ``python -m gtex_vae.pseudobulk``."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.preprocess.processed import read
from gtex_vae.data.simulate.cells import simulate_singlecell

STAGE = "gtex_vae.pseudobulk"
SMALL = ("data.prepare.n_donors=4", "data.prepare.n_cell_types=3", "data.prepare.n_genes=60",
         "data.prepare.cells_per_donor=80")  # fmt: skip


@pytest.fixture(scope="module")
def cells_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = simulate_singlecell(n_donors=4, n_cell_types=3, n_genes=60, cells_per_donor=80)
    cells.obs = cells.obs.rename(columns={"donor": "person", "cell_type": "kind"})
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


def test_a_file_becomes_what_the_contract_names(command, cells_file, tmp_path):
    run_dir = tmp_path / "run"
    arguments = (f"input={cells_file}", "donor=person", "cell_type=kind", "mixtures_per_donor=2", "min_cells=5",
                 "seed=3", f"hydra.run.dir={run_dir}")  # fmt: skip
    done = command(STAGE, *arguments)
    assert done.code == 0, done.stderr
    assert "4 donors and 3 cell types" in done.stdout and "storing" not in done.stderr
    assert (run_dir / "SUCCESS").exists()
    donors, profiles = read(run_dir / "pseudobulk.h5ad"), read(run_dir / "celltype_profiles.h5ad")
    assert donors.obs["kind"].value_counts().to_dict() == {"mixture": 8, "measured": 4}
    assert (
        set(profiles.obs["cell_type"]) <= {"CD4 Naive", "CD14 Mono", "NK"}
        and profiles.obs["n_cells"].min() >= 5
    )
    np.testing.assert_array_equal(donors.var_names, profiles.var_names)
    record = json.loads(donors.uns["provenance"]["record"])
    assert len(record["sources"][str(cells_file)]) == 64 and record["config"]["seed"] == 3

    proportions = pd.read_csv(run_dir / "proportions.csv", index_col="sample")
    assert list(proportions.index) == list(donors.obs_names)
    np.testing.assert_allclose(proportions[["CD4 Naive", "CD14 Mono", "NK"]].sum(axis=1), 1.0)
    mixing = json.loads((run_dir / "mixing.json").read_text())
    assert (mixing["seed"], mixing["mixtures"], mixing["source"]) == (3, 8, str(cells_file))

    again = command(STAGE, *arguments)
    assert again.code == 1 and "contains a finished run" in again.stderr


def test_cells_that_are_left_out_are_counted(command, cells_file, tmp_path):
    cells = ad.read_h5ad(cells_file)
    cells.obs["person"] = cells.obs["person"].astype(object)
    cells.obs.iloc[:7, cells.obs.columns.get_loc("person")] = None
    cells.write_h5ad(tmp_path / "cells.h5ad")
    done = command(
        STAGE, "input=cells.h5ad", "donor=person", "cell_type=kind", "hydra.run.dir=run", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    assert "skipped 7 cells without a donor" in done.stdout


def test_the_demo_is_simulated_and_the_seed_decides(command, tmp_path):
    made = {}
    for name, given in (("demo", "input=demo"), ("default", "input=null"), ("other", "seed=1")):
        run_dir = tmp_path / name
        done = command(STAGE, *SMALL, given, f"hydra.run.dir={run_dir}")
        assert done.code == 0, done.stderr
        made[name] = ad.read_h5ad(run_dir / "pseudobulk.h5ad")
    np.testing.assert_array_equal(made["demo"].X, made["default"].X)
    np.testing.assert_array_equal(made["demo"].X[:4], made["other"].X[:4])
    assert not np.array_equal(made["demo"].X[4:], made["other"].X[4:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("donor=who",), "no column donor=who; it has person, kind, sex"),
        ((), "looks like donor"),
        (("donor=person", "cell_type=kind", "min_cells=0"), "min_cells=0"),
        (("donor=person", "cell_type=kind", "proportions={Neuron: 1}"), "no cell type Neuron"),
        (("method=median",), "method='median'"),
        (("min_cell=3",), "did you mean 'min_cells'?"),
    ],
)
def test_one_line_says_what_is_wrong(command, cells_file, tmp_path, given, message):
    done = command(STAGE, f"input={cells_file}", *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 1
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
