"""A folder that holds a part of a model: ``weights.safetensors`` and a description as JSON."""

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
    """Write a part, whole or not at all.

    Parameters
    ----------
    folder
        Where to.
    name
        File name of the description.
    description
        Plain, with its ``format``.
    tensors
        The weights.
    """
    from safetensors.torch import save

    with write_beside(folder) as temporary:
        temporary.mkdir()
        weights = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        (temporary / WEIGHTS).write_bytes(weights)
        (temporary / name).write_text(json.dumps(description, indent=1), encoding="utf-8")


def read_part(folder: Path, name: str, what: str, format: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_part` wrote.

    Parameters
    ----------
    folder, name
        As written.
    what
        What it is, for messages.
    format
        The one that can be read.

    Raises
    ------
    RunError
        The folder is missing, incomplete or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        description = json.loads((folder / name).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder} holds no readable {what}: {error}") from error
    if description.get("format") != format:
        raise RunError(f"{folder}: format {description.get('format')} is not {format}, that of this version")
    return description, weights
