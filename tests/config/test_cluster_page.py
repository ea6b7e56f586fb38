"""The commands in docs/cluster.md compose; tests/slurm runs such jobs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from gtex_vae.paths import conf_dir

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]  # fmt: skip
OF_PYTHON = [line for line in COMMANDS if line.startswith("python -m")]
OF_OTHERS = {
    "cp",
    "squeue",
    "tail",
    "cat",
    "tensorboard",
    "ssh",
    "scontrol",
    "scancel",
    "sacct",
}  # run by hand


def test_every_command_is_known():
    assert len(OF_PYTHON) > 8
    assert {line.split()[0] for line in COMMANDS} == OF_OTHERS | {"python"}


@pytest.mark.parametrize("line", OF_PYTHON)
def test_it_is_composed(line, command, tmp_path):
    cluster = Path("hydra") / "launcher" / "cluster"
    (tmp_path / "my_conf" / cluster).mkdir(parents=True)
    shutil.copy(conf_dir() / cluster / "default.yaml", tmp_path / "my_conf" / cluster / "mine.yaml")
    module, *words = shlex.split(line)[2:]
    # a single run of the sweep, with what is shown instead of run
    words = [re.sub(r"=(\w+),[\w,]+$", r"=\1", word) for word in words if word != "-m"]
    shown = [] if "--cfg" in words else ["--cfg", "job"]
    done = command(module, "--config-dir", str(tmp_path / "my_conf"), *shown, *words, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.strip()
    assert not (tmp_path / "outputs").exists()


def test_every_key_of_the_page_is_one(command, tmp_path):
    """Keys named in the text, outside commands."""
    done = command("gtex_vae.train", "hydra/launcher=slurm_gpu", "--cfg", "all", cwd=tmp_path)
    text = re.sub(r"```bash\n.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`(?:\w+:)?hydra\.launcher\.(\w+)", text))
    named |= {"signal_delay_s", "max_num_timeout", "array_parallelism"} & set(re.findall(r"`(\w+)`", text))
    assert len(named) >= 6
    for key in named:
        assert re.search(rf"^ +{key}:", done.stdout, re.MULTILINE), key
