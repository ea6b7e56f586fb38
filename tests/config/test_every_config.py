"""Every file in conf/ is composed, checked and run; a file that no test runs fails the suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gtex_vae.config import check_fields, register_resolvers, to_plain
from gtex_vae.paths import conf_dir, shared_dir
from gtex_vae.train import TrainConfig

CONF = conf_dir()
ONE_BATCH = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
SMALL = (
    "data.batch_size=16", "model.hidden_dims=[32]", "model.latent_dim=8",
    "trainer.accelerator=${oc.env:GTEX_VAE_TEST_ACCELERATOR,cpu}", "trainer.precision=32-true", *ONE_BATCH,
)  # fmt: skip
SIMULATED = ("data.prepare.n_samples=150", "data.prepare.n_genes=120", "data.val=0.2", "data.test=0.3")
ROOTS = {"train", "preprocess", "evaluate", "summarize"} | {
    "pseudobulk",
    "encode",
    "analyze",
    "generate",
}  # the latter have tests of their own
PARTS_OF_OTHERS = {"data/split", "data/matrix"}  # run by every data config that builds on them
RUN_BY_EVERY_COMMAND = {"hydra/job_logging/run_log", "hydra/output/run_dir", "hydra/help/train"}
DOWNLOADED = {"data/gtex_v8", "data/gtex_v10", "data/gtex_v11", "data/gtex_xena"}  # composed and checked
SHARED = {"data/gtex_v6_shared"}
ALIGNMENT = {"alignment/donors", "experiment/contrastive"}
TINY_CELLS = (
    "alignment.trainer.max_epochs=1", "alignment.trainer.check_val_every_n_epoch=1", "alignment.trainer.accelerator=${oc.env:GTEX_VAE_TEST_ACCELERATOR,cpu}",
    "alignment.cells.prepare.n_donors=12", "alignment.cells.prepare.n_cell_types=3",
    "alignment.cells.prepare.cells_per_donor=40", "alignment.cells.prepare.n_genes=120",
)  # fmt: skip
SINGLE_CELLS = {"data/demo_singlecell"}  # of the pseudobulk stage

FILES = {path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml")}
LAUNCHED = {
    f for f in FILES if f.startswith(("hydra/launcher/", "hydra/sweeper/"))
}  # run by tests of sweeps and searches
OPTIONS = sorted(FILES - ROOTS - PARTS_OF_OTHERS - RUN_BY_EVERY_COMMAND - SINGLE_CELLS - LAUNCHED)
SEARCHES = {f for f in OPTIONS if f.startswith("hparams_search/")}  # run in tests/stages/test_search.py
SEVERAL_DEVICES = {"trainer/ddp", "trainer/fsdp"}  # run in tests/stages/test_several_devices.py


def override(name: str) -> str:
    """What a user types to choose this file."""
    group, _, option = name.rpartition("/")
    return f"+experiment={option}" if group == "experiment" else f"{group}={option}"


def test_searches_and_several_devices_are_run():
    tests = Path(__file__).parents[1] / "stages"
    for listed, file in ((SEARCHES, "test_search.py"), (SEVERAL_DEVICES, "test_several_devices.py")):
        text = (tests / file).read_text()
        for name in listed:
            assert re.search(rf"\b{name.rpartition('/')[2]}\b", text), f"{file} does not run {name}"


def test_every_file_is_run_by_a_test():
    """The lists above name existing files, and every root config has a test below."""
    listed = ROOTS | PARTS_OF_OTHERS | RUN_BY_EVERY_COMMAND | DOWNLOADED | SHARED | SINGLE_CELLS
    assert listed - FILES <= {"hydra/help/train"}
    roots = {name for name in FILES if "/" not in name}
    assert roots == ROOTS, "add a test that runs the new stage's config"
    for part in PARTS_OF_OTHERS:
        name = part.rpartition("/")[2]
        users = [f for f in OPTIONS if re.search(rf"\[{name}, _self_\]", (CONF / f"{f}.yaml").read_text())]
        assert users, f"nothing builds on {part}"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Path:
    """A small matrix of a user's own, with annotations."""
    import numpy as np
    import pandas as pd

    folder = tmp_path_factory.mktemp("matrix")
    rng = np.random.default_rng(0)
    donors = [f"donor{i:02d}" for i in range(30)]
    samples = [f"{donor}_{tissue}" for donor in donors for tissue in ("lung", "liver", "skin")]
    x = np.exp2(rng.normal(3.0, 2.0, (150, len(samples)))).round(3)
    genes = pd.read_csv(
        next((CONF.parent / "src").rglob("human_genes.tsv.gz")), sep="\t", comment="#", header=None
    )
    ids = [str(v) for v in genes.to_numpy().ravel() if re.fullmatch(r"ENSG\d{11}", str(v))][:150]
    pd.DataFrame(x * 1e6 / x.sum(0), index=pd.Index(ids, name="gene_id"), columns=samples).to_csv(
        folder / "m.csv"
    )
    pd.DataFrame(
        {
            "sample": samples,
            "donor": [s.split("_")[0] for s in samples],
            "tissue": [s.split("_")[1] for s in samples],
        }
    ).to_csv(folder / "a.csv", index=False)
    return folder


def needed(name: str, matrix: Path | None = None) -> tuple[str, ...]:
    """Overrides that make a config small enough, or complete."""
    if name == "data/file":
        folder = matrix or Path("x")
        return (
            f"data.path={folder / 'm.csv'}", f"data.prepare.annotations=[{folder / 'a.csv'}]",
            "data.prepare.genes=all", "data.prepare.unit=tpm",
        )  # fmt: skip
    if name in SHARED:
        return ("data.prepare.top_genes=120",)
    if name in DOWNLOADED:
        return ()
    return (*SIMULATED, *TINY_CELLS) if name in ALIGNMENT else SIMULATED


@pytest.mark.parametrize("name", OPTIONS)
def test_composed_and_checked(name):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        with_it = ["+experiment=contrastive"] if name == "hparams_search/contrastive" else []
        config = compose("train", [override(name), *with_it, *needed(name)])
    plain = to_plain(config)
    check_fields(plain, TrainConfig)
    OmegaConf.create(plain)  # nothing but plain containers
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith(("#", "_target_")), "say in the first line what the file is for"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.real, pytest.mark.slow] if name in SHARED else [])
        for name in OPTIONS
        if name not in DOWNLOADED | SEARCHES | SEVERAL_DEVICES
    ],
)
def test_run_for_one_batch(name, command, matrix, tiny_data, tmp_path):
    if name in SHARED and not (shared_dir() / "gtex_v6" / "gtex_v6.h5ad").exists():
        pytest.skip("GTEX_VAE_SHARED does not hold the real data")
    environ = {"GTEX_VAE_SHARED": str(shared_dir().resolve())}
    data = f"paths.data={tmp_path if name in ('data/file', *SHARED) else tiny_data}"
    done = command(
        "gtex_vae.train", override(name), *SMALL, *needed(name, matrix), data, f"hydra.run.dir={tmp_path / 'run'}",
        environ=environ,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert (tmp_path / "run" / "SUCCESS").exists()


CLUSTERS = sorted(f for f in FILES if f.startswith("hydra/launcher/cluster/"))
LAUNCHERS = sorted(f for f in FILES if f.startswith("hydra/launcher/") and f not in CLUSTERS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_is_what_its_plugin_takes(name, command, tmp_path):
    """Hydra checks the keys against the plugin's own schema; the jobs themselves are run in tests/slurm."""
    done = command("gtex_vae.train", override(name), "--cfg", "hydra", "-p", "hydra.launcher", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "_target_: hydra_plugins" in done.stdout


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("launcher", ["slurm_cpu", "slurm_gpu"])
def test_cluster_is_what_the_launchers_take(name, launcher, command, tmp_path):
    done = command(
        "gtex_vae.train", f"hydra/launcher={launcher}", override(name), "--cfg", "hydra", "-p", "hydra.launcher", cwd=tmp_path
    )  # fmt: skip
    assert done.code == 0, done.stderr
    keys = set(OmegaConf.load(CONF / f"{name}.yaml"))
    assert keys <= set(OmegaConf.create(done.stdout)), "a key that no launcher has"


def test_preprocess_and_evaluate(command, tiny_data, tmp_path):
    preprocess = command("gtex_vae.preprocess", *SIMULATED[:2], f"paths.data={tmp_path}", cwd=tmp_path)
    assert preprocess.code == 0, preprocess.stderr
    assert (tmp_path / "processed" / "demo.h5ad").exists()
    arguments = (*SMALL, *SIMULATED, f"paths.data={tmp_path}")
    trained = command("gtex_vae.train", *arguments, cwd=tmp_path)
    assert trained.code == 0, trained.stderr
    done = command("gtex_vae.evaluate", "run=latest", cwd=tmp_path)
    assert done.code == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "train" / "runs").iterdir()
    assert (run / "evaluation" / "metrics.json").exists()


def test_pseudobulk(command, tmp_path):
    small = ("data.prepare.n_donors=4", "data.prepare.n_genes=60", "data.prepare.cells_per_donor=60")
    for name in SINGLE_CELLS:
        done = command("gtex_vae.pseudobulk", override(name), *small, f"hydra.run.dir={tmp_path / 'run'}")
        assert done.code == 0, done.stderr
        assert (tmp_path / "run" / "celltype_profiles.h5ad").exists()
