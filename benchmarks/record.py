"""What every result file says of the machine, and how it is written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine(loads: Sequence[float], packages: Sequence[str]) -> dict[str, Any]:
    """Cores, the range of the load while it was measured, and versions."""
    return {
        "cores": os.cpu_count(),
        "load_average": [round(min(loads), 1), round(max(loads), 1)],
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
