"""Config of a run that is continued with other settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gtex_vae.errors import ConfigError
from gtex_vae.runs import directory
from gtex_vae.runs.continuation import continued_config, reopen, resumed_config

OLD = {
    "trainer": {"max_epochs": 2},
    "model": {"latent_dim": 4},
    "logger": {"a": 1},
    "learning_rate": None,
    "run": None,
}
NEW = {
    "trainer": {"max_epochs": 9},
    "model": {"latent_dim": 64},
    "learning_rate": {"patience": 1},
    "run": "x",
}


def test_only_the_keys_of_the_command_change():
    overrides = ["trainer.max_epochs=9", "learning_rate=plateau", "~logger"]
    found = continued_config(OLD, NEW, overrides, Path("x"))
    assert found == {**OLD, "trainer": {"max_epochs": 9}, "learning_rate": {"patience": 1}, "logger": None}
    assert OLD["trainer"] == {"max_epochs": 2}


@pytest.mark.parametrize("override", ["model.latent_dim=64", "seed=3", "+experiment=contrastive"])
def test_what_defines_the_run_cannot_change(override):
    with pytest.raises(
        ConfigError, match=rf"leave out {override.replace('+', '[+]')} or change only trainer"
    ):
        continued_config(OLD, NEW, [override], Path("x"))


def test_a_finished_run_needs_its_last_state(tmp_path):
    directory.write_config(tmp_path, OLD)
    (tmp_path / "SUCCESS").touch()
    with pytest.raises(ConfigError, match=r"has no checkpoints/last\.ckpt to continue from"):
        resumed_config({**NEW, "finish": False}, tmp_path, ["run=x", "trainer.max_epochs=9"])
    with pytest.raises(ConfigError, match="has finished already"):
        resumed_config({**NEW, "finish": True}, tmp_path, ["run=x", "finish=true"])


def test_results_are_set_aside_and_former_configs_kept(tmp_path):
    directory.write_config(tmp_path, OLD)
    for name in ("SUCCESS", "metrics.json", "splits.csv"):
        (tmp_path / name).touch()
    for number in (1, 2):
        reopen(tmp_path)
        assert yaml.safe_load((tmp_path / f"configs/{number}.yaml").read_text()) == OLD
    assert directory.status(tmp_path) == "unfinished"
    assert (tmp_path / ".replaced/metrics.json").exists()
    assert (tmp_path / "splits.csv").exists()
