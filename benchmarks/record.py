"""Result files, with a description of the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine(loads: Sequence[float], packages: Sequence[str]) -> dict[str, Any]:
    """Describe processor, cores, range of the load, and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": [round(min(loads), 1), round(max(loads), 1)],
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def processor() -> str:
    """Return family and model of the processor."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    first = dict(line.split(":", 1) for line in text.partition("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in first.items()}
    keys = ("model name", "cpu family", "model")
    return " ".join(found[key] for key in keys if key in found) or platform.processor()


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def command(*arguments: str) -> dict[str, float]:
    """Run ``python -m`` with these arguments; return seconds, CPU seconds and peak memory.

    Its output goes to standard error. Exits if the command fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: python -m {' '.join(arguments)}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
    }


def peak_gb() -> float:
    """Return the peak memory of this process since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def reset_peak() -> None:
    """Reset the peak memory of this process."""
    Path("/proc/self/clear_refs").write_text("5")
