"""Imports go only to lower floors, and a main starts without heavy packages."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FLOORS = {
    "functional": 0, "errors": 0, "paths": 0, "files": 0, "runtime": 0, "provenance": 0, "config": 0,
    "nn": 1, "data": 1, "runs": 1, "explain": 1,
    "models": 2,
    "inference": 3,
    "analysis": 4,
    "training": 5, "api": 5,
    "stage": 6,
    "launch": 7,
    "train": 7, "preprocess": 7, "pseudobulk": 7, "encode": 7, "evaluate": 7, "analyze": 7, "generate": 7, "summarize": 7,
    "pipeline": 8,
    "hydra_plugins": 8,
    "__init__": 8,
}  # fmt: skip
MODULES = {
    path.relative_to(SRC).with_suffix("").as_posix().replace("/", ".").removeprefix("gtex_vae."): path
    for path in SRC.rglob("*.py")
}
MAINS = sorted({name for name, floor in FLOORS.items() if floor == 7 and name != "launch"} | {"pipeline"})
HYDRA_MAY = {
    "config",
    "explain",
    "stage",
    *MAINS,
    "training.build",
    "launch.plan",
    *(name for name in MODULES if "hydra_plugins" in name),
}
LIGHTNING_MAY = {"stage", "train", "data.datamodule"}  # and everything in training
HEAVY = {
    "torch",
    "lightning",
    "sklearn",
    "matplotlib",
    "anndata",
    "umap",
    "polars",
    "tensorboard",
    "scipy",
    "pandas",
}


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """Full names of what a module imports; ``top``: outside functions and ``TYPE_CHECKING`` only."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                module = child.module or ""
                yield from (f"{module}.{alias.name}" for alias in child.names)
            elif (top and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)) or (
                top and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            ):
                continue
            else:
                yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))


def floor(module: str) -> int:
    top = module.split(".")[0]
    assert top in FLOORS, f"give gtex_vae.{top} a floor"
    return FLOORS[top]


def own_imports(module: str) -> Iterator[str]:
    """Names below gtex_vae that a module imports, without the package's name."""
    for name in imports(MODULES[module]):
        if name.startswith("gtex_vae.") and name != "gtex_vae.__version__":
            yield name.removeprefix("gtex_vae.")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module):
    """Strictly: packages of one floor do not import each other."""
    for target in own_imports(module):
        package, of = module.split(".")[0], target.split(".")[0]
        # root modules of floor 0 are read from the bottom up, like the files of one package
        root = floor(target) == floor(module) == 0 and "functional" not in (package, of)
        if package == of or root:
            continue
        assert floor(target) < floor(module), (
            f"{module} imports gtex_vae.{target}, which is not on a lower floor"
        )


@pytest.mark.parametrize("package", ["data", "analysis"])
def test_the_folders_of_a_package_form_no_circle(package):
    """A file directly in the package counts as a folder of its own."""
    needs: dict[str, set[str]] = {}
    for module in MODULES:
        if module.startswith(f"{package}."):
            folder = module.split(".")[1]
            targets = {name.split(".")[1] for name in own_imports(module) if name.startswith(f"{package}.")}
            needs.setdefault(folder, set()).update(targets - {folder})
    while needs:
        lowest = {name for name, others in needs.items() if not others}
        assert lowest, f"{package}: these folders import each other in a circle: {needs}"
        needs = {name: others - lowest for name, others in needs.items() if name not in lowest}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_hydra_and_lightning_stay_where_they_live(module):
    packages = {name.split(".")[0] for name in imports(MODULES[module])}
    if module not in HYDRA_MAY:
        assert not packages & {"hydra", "omegaconf"}
    if module not in LIGHTNING_MAY and not module.startswith("training"):
        checked_only = {name.split(".")[0] for name in imports(MODULES[module], top=True)}
        assert "lightning" not in (checked_only if module.startswith("data") else packages)


@pytest.mark.parametrize("main", [name for name in MAINS if name in MODULES])
def test_a_main_starts_without_heavy_packages(main):
    """So that --help and config errors appear at once."""
    listing = subprocess.run(
        [sys.executable, "-c", f"import sys, gtex_vae.{main}; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not HEAVY & set(listing.stdout.split())


def test_no_main_is_long():
    for name in MAINS:
        assert len(MODULES[name].read_text().splitlines()) <= 80, name


def test_no_kind_of_likelihood_is_asked_for_outside_nn():
    """A likelihood describes itself by flags of its interface, so adding one touches `nn/` only."""
    for module, path in MODULES.items():
        if not module.startswith("nn."):
            for name in imports(path):
                if name.startswith(("gtex_vae.nn.likelihoods.", "gtex_vae.nn.negative_binomial.")):
                    assert not name.endswith(("Variance", "NegativeBinomial")), f"{module} imports {name}"
