"""Loading of a variant saved by ``bed.py --save``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from bed import Fold, weights_file

from gtex_vae import runtime
from gtex_vae.models.vae import VAE


def parser(description: str, *, members: int) -> argparse.ArgumentParser:
    """Arguments that say which."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("folder", type=Path)
    made.add_argument("variant")
    made.add_argument("--fold", type=int, default=11)
    made.add_argument("--members", type=int, default=members)
    return made


def load(arguments: argparse.Namespace) -> tuple[Fold, VAE]:
    """Its fold, and the model in evaluation mode, without steps towards the mode."""
    runtime.tune_process()
    fold = Fold(arguments.folder, arguments.fold)
    vae = VAE(fold.x_valid_ng.shape[1], n_components=len(fold.pca.components_dg), n_members=arguments.members)
    file = weights_file(arguments.folder, arguments.variant, arguments.fold)
    vae.load_state_dict(torch.load(file, weights_only=True))
    return fold, vae.eval()
