"""A chain of stages: jobs that wait for each other; a failed stage stops the chain."""

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
        Name of the stage.
    arguments
        Arguments of ``python -m gtex_vae.<stage>``.
    run_dir
        Its run directory.
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
        """Module to run with ``python -m``."""
        return f"gtex_vae.{self.stage}"

    @property
    def kind(self) -> str:
        """Where the stage runs: ``slurm``, ``local`` or ``here``."""
        target = str(self.launcher.get("_target_", "")).rpartition(".")[2]
        return {"GtexVaeSlurmLauncher": "slurm", "GtexVaeLocalLauncher": "local"}.get(target, "here")


@dataclass(frozen=True)
class StageJob:
    """Job that runs ``python -m module arguments`` in this process, so that it receives the scheduler's signals."""

    module: str
    arguments: list[str]
    run_dir: str
    record: str

    def __call__(self) -> None:
        """Run the stage.

        Raises
        ------
        RunError
            The stage failed; the job then fails with the same reason.
        """
        os.environ[submission.VARIABLE] = self.record
        sys.argv = [self.module, *self.arguments]
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as error:
            if error.code != 1:  # to be requeued, or stopped
                raise
            failed = Path(self.run_dir) / directory.FAILED
            reason = (
                failed.read_text(encoding="utf-8").splitlines()[0] if failed.exists() else "see the job's log"
            )
            raise RunError(reason) from None

    def checkpoint(self) -> Any:
        """Return the job that submitit requeues: the same command, which resumes its unfinished run."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def run_chain(steps: Sequence[Step], folder: Path) -> None:
    """Run all unfinished steps in order and stop at the first failure.

    On SLURM all jobs are submitted at once, each with a dependency on the success of the previous one, so that the
    chain does not need this process. Elsewhere each step starts when the previous one has ended.

    Parameters
    ----------
    steps
        The stages.
    folder
        Folder of the jobs' output and of the record of the chain.

    Raises
    ------
    RunError
        A stage failed; later stages did not run.
    """
    kinds = {step.kind for step in steps}
    if len(kinds) > 1:
        raise ConfigError(
            "all stages of a chain must use the same hydra/launcher: slurm_gpu or slurm_cpu, local, or none"
        )
    (kind,) = kinds
    todo = [step for step in steps if not directory.is_done(step.run_dir, dict(step.config))]
    for step in steps:
        if step not in todo:
            log.info("%s: already finished in %s", step.stage, step.run_dir)
    made_here = any(step.stage == "preprocess" for step in todo)
    for step in todo:
        # the chain itself makes these data, so they may differ from those at submission
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
                f"{step.stage} failed: {error}{not_run}; repeat the command with name={folder.name} to resume"
            )
    log.info(
        "\n".join(["all stages have finished:", *(f"  {step.stage:12s}{step.run_dir}" for step in steps)])
    )


def _here(step: Step) -> str | None:
    """Run a stage in the terminal; return the reason of a failure."""
    done = subprocess.run([sys.executable, "-m", step.module, *step.arguments])
    return None if done.returncode == 0 else f"exit status {done.returncode}, see above"


def _submit(step: Step, folder: Path, after: str | None = None) -> Any:
    """Submit a stage; on SLURM with a dependency on the success of the job ``after``."""
    params = {
        k: v for k, v in step.launcher.items() if k not in ("_target_", "submitit_folder", "if_changed")
    }
    if after is not None:
        depend = {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
        params["additional_parameters"] = {**(params.get("additional_parameters") or {}), **depend}
    executor = make_executor(step.kind, str(folder / ".submitit" / "%j"), params)
    record = str((folder / f"{step.stage}.json").absolute())
    return executor.submit(StageJob(step.module, step.arguments, str(step.run_dir), record))
