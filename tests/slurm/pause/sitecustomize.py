"""On the PYTHONPATH of a job: its first process rests after each saved checkpoint, so that a fault can find it there."""

import os
import time

if "PAUSE_S" in os.environ and "SLURM_RESTART_COUNT" not in os.environ:
    _replace = os.replace

    def _replace_and_rest(source, target, **how):
        _replace(source, target, **how)
        if str(target).endswith("last.ckpt"):
            time.sleep(float(os.environ["PAUSE_S"]))

    os.replace = _replace_and_rest
