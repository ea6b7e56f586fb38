"""The command without noise, killed with all its processes while the checkpoint of the second epoch is being written."""

from __future__ import annotations

import os
import signal
from typing import Any

from without_noise import main

from gtex_vae.training.callbacks.checkpoints import LastCheckpoint

save, saved = LastCheckpoint._save, 0


def deadly(self: LastCheckpoint, trainer: Any) -> None:
    global saved
    saved += 1
    if saved == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, trainer)


LastCheckpoint._save = deadly  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
