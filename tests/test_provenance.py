"""Provenance: hashes and records."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtex_vae import provenance

configs = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.none(), max_size=5)


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert provenance.sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


@given(config=configs)
def test_fingerprint_does_not_depend_on_the_order_of_keys(config: dict[str, Any]) -> None:
    assert provenance.fingerprint(config) == provenance.fingerprint(dict(reversed(config.items())))


@given(a=configs, b=configs)
def test_fingerprints_differ_where_configs_do(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (provenance.fingerprint(a) == provenance.fingerprint(b)) == (a == b)


def test_record_is_plain_json() -> None:
    record = provenance.describe({"x.csv": "ab12"}, config={"seed": 0})
    assert json.loads(json.dumps(record)) == record
    assert record["sources"] == {"x.csv": "ab12"}
    assert record["config"] == {"seed": 0}
    assert record["packages"].keys() >= {"torch", "numpy"}


def test_outside_git_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    assert provenance.git_revision() == {}
    # an installed package inside somebody else's repository is not of that repository
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert provenance.git_revision() == {}
