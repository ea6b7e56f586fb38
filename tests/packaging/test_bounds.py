"""The bounds in pyproject.toml are those that `make test-oldest` and `make test-newest` install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["search"]
]
# these parse or print; the numbers that the product computes and stores do not depend on them
WITHOUT_UPPER_BOUND = {"pyyaml", "rich", "tqdm", "filelock"}


def bound(requirement: Requirement, operator: str) -> Version | None:
    found = [Version(part.version) for part in requirement.specifier if part.operator == operator]
    return found[0] if found else None


def test_the_oldest_versions_are_the_lower_bounds():
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    oldest = {
        name: Version(version) for name, version in re.findall(r"^(\S+)==(\S+)$", "\n".join(lines), re.M)
    }
    assert oldest == {r.name: bound(r, ">=") for r in REQUIREMENTS if r.name != "torch"}


def test_what_computes_or_stores_numbers_has_an_upper_bound():
    without = {r.name for r in REQUIREMENTS if bound(r, "<") is None}
    assert without == WITHOUT_UPPER_BOUND


def test_ci_runs_stages_that_exist_with_the_newest_packages():
    assert "make test-newest" in (ROOT / ".ci/run").read_text()
    names = re.findall(r"tests/(?!stages)[\w/.]+", (ROOT / "Makefile").read_text())
    stages = re.search(r"addprefix tests/stages/test_, ([^)]*)\)", (ROOT / "Makefile").read_text())
    assert stages and len(names) >= 4
    for path in (*names, *(f"tests/stages/test_{name}" for name in stages[1].split())):
        assert (ROOT / path).exists(), path
