"""One command for several stages: which stage gets which key, and what is refused before submission."""

from __future__ import annotations

import pytest

from gtex_vae.errors import ConfigError
from gtex_vae.launch.plan import plan


def arguments(*overrides: str) -> dict[str, list[str]]:
    steps, _ = plan([*overrides, "name=mine"])
    return {step.stage: step.arguments[:-1] for step in steps}


def test_every_stage_gets_the_keys_it_has():
    given = arguments("data=demo", "model.latent_dim=4", "genesets=[a.gmt]", "seed=1", "+experiment=masked")
    run = "run=outputs/train/runs/mine"
    assert given == {
        "preprocess": ["data=demo", "seed=1"],
        "train": ["data=demo", "model.latent_dim=4", "seed=1", "+experiment=masked"],
        "evaluate": ["genesets=[a.gmt]", "seed=1", run],
        "analyze": ["genesets=[a.gmt]", "seed=1", run],
    }


def test_a_key_for_one_stage_alone_and_the_order_of_stages():
    given = arguments("stages=[encode,train]", "encode:input=x.csv", "train:seed=3")
    assert given == {"train": ["seed=3"], "encode": ["input=x.csv", "run=outputs/train/runs/mine"]}


def test_a_chain_on_a_run_that_is_there():
    assert arguments("stages=[evaluate,analyze]", "run=latest") == {
        "evaluate": ["run=latest"],
        "analyze": ["run=latest"],
    }


def test_runs_of_one_name_and_one_folder():
    steps, folder = plan(["paths.outputs=/o", "name=mine"])
    assert [str(step.run_dir) for step in steps] == [
        f"/o/{stage}/runs/mine" for stage in ("preprocess", "train", "evaluate", "analyze")
    ]
    assert str(folder) == "/o/pipeline/runs/mine"


def test_only_training_gets_a_gpu():
    steps, _ = plan(
        ["hydra/launcher=slurm_gpu", "train:hydra.launcher.mem_gb=64", "hydra.launcher.partition=p"]
    )
    assert {step.stage: step.launcher["gpus_per_node"] for step in steps} == {
        "preprocess": None, "train": 1, "evaluate": None, "analyze": None,
    }  # fmt: skip
    assert {step.launcher["mem_gb"] for step in steps} == {24, 64}
    for step in steps:
        assert step.kind == "slurm"
        assert step.launcher["partition"] == "p"
        assert step.launcher["name"] == step.stage
        assert not any("launcher" in argument for argument in step.arguments)


@pytest.mark.parametrize(("launcher", "kind"), [("local", "local"), ("basic", "here")])
def test_without_slurm(launcher, kind):
    steps, _ = plan([f"hydra/launcher={launcher}"])
    assert {step.kind for step in steps} == {kind}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["modl.latent_dim=3"],
            r"unknown key modl.latent_dim=3: no stage of preprocess, train, evaluate, analyze has it",
        ),
        (["train:modl=3"], r"train: unknown key modl"),
        (["model.latnt_dim=3"], r"train: unknown key model.latnt_dim; did you mean 'model.latent_dim'"),
        (["model.latent_dim=many"], r"model.latent_dim='many'"),
        (["data=demmo"], r"preprocess: no data=demmo; did you mean 'demo'"),
        (["stages=[train,evalute]"], r"unknown stage evalute; did you mean 'evaluate'"),
        (["stages=[evaluate]"], r"run is required"),
        (["stages=[train]", "encode:input=x"], r"unknown key encode:input=x: no stage of train has it"),
    ],
)
def test_refused_before_anything_is_submitted(overrides, message):
    with pytest.raises(ConfigError, match=message):
        plan(overrides)
