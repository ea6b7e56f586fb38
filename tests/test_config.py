"""Configs: errors and their messages, and the allow-list of targets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gtex_vae import config
from gtex_vae.config import (
    TARGETS,
    build,
    check,
    check_fields,
    find_target,
    nearest,
    register_resolvers,
    to_plain,
)
from gtex_vae.errors import ConfigError
from gtex_vae.models.objective import Objective
from gtex_vae.models.vae import VAE
from gtex_vae.train import TrainConfig

VAE_TARGET = "gtex_vae.models.vae.VAE"
ADAMW = "torch.optim.AdamW"


@pytest.mark.parametrize("target", [VAE_TARGET, ADAMW, "lightning.pytorch.Trainer"])
def test_allowed_targets_are_found(target: str) -> None:
    assert find_target(target).__name__ == target.rpartition(".")[2]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "gtex_vae_evil.run",  # shares the beginning of the name, not the package
        "gtex_vaeX.models.vae.VAE",
        "torch.optimX.AdamW",
        "VAE",
        "",
        ".VAE",
        3,
        None,
        ["gtex_vae.models.vae.VAE"],
    ],
)
def test_targets_outside_the_allowed_packages_are_refused_before_any_import(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr("gtex_vae.config.importlib.import_module", refuse)
    with pytest.raises(
        ConfigError, match=r"is not allowed: it must be in gtex_vae, torch.optim, lightning.pytorch"
    ):
        find_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "gtex_vae.files.os.system",  # through a module that an allowed one imports
        "gtex_vae.config.importlib.import_module",
        "gtex_vae.provenance.subprocess.run",
        "gtex_vae.paths.shutil.rmtree",
        "gtex_vae.models.vae.VAE.forward",  # an attribute of a class
        "gtex_vae.models.vae.Nothing",
        "gtex_vae.models.nothing.VAE",
        "gtex_vae..models.vae.VAE",
        "gtex_vae.models.vae.",
        "gtex_vae.models.vae.__builtins__.eval",
    ],
)
def test_attributes_of_what_an_allowed_module_imports_do_not_exist(target: str) -> None:
    with pytest.raises(ConfigError, match=r"does not exist"):
        find_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "gtex_vae.paths.shutil",  # a module
        "gtex_vae.inference.trained_model.Path",  # a class of another package
        "gtex_vae.models.vae.sample_posterior.__call__",
        "gtex_vae.config.get_type_hints",  # a function of another package
        "gtex_vae.config.TARGETS",
        "gtex_vae.models.vae.Norm",
        "gtex_vae.config.__builtins__",
    ],
)
def test_things_that_an_allowed_module_did_not_define_are_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a class or function of|does not exist"):
        find_target(target)


def test_under_narrows_the_allowed_packages() -> None:
    assert find_target(VAE_TARGET, under="gtex_vae.models") is VAE
    assert find_target(VAE_TARGET, under=("torch.optim", "gtex_vae.models.vae")) is VAE
    for under in (
        "gtex_vae.data",
        "gtex_vae.model",
        "torch.optim",
        ("gtex_vae.training", "lightning.pytorch"),
    ):
        with pytest.raises(ConfigError, match=r"is not allowed"):
            find_target(VAE_TARGET, under=under)
    # defined elsewhere and only imported there
    with pytest.raises(ConfigError, match=r"is not a class or function of gtex_vae.training"):
        find_target("gtex_vae.training.module.VAE", under="gtex_vae.training")


def test_build_calls_the_target_with_the_nodes_keys_and_what_is_known_only_now() -> None:
    node = {"_target_": VAE_TARGET, "latent_dim": 3, "hidden_dims": [5]}
    vae = build(node, under="gtex_vae.models", n_genes=11)
    assert isinstance(vae, VAE)
    assert (vae.n_genes, vae.latent_dim) == (11, 3)
    assert node["_target_"] == VAE_TARGET  # the node is left as it was
    with pytest.raises(ConfigError, match=r"not allowed"):
        build({"latent_dim": 3})


def test_building_checks_values() -> None:
    with pytest.raises(
        ConfigError, match=r"model.latent_dim=12 must lie between 1 and the number of genes, 11"
    ):
        build({"_target_": VAE_TARGET, "latent_dim": 12}, n_genes=11)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": VAE_TARGET, "latent_dim": 8, "hidden_dims": [], "dropout": 0, "linear_skip": False},
        {"_target_": ADAMW, "lr": 1, "betas": [0.9, 0.99], "fused": None},
        {"_target_": "lightning.pytorch.Trainer", "devices": "auto", "precision": "bf16-mixed"},
        {"_target_": "lightning.pytorch.Trainer", "devices": [0, 1], "limit_train_batches": 0.5},
        {"_target_": "gtex_vae.models.objective.Objective", "hidden_share": None},
        {"no_target": {"anything": object}},
    ],
)
def test_right_values_pass(node: dict[str, Any]) -> None:
    check({"a": [node]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent_dim", "64"),
        ("latent_dim", 64.0),
        ("latent_dim", 0.5),
        ("latent_dim", True),
        ("latent_dim", None),
        ("latent_dim", [64]),
        ("hidden_dims", 64),
        ("hidden_dims", ["64"]),
        ("hidden_dims", [64, 1.5]),
        ("hidden_dims", "64"),
        ("hidden_dims", {"a": 64}),
        ("dropout", "0.1"),
        ("dropout", False),
        ("linear_skip", "true"),
        ("linear_skip", 1),
        ("norm", "bach"),
        ("norm", True),
    ],
)
def test_wrong_types_name_the_full_key_and_the_value(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        check({"model": {"_target_": VAE_TARGET, key: value}})
    assert str(error.value).startswith(f"model.{key}={value!r}: input should be ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"_target_": VAE_TARGET, "latnt_dim": 3}}, "unknown key model.latnt_dim; did you mean 'latent_dim'?"),
        ({"a": {"b": [{}, {"_target_": ADAMW, "lrr": 1}]}}, "unknown key a.b[1].lrr; did you mean 'lr'?"),
        ({"model": {"_target_": "gtex_vae.models.vae.VAF"}}, "_target_=gtex_vae.models.vae.VAF does not exist"),
        ({"x": {"_target_": "os.system", "command": "true"}}, "_target_=os.system is not allowed"),
    ],
)  # fmt: skip
def test_mistakes_are_found_the_whole_tree_down(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(tree)
    assert str(error.value).startswith(message)


def test_root_keys_are_checked_against_the_stage() -> None:
    check_fields({"seed": 3, "run": None, "logger": None}, TrainConfig)
    with pytest.raises(ConfigError, match=r"unknown key sead; did you mean 'seed'?"):
        check_fields({"sead": 3}, TrainConfig)
    with pytest.raises(ConfigError, match=r"seed='three': input should be a valid integer"):
        check_fields({"seed": "three"}, TrainConfig)
    with pytest.raises(ConfigError, match=r"unknown key model.latent; did you mean 'latent_dim'?"):
        check_fields({"model": {"_target_": VAE_TARGET, "latent": 3}}, TrainConfig)


def test_nearest_suggests_or_lists() -> None:
    assert nearest("beta", ["betas", "lr"]) == "; did you mean 'betas'?"
    assert nearest("zzz", ["lr", "betas"]) == "; valid: betas, lr"


def test_to_plain_resolves_to_plain_containers() -> None:
    config = OmegaConf.create({"a": {"b": [1, 2.5, None, "x"]}, "c": "${a.b}", "d": Path("x")})
    plain = to_plain(config)
    assert plain == {"a": {"b": [1, 2.5, None, "x"]}, "c": [1, 2.5, None, "x"], "d": Path("x")}
    assert type(plain["c"]) is list
    assert type(plain["a"]) is dict


def test_to_plain_names_what_is_missing_or_leads_nowhere() -> None:
    with pytest.raises(ConfigError, match=r"^a.b is required: add a.b=VALUE to the command$"):
        to_plain(OmegaConf.create({"a": {"b": "???"}}))
    with pytest.raises(ConfigError, match=r"^a.b is required: add a.b=VALUE to the command$"):
        to_plain(OmegaConf.create({"c": {"d": "x/${a.b}"}, "a": {"b": "???"}}))
    with pytest.raises(ConfigError, match=r"^a.b: .*nowhere") as error:
        to_plain(OmegaConf.create({"a": {"b": "${nowhere}"}}))
    assert "\n" not in str(error.value)


def test_resolvers() -> None:
    register_resolvers()
    register_resolvers()  # a second stage in one process
    config = OmegaConf.create(
        {"n": None, "first": "${first:${n},b,c}", "none": "${first:${n}}", "stem": "${stem:/x/my.gct.gz}", "no": "${stem:${n}}"}
    )  # fmt: skip
    plain = to_plain(config)
    assert (plain["first"], plain["none"], plain["stem"], plain["no"]) == ("b", None, "my", None)


def test_nothing_ran_while_targets_were_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "system", lambda command: pytest.fail(f"ran {command}"))
    for target in ("os.system", "gtex_vae.files.os.system"):
        with pytest.raises(ConfigError):
            build({"_target_": target, "command": "true"}, under=TARGETS)


def test_objective_is_built_from_its_config_as_it_stands() -> None:
    objective = build({"_target_": "gtex_vae.models.objective.Objective", "free_bits": 0.1})
    assert isinstance(objective, Objective)
    assert objective.free_bits == 0.1


def test_targets_that_moved_are_found_by_their_former_paths() -> None:
    for former, present in config.FORMER_TARGETS.items():
        assert find_target(former) is find_target(present)
        assert config.update_targets({"a": [{"_target_": former, "x": 1}]}) == {
            "a": [{"_target_": present, "x": 1}]
        }
