"""The lock of a trial is released when its process dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gtex_vae.runs import study

HOLDER = """
import sys, time
from pathlib import Path
from gtex_vae.runs import study
lock = study.lock_trial(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
time.sleep(0.3)  # some processes take a moment to end
"""


def holder(run_dir: Path) -> subprocess.Popen[str]:
    """A process that has the trial until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, run_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_process_that_is_about_to_end_is_waited_for(tmp_path):
    with holder(tmp_path) as process:
        assert study.is_running(tmp_path)
        process.stdin.close()
        assert not study.is_running(tmp_path, patience_s=60)


def test_a_killed_process_has_nothing(tmp_path):
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert not study.is_running(tmp_path)


def test_a_run_that_was_never_begun_is_nobodys(tmp_path):
    assert not study.is_running(tmp_path / "none")
