"""Times at which the last state of training is saved."""

from __future__ import annotations

import types
import warnings
from typing import Any

import pytest
import torch

from gtex_vae.training.callbacks import checkpoints


class Training:
    """A trainer with a simulated clock: epochs and checkpoints take the given seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epochs: int, *, writing: float) -> None:
        self.now, self.writing, self.saved = 1000.0, writing, []
        self.max_epochs, self.max_steps, self.global_step = epochs, -1, 0
        self.current_epoch, self.should_stop = 0, False
        self.strategy = types.SimpleNamespace(broadcast=lambda value: value)
        monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=lambda: self.now))

    def save_checkpoint(self, path: str) -> None:
        self.now += self.writing
        self.saved.append(self.current_epoch)

    def run(self, *, stop_after: int | None = None) -> list[int]:
        """Return the epochs, of one second each, after which the state was saved."""
        last, module = checkpoints.LastCheckpoint(), None
        last.dirpath = "somewhere"
        trainer: Any = self
        for epoch in range(self.max_epochs):
            self.now += 1.0
            self.current_epoch, self.should_stop = epoch, epoch == stop_after
            last.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
            if self.should_stop:
                break
        return self.saved


def test_slow_writing_takes_a_small_share_and_the_last_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Training(monkeypatch, 50, writing=0.5).run()
    assert saved[0] == 0
    assert saved[-1] == 49
    # 0.5 s is 5 % of 10 s
    assert saved[:-1] == [0, 10, 20, 30, 40]


def test_quick_writing_comes_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Training(monkeypatch, 5, writing=0.1).run() == [0, 1, 2, 3, 4]


def test_where_training_stops_early_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Training(monkeypatch, 50, writing=0.5).run(stop_after=3) == [0, 3]


def test_a_run_that_was_moved_keeps_its_best_score() -> None:
    before = checkpoints.BestCheckpoint()
    before.dirpath = "/home/a/run/checkpoints"
    before.best_model_score = before.kth_value = torch.tensor(0.5)
    before.best_model_path = before.kth_best_model_path = "/home/a/run/checkpoints/best.ckpt"
    before.best_k_models = {before.best_model_path: before.best_model_score}
    after = checkpoints.BestCheckpoint()
    after.dirpath = "/home/b/copy/checkpoints"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after.load_state_dict(before.state_dict())
    assert after.best_model_score == 0.5
    assert after.best_model_path == "/home/b/copy/checkpoints/best.ckpt"
    assert list(after.best_k_models) == [after.kth_best_model_path] == [after.best_model_path]
