"""A Python that has imported everything already and forks a process for each command, so that tests pay no imports.

Reads one JSON order a line from stdin: ``argv``, ``cwd``, ``environ``, ``stdout`` and ``stderr`` (files), and ``die``:
``["module:Class.function", n]`` to be killed with SIGKILL where that function is called for the n-th time.
Answers with the pid and, when the process has ended, with its exit code.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import signal
import sys
from typing import Any

WARM = (
    "hydra",
    "hydra._internal.hydra",
    "pydantic",
    "anndata",
    "sklearn.cluster",
    "sklearn.linear_model",
    "sklearn.metrics",
    "matplotlib.pyplot",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "gtex_vae.train",
    "gtex_vae.data.simulate.bulk",
    "gtex_vae.data.datamodule",
    "gtex_vae.training.finish",
    "gtex_vae.training.module",
    "gtex_vae.training.callbacks.checkpoints",
    "gtex_vae.training.callbacks.console",
    "gtex_vae.training.callbacks.early_stopping",
    "gtex_vae.training.callbacks.figures",
    "gtex_vae.training.callbacks.finite_loss",
    "gtex_vae.training.callbacks.masking",
)


def die_at(place: str, count: int) -> None:
    """Replace a function by one whose ``count``-th call kills the process, as the kernel would."""
    module, _, qualified = place.partition(":")
    *owners, name = qualified.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)


def carry_out(order: dict[str, Any]) -> int:
    """Be the process that ``python -m argv`` would have been."""
    for stream, target in ((1, order["stdout"]), (2, order["stderr"])):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    # a shell starts background commands with Ctrl-C ignored, and tests may run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.update(order["environ"])
    sys.argv = order["argv"]
    if order["die"]:
        die_at(*order["die"])
    sys.modules.pop(order["argv"][0], None)  # it is __main__ now
    try:
        runpy.run_module(order["argv"][0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for name in WARM:
        importlib.import_module(name)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                sys.stdin.close()
                code = carry_out(order)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
