"""What every result file says of the machine, and how it is written."""

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
    """Processor, cores, the range of the load while it was measured, and versions."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": [round(min(loads), 1), round(max(loads), 1)],
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def processor() -> str:
    """Family and model as the kernel names them: ratios are those of a kind of processor."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    first = dict(line.split(":", 1) for line in told.partition("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in first.items()}
    keys = ("model name", "cpu family", "model")
    return " ".join(found[key] for key in keys if key in found) or platform.processor()


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def command(*arguments: str) -> dict[str, float]:
    """Run ``python -m`` with these arguments: its seconds, CPU seconds and peak memory.

    Its output goes to standard error. Ends this process where it fails.
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
    """Most memory of this process since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def reset_peak() -> None:
    """Count the peak of this process from now on."""
    Path("/proc/self/clear_refs").write_text("5")
