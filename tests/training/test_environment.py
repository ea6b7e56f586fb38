"""Precision and cluster environment of the training process."""

from __future__ import annotations

import pytest
import torch

from gtex_vae.training.environment import best_precision


@pytest.mark.parametrize(
    ("accelerator", "gpu", "native", "expected"),
    [
        ("auto", False, True, "bf16-mixed"),
        ("auto", False, False, "32-true"),
        ("auto", True, True, "32-true"),
        ("gpu", True, True, "32-true"),
        ("cpu", True, True, "bf16-mixed"),
        ("cpu", True, False, "32-true"),
    ],
)
def test_bfloat16_is_for_cpus_that_multiply_it(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, gpu: bool, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_precision(accelerator) == expected
