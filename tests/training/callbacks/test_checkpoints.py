"""Times at which the last state of training is saved."""

from __future__ import annotations

import types
from typing import Any

import pytest

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
        """The epochs, of a second each, after which the state was written."""
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
    # half a second is a twentieth of ten
    assert saved[:-1] == [0, 10, 20, 30, 40]


def test_quick_writing_comes_after_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Training(monkeypatch, 5, writing=0.1).run() == [0, 1, 2, 3, 4]


def test_where_training_stops_early_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Training(monkeypatch, 50, writing=0.5).run(stop_after=3) == [0, 3]
