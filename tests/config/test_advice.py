"""Advice in messages works: commands compose, and keys exist in the command that prints the message."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gtex_vae.config import register_resolvers
from gtex_vae.paths import conf_dir

SRC = Path(__file__).parents[2] / "src"
STAGES = ("train", "preprocess", "pseudobulk", "encode", "evaluate", "analyze", "generate", "summarize")
CONTEXTS = {
    "train": ("hydra/launcher=slurm_gpu", "hydra/sweeper=optuna"),
    "train alignment": ("+experiment=contrastive", "hparams_search=contrastive"),
    "train contrastive": ("contrastive=tissue", "data=file", "data.path=x", "hparams_search=default"),
    "train views": ("contrastive=views", "data=gtex_v8", "learning_rate=plateau"),
}
DOTTED = re.compile(
    r"\b(?:data|model|objective|optimizer|learning_rate|trainer|callbacks|logger|alignment|contrastive|paths|hydra)"
    r"(?:\.[a-zA-Z_]\w*)+(?==)"
)
COMMAND = re.compile(r"python -m gtex_vae\.(\w+)((?: +[^\s`;,]+)*)")
BARE = re.compile(r"(?<![\w.:/{])([a-z]\w*)=(?!=)")


def leaves(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from leaves(value, f"{prefix}{key}.")


@functools.cache
def keys(context: str, *overrides: str) -> frozenset[str]:
    """All dotted keys of a command, those of Hydra included."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(context.split()[0], list(overrides), return_hydra_config=True)
    return frozenset(leaves(OmegaConf.to_container(config, resolve=False)))


def known() -> set[str]:
    found = {key for stage in STAGES for key in keys(stage)}
    return found.union(*(keys(context, *overrides) for context, overrides in CONTEXTS.items()))


def messages() -> list[tuple[str, str]]:
    """Strings of exceptions and log lines: module and text, with x for each placeholder."""
    found = []
    for path in sorted(SRC.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            raised = isinstance(node, ast.Raise)
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                ("Error", "log.info", "log.warning", "log.error", "warn")
            )
            if not (raised or called):
                continue
            for text in ast.walk(node):
                if isinstance(text, ast.JoinedStr):
                    parts = [str(p.value) if isinstance(p, ast.Constant) else "x" for p in text.values]
                    found.append((path.stem, "".join(parts)))
                elif isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.append((path.stem, text.value))
    return list(dict.fromkeys(found))


MESSAGES = messages()
COMMANDS = [(module, *match.groups()) for module, text in MESSAGES for match in COMMAND.finditer(text)]


def test_there_is_advice():
    assert len(MESSAGES) > 200
    assert len(COMMANDS) > 3


@pytest.mark.parametrize(("module", "stage", "arguments"), COMMANDS)
def test_a_command_composes(module, stage, arguments):
    assert stage in STAGES
    words = [word for word in shlex.split(arguments) if "=" in word]
    overrides = [
        re.sub(r"^([^=]+)=(?:\.\.\.|x|[A-Z_]+|<[^>]+>|%s)[.)]*$", r"\1=demo", word) for word in words
    ]
    overrides = [re.sub(r"^([^=,]+)=(\w+),.*", r"\1=\2", word) for word in overrides]  # one value of a sweep
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose(stage, overrides)


@pytest.mark.parametrize(("module", "text"), [m for m in MESSAGES if DOTTED.search(m[1])])
def test_a_dotted_key_exists(module, text):
    for key in DOTTED.findall(text):
        pattern = re.compile(re.sub(r"(?<=\.)x(?=\.|$)", "[^.]+", key))
        assert any(map(pattern.fullmatch, known())), f"{module}: {key}= is a key of no command"


def test_a_bare_key_is_an_argument_of_some_command():
    """At the top of a config, or completed by `gtex_vae.config.full_keys`."""
    last = {key.rpartition(".")[2] for key in known()} | {"stages", "name", "experiment"}
    last |= {"expression"}  # an argument in Python only
    for module, text in MESSAGES:
        for key in BARE.findall(text):
            assert key in last or key.isupper() or len(key) < 3, f"{module}: {key}= in {text!r}"


@pytest.fixture
def matrix(tmp_path) -> Path:
    """Values whose unit cannot be recognised."""
    rng = np.random.default_rng(0)
    genes = pd.read_csv(next(SRC.rglob("human_genes.tsv.gz")), sep="\t", comment="#", header=None, nrows=300)
    ids = [str(v) for v in genes.to_numpy().ravel() if re.fullmatch(r"ENSG\d{11}", str(v))][:100]
    columns = [f"donor{i}" for i in range(12)]
    table = pd.DataFrame(rng.uniform(0, 5, (100, 12)), index=pd.Index(ids, name="gene_id"), columns=columns)
    table.to_csv(tmp_path / "m.csv")
    return tmp_path / "m.csv"


def test_preprocess_and_train_name_the_full_key_and_it_works(command, matrix, tmp_path):
    arguments = (
        "data=file",
        f"data.path={matrix}",
        "data.prepare.genes=all",
        f"paths.data={tmp_path / 'data'}",
    )
    for stage in ("train", "preprocess"):
        done = command(f"gtex_vae.{stage}", *arguments, cwd=tmp_path)
        assert done.code == 1
        assert "state data.prepare.unit=" in done.stderr, done.stderr
    done = command("gtex_vae.preprocess", *arguments, "data.prepare.unit='log2(tpm+1)'", cwd=tmp_path)
    assert done.code == 0, done.stderr
