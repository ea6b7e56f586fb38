"""A chain of stages, run as jobs that wait for each other: none runs after one that failed."""

from __future__ import annotations

import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.errors import ConfigError, RunError
from gtex_vae.files import write_json
from gtex_vae.launch.jobs import follow, log_submitted, make_executor
from gtex_vae.runs import directory, submission

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One stage of a chain.

    Parameters
    ----------
    stage
        Its name.
    arguments
        What follows ``python -m gtex_vae.<stage>``.
    run_dir
        Where its run lies.
    config
        Its resolved config, plain.
    launcher
        Keys of ``hydra.launcher``.
    """

    stage: str
    arguments: list[str]
    run_dir: Path
    config: Mapping[str, Any]
    launcher: Mapping[str, Any]

    @property
    def module(self) -> str:
        """What to run with ``python -m``."""
        return f"gtex_vae.{self.stage}"

    @property
    def kind(self) -> str:
        """``slurm``, ``local``, or ``here``."""
        target = str(self.launcher.get("_target_", "")).rpartition(".")[2]
        return {"GtexVaeSlurmLauncher": "slurm", "GtexVaeLocalLauncher": "local"}.get(target, "here")


@dataclass(frozen=True)
class StageJob:
    """A stage as a job runs it: ``python -m module arguments``, in this process, which the scheduler may warn."""

    module: str
    arguments: list[str]
    run_dir: str
    record: str

    def __call__(self) -> None:
        """Run the stage to its end.

        Raises
        ------
        RunError
            It failed, and so must the job, with the reason.
        """
        os.environ[submission.VARIABLE] = self.record
        sys.argv = [self.module, *self.arguments]
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            if error.code != 1:  # to be queued again, or told to stop
                raise
            failed = Path(self.run_dir) / directory.FAILED
            reason = (
                failed.read_text(encoding="utf-8").splitlines()[0] if failed.exists() else "see the job's log"
            )
            raise RunError(reason) from None

    def checkpoint(self) -> Any:
        """What submitit queues again: the same command goes on with its unfinished run."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def run_chain(steps: Sequence[Step], folder: Path) -> None:
    """Run every step that has not finished before, in order, and stop at the first that fails.

    On SLURM all are submitted at once, each depending on the success of the one before, so that the chain goes on
    without this process; elsewhere each is started when the one before has ended.

    Parameters
    ----------
    steps
        The stages.
    folder
        Where jobs leave what they print, and the record of the chain.

    Raises
    ------
    RunError
        A stage failed; the later ones did not run.
    """
    kinds = {step.kind for step in steps}
    if len(kinds) > 1:
        raise ConfigError("a chain takes one kind of hydra/launcher: slurm_gpu or slurm_cpu, local, or none")
    (kind,) = kinds
    todo = [step for step in steps if not directory.is_done(step.run_dir, dict(step.config))]
    for step in steps:
        if step not in todo:
            log.info("%s: finished before, in %s", step.stage, step.run_dir)
    made_here = any(step.stage == "preprocess" for step in todo)
    for step in todo:
        # data that the chain itself makes are not those of the submission
        config = {key: value for key, value in step.config.items() if key != "data" or not made_here}
        submission.write(
            folder / f"{step.stage}.json", config, refuse=step.launcher.get("if_changed") == "refuse"
        )
    write_json(
        folder / "chain.json",
        {step.stage: {"run": str(step.run_dir), "arguments": step.arguments} for step in steps},
    )
    jobs: list[Any] = []
    if kind == "slurm":
        for step in todo:
            jobs.append(_submit(step, folder, after=jobs[-1].job_id if jobs else None))
        if jobs:
            log_submitted(jobs, folder)
    for number, step in enumerate(todo):
        error = _here(step) if kind == "here" else None
        if kind != "here":
            if kind == "local":
                jobs.append(_submit(step, folder))
            (ended,) = follow([jobs[number]], [step.stage])
            error = ended.error
        if error is not None:
            later = [other.stage for other in todo[number + 1 :]]
            for job in jobs[number + 1 :]:
                job.cancel(check=False)
            not_run = f"; {', '.join(later)} did not run" if later else ""
            raise RunError(
                f"{step.stage} failed: {error}{not_run}; the same command with name={folder.name} goes on"
            )
    log.info("\n".join(["the chain has finished:", *(f"  {step.stage:12s}{step.run_dir}" for step in steps)]))


def _here(step: Step) -> str | None:
    """Run a stage in the terminal; its reason where it failed."""
    done = subprocess.run([sys.executable, "-m", step.module, *step.arguments])
    return None if done.returncode == 0 else f"exit status {done.returncode}, see above"


def _submit(step: Step, folder: Path, after: str | None = None) -> Any:
    """Submit a stage; on SLURM to run only if the job before it succeeds."""
    params = {
        k: v for k, v in step.launcher.items() if k not in ("_target_", "submitit_folder", "if_changed")
    }
    if after is not None:
        depend = {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
        params["additional_parameters"] = {**(params.get("additional_parameters") or {}), **depend}
    executor = make_executor(step.kind, str(folder / ".submitit" / "%j"), params)
    record = str((folder / f"{step.stage}.json").absolute())
    return executor.submit(StageJob(step.module, step.arguments, str(step.run_dir), record))
