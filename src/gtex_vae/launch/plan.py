"""Plan of a chain: the overrides of each stage, checked before anything is submitted."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from gtex_vae.config import check_fields, nearest, register_resolvers, to_plain
from gtex_vae.errors import ConfigError
from gtex_vae.explain import explain
from gtex_vae.launch.chain import Step
from gtex_vae.paths import conf_dir

STAGES = ("preprocess", "pseudobulk", "train", "encode", "evaluate", "analyze", "generate")
DEFAULT = ("preprocess", "train", "evaluate", "analyze")
ON_A_GPU = ("train", "encode")
OF_A_RUN = ("encode", "evaluate", "analyze", "generate")
OWN = ("stages=", "name=")


def plan(overrides: Sequence[str], config_dir: str | None = None) -> tuple[list[Step], Path]:
    """Check the config of every stage; return the stages in order and the folder of the chain.

    Raises
    ------
    ConfigError
        A stage is unknown or its config is wrong, or no stage has a key.
    """
    from hydra import initialize_config_dir

    own = dict(o.split("=", 1) for o in overrides if o.startswith(OWN))
    wanted = re.findall(r"\w+", own.get("stages", "")) or list(DEFAULT)
    for stage in wanted:
        if stage not in STAGES:
            raise ConfigError(f"stages: unknown stage {stage}{nearest(stage, STAGES)}")
    stages = [stage for stage in STAGES if stage in wanted]
    name = own.get("name") or datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    keys = [o for o in overrides if not o.startswith(OWN)]
    search = [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    register_resolvers()
    steps: list[Step] = []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for key in keys:
            if not any(_taken(stage, key) for stage in stages):
                raise ConfigError(f"unknown key {key}: no stage of {', '.join(stages)} has it")
        for stage in stages:
            trained = [f"run={step.run_dir}" for step in steps if step.stage == "train"]
            of_stage = [taken for key in keys if (taken := _taken(stage, key))]
            steps.append(_step(stage, [*of_stage, *(trained if stage in OF_A_RUN else [])], search, name))
    return steps, Path(steps[0].config["paths"]["outputs"]) / "pipeline" / "runs" / name


def _taken(stage: str, override: str) -> str | None:
    """Override in the form that this stage accepts; None if the stage does not have the key."""
    alone, colon, rest = override.partition(":")
    if colon and alone in STAGES:
        return rest if alone == stage else None
    root = re.split(r"[./@=]", override.lstrip("+~"))[0]
    if stage in OF_A_RUN and root == "data":  # they read the data of the run
        return None
    added = root not in _roots("train") and (conf_dir() / root).is_dir()  # +experiment
    return override if root == "hydra" or root in _roots(stage) or (added and stage == "train") else None


@functools.cache
def _roots(stage: str) -> set[str]:
    """Root keys of a stage."""
    from hydra import compose

    return {str(key) for key in compose(stage)}


def _step(stage: str, overrides: list[str], search: list[str], name: str) -> Step:
    """Compose and check the config of one stage."""
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict

    if stage not in ON_A_GPU:
        overrides = [o.replace("hydra/launcher=slurm_gpu", "hydra/launcher=slurm_cpu") for o in overrides]
    try:
        config = compose(stage, [*overrides, *search], return_hydra_config=True)
    except HydraException as error:
        raise ConfigError(f"{stage}: {explain(error, stage)}") from error
    launcher: Any = {**OmegaConf.to_container(config.hydra.launcher, resolve=True), "name": stage}  # type: ignore[dict-item]
    with open_dict(config):
        del config["hydra"]
    plain = to_plain(config)
    check_fields(plain, getattr(importlib.import_module(f"gtex_vae.{stage}"), f"{stage.capitalize()}Config"))
    run_dir = Path(plain["paths"]["outputs"]) / stage / "runs" / name
    own = [o for o in overrides if not re.match(r"hydra[./]launcher\b", o)]
    return Step(stage, [*own, f"hydra.run.dir={run_dir}"], run_dir, plain, launcher)
