"""The keys of train are listed in surface.txt, so that a new key is a deliberate change."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gtex_vae.config import register_resolvers
from gtex_vae.paths import conf_dir

SURFACE = Path(__file__).with_name("surface.txt")


def leaves(node: object, prefix: str = "") -> list[str]:
    if not isinstance(node, dict) or not node:
        return [prefix]
    return [key for k, value in node.items() for key in leaves(value, f"{prefix}.{k}" if prefix else str(k))]


def test_surface():
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = leaves(OmegaConf.to_container(compose("train"), resolve=False))
    listed = SURFACE.read_text().split()
    new, gone = sorted(set(found) - set(listed)), sorted(set(listed) - set(found))
    assert (new, gone) == ([], []), f"options came or went: if that is meant, edit {SURFACE.name}"
