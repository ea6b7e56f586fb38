"""Folder of weights: ``weights.safetensors`` and a JSON description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gtex_vae.errors import RunError
from gtex_vae.files import write_beside

WEIGHTS = "weights.safetensors"


def write_part(
    folder: Path, name: str, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write weights and description atomically.

    Parameters
    ----------
    folder
        Folder to write.
    name
        File name of the description.
    description
        Plain values, with the key ``format``.
    tensors
        Tensors by name.
    """
    from safetensors.torch import save

    with write_beside(folder) as temporary:
        temporary.mkdir()
        weights = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        (temporary / WEIGHTS).write_bytes(weights)
        (temporary / name).write_text(json.dumps(description, indent=1), encoding="utf-8")


def read_part(folder: Path, name: str, what: str, format: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a folder written by `write_part`.

    Parameters
    ----------
    folder, name
        As for `write_part`.
    what
        Name of the content, for messages.
    format
        Supported format number.

    Raises
    ------
    RunError
        The folder is missing, incomplete or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        description = json.loads((folder / name).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder} contains no readable {what}: {error}") from error
    if description.get("format") != format:
        raise RunError(
            f"{folder}: format {description.get('format')} is not supported; this version reads format {format}"
        )
    return description, weights
