"""Errors of any library, explained in one line that names what to type."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gtex_vae.config import nearest
from gtex_vae.errors import GtexVaeError
from gtex_vae.paths import conf_dir


def explain(error: BaseException, config_name: str) -> str:
    """Explain an error in one line."""
    from hydra.errors import HydraException, OverrideParseException

    if isinstance(error, GtexVaeError):
        return str(error)
    if isinstance(error, OverrideParseException) and "=" in error.override:
        return (
            f"{error.override} cannot be parsed: quote a value with special characters for Hydra and for the shell, "
            """as in 'KEY="VALUE"' or 'KEY=["VALUE","VALUE"]'"""
        )
    if isinstance(error, HydraException):
        return _explain_hydra(str(error), config_name)
    if isinstance(error, OmegaConfBaseException):  # raised by Hydra before the config is checked
        return f"{error.full_key or 'an override'}: {str(error).splitlines()[0]}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {error}" if str(error) else "interrupted; repeat the command to resume the run"
    if type(error).__name__ == "UncompletedJobError":  # of submitit, when it does not requeue the job
        return f"{error} Increase hydra.launcher.timeout_min or hydra.launcher.max_num_timeout and repeat the command to resume the run"
    if type(error).__name__ == "FailedJobError":  # of submitit
        return (
            f"SLURM refused the job: {str(error).strip().splitlines()[-1]}; "
            "check hydra.launcher.partition, hydra.launcher.account and hydra.launcher.qos"
        )
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    if "Config group override must be" in str(error):
        return "a group cannot be null: remove it with ~GROUP, for example ~logger"
    return f"unexpected {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''} (see log.txt)"


def _explain_hydra(message: str, config_name: str) -> str:
    unknown = re.search(r"Could not override '([^']+)'", message) or re.search(r"full_key: (\S+)", message)
    if unknown:
        key = unknown.group(1)
        if (conf_dir() / key).is_dir():  # a group that is in no defaults list
            return f"{key}= is not in the config: write +{key}=NAME"
        known = _known_keys(config_name)
        parent, _, _ = key.rpartition(".")
        siblings = [name for name in known if name.rpartition(".")[0] == parent]
        return f"unknown key {key}{nearest(key, known, listed=siblings)}"
    option = re.search(r"Could not find '([^']+)/([^']+)'", message)
    if option:
        group, name = option.groups()
        lines = message.partition("Available options")[2].splitlines()[1:]
        # "=" is in the lines that list Hydra's search path
        available = [line.strip() for line in lines if line.startswith("\t") and "=" not in line]
        return f"no {group}={name}{nearest(name, available)}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _known_keys(config_name: str) -> list[str]:
    """List all dotted keys of the stage's default config."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose(config_name), resolve=False)

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        found = []
        for key, value in node.items():
            found += [f"{prefix}{key}", *walk(value, f"{prefix}{key}.")]
        return found

    return walk(tree, "")
