"""Jobs of SLURM, or processes of this machine, through submitit: made, and followed to their end."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtex_vae.errors import RunError

log = logging.getLogger(__name__)

# parameters that mean the same to every executor; the others are SLURM's own
COMMON = {
    "name", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "stderr_to_stdout",
}  # fmt: skip
POLL_S = 30.0  # between questions to the scheduler, which is everybody's
ENDED_BY_THE_MACHINE = {"NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}


@dataclass(frozen=True)
class JobResult:
    """What became of a job: its result, or why there is none."""

    result: Any = None
    error: str | None = None


def make_executor(kind: str, folder: str, params: Mapping[str, Any]) -> Any:
    """A submitit executor from the keys of ``hydra.launcher``.

    Parameters
    ----------
    kind
        ``slurm`` or ``local``.
    folder
        Where submitit keeps what it submits, and what the jobs print; ``%j`` stands for the job's id.
    params
        Resources and whereabouts; see ``conf/hydra/launcher/cluster/default.yaml``.

    Returns
    -------
    submitit.AutoExecutor
        Its jobs go on by themselves after a time limit, a preemption, a lost node or a killed process.
    """
    import submitit

    params = dict(params)
    retries = int(params.pop("max_num_timeout", 0))
    init = {f"{kind}_max_num_timeout": retries}
    python = params.pop("python", None)
    if kind == "slurm":
        init["slurm_python"] = python
        params["setup"] = [*(params.get("setup") or []), *retry_lines(folder, retries)]
        params["additional_parameters"] = {"requeue": True, **(params.get("additional_parameters") or {})}
    executor = submitit.AutoExecutor(folder=folder, cluster=kind, **init)
    executor.update_parameters(
        **{
            key if key in COMMON else f"{kind}_{key}": value
            for key, value in params.items()
            if value is not None
        }
    )
    return executor


def retry_lines(folder: str, retries: int) -> list[str]:
    """Lines of bash that requeue a job whose process was killed by a signal, at most so many times.

    SLURM requeues a job when its node fails, submitit when it is warned of its end; neither does when the process is
    killed on the node, as by the kernel when memory is short. A job that the user cancelled is no longer ``RUNNING``.
    """
    count = _count(Path(folder.partition("%")[0]).absolute(), "")
    return [
        "killed() {",
        "  rc=$?; [ $rc -gt 128 ] && [ $rc -lt 192 ] || return $rc",
        # the id of an array's last task alone means the whole array
        '  job=$SLURM_JOB_ID; [ -z "$SLURM_ARRAY_JOB_ID" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID',
        '  scontrol show job -o "$job" | grep -q JobState=RUNNING || return $rc',
        f'  count={shlex.quote(str(count))}$job; echo $rc >>"$count"; [ "$(wc -l <"$count")" -le {retries} ] || return $rc',
        '  echo "killed by signal $((rc - 128)): queued again" >&2; scontrol requeue "$job"',
        "}",
        "trap killed EXIT",
    ]


def _count(folder: Path, job_id: str) -> Path:
    """A file with a line for each time that the job was killed."""
    return folder / f"killed_{job_id}"


def log_submitted(jobs: Sequence[Any], folder: Path) -> None:
    """Say what was submitted, how to look at it and how to stop it."""
    ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
    stop = f"; see them with squeue --me, stop them with scancel {ids}" if is_slurm(jobs[0]) else ""
    log.info("submitted %d job(s), %s: %s%s", len(jobs), ids, folder, stop)


def is_slurm(job: Any) -> bool:
    """Whether a job is SLURM's, and not a process of this machine."""
    return type(job).__name__ == "SlurmJob"


def follow(jobs: Sequence[Any], names: Sequence[str], *, retries: int = 0) -> list[JobResult]:
    """Wait for every job, saying what became of each; one that fails keeps nobody from the others.

    Ctrl-C stops the waiting, not the jobs of SLURM.

    A job that left no result and is no longer in the queue was cancelled, or killed with its batch script: then nobody
    but this process is left to queue it again. It needs no accounting.

    Parameters
    ----------
    jobs
        submitit's jobs, all of one kind.
    names
        What to call each.
    retries
        How often a killed job of SLURM goes on; what `retry_lines` did counts, too.

    Returns
    -------
    list of JobResult
        In the order of the jobs.

    Raises
    ------
    RunError
        Ctrl-C was pressed and the jobs go on.
    """
    try:
        return _follow(jobs, names, retries)
    except KeyboardInterrupt:
        if not is_slurm(jobs[0]):
            raise
        raise RunError("no longer waiting; the jobs go on, see them with squeue --me") from None


def _follow(jobs: Sequence[Any], names: Sequence[str], retries: int) -> list[JobResult]:
    """Look for results and, less often, into the queue."""
    ended: dict[int, JobResult] = {}
    missing: set[int] = set()  # not in the queue when last asked
    start = asked = time.monotonic()
    while len(ended) < len(jobs):
        for number, job in enumerate(jobs):
            if number not in ended and has_result(job):
                ended[number] = _result_of(job, f"[{len(ended) + 1}/{len(jobs)}] {names[number]}")
        now = time.monotonic()
        waiting = [number for number in range(len(jobs)) if number not in ended]
        if waiting and now - asked >= min(POLL_S, max(2.0, (now - start) / 10)):
            asked = now
            gone = {
                n for n, alive in zip(waiting, in_queue([jobs[n] for n in waiting]), strict=True) if not alive
            }
            # twice: its result may take a while to show on a shared disk
            for number in sorted(gone & missing):
                if has_result(jobs[number]):
                    continue
                state = final_state(jobs[number])
                if requeue(jobs[number], state, retries):
                    log.warning("%s: %s; queued again", names[number], state.reason)
                    continue
                ended[number] = JobResult(error=state.reason)
                log.error("[%d/%d] %s: %s", len(ended), len(jobs), names[number], state.reason)
            missing = gone
        if waiting:
            time.sleep(0.5)
    return [ended[number] for number in range(len(jobs))]


def has_result(job: Any) -> bool:
    """Whether every task of a job has left its result."""
    return all(job.task(task).paths.result_pickle.exists() for task in range(job.num_tasks))


def _result_of(job: Any, name: str) -> JobResult:
    """Fetch a result and say one line about it."""
    error = job.exception()
    if error is None:
        log.info("%s: finished", name)
        return JobResult(result=job.results()[0])
    reason = _last_error(str(error))
    log.error("%s: failed: %s", name, reason)
    return JobResult(error=reason)


def _last_error(trace: str) -> str:
    """The message at the end of a traceback."""
    found = re.findall(r"^[\w.]+: (.+)$", trace, re.MULTILINE)
    return found[-1] if found else trace.strip().splitlines()[0]


def in_queue(jobs: Sequence[Any]) -> list[bool]:
    """Whether each job still waits or runs; all of them where the scheduler does not answer."""
    if not is_slurm(jobs[0]):
        return [not job.done() for job in jobs]
    ids = {job.job_id.partition("_")[0] for job in jobs}
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(sorted(ids))}"],
        capture_output=True, text=True,
    )  # fmt: skip
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:
        return [True] * len(jobs)
    listed = set(asked.stdout.split())
    return [job.job_id in listed for job in jobs]


@dataclass(frozen=True)
class JobState:
    """What the scheduler calls the end of a job that left no result.

    Attributes
    ----------
    reason
        To be read by the user.
    killed
        It was ended by a signal or by the machine: not by its user, nor by itself.
    """

    reason: str
    killed: bool = False


def final_state(job: Any) -> JobState:
    """Ask the scheduler how a job ended."""
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", "-o", job.job_id], capture_output=True, text=True
        ).stdout
    except OSError:
        shown = ""
    said = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", shown))
    if "JobState" not in said:
        return JobState("ended without a result")
    if said.get("Reason", "").startswith("Dependency"):
        return JobState("did not run, because a job before it failed")
    state, by_signal = said["JobState"], int(said.get("ExitCode", "0:0").partition(":")[2])
    how = f" by signal {by_signal}" if state == "FAILED" and by_signal else ""
    # scancel sends a signal, too
    killed = state in ENDED_BY_THE_MACHINE or bool(how)
    return JobState(f"ended as {state}{how}, without a result", killed)


def requeue(job: Any, state: JobState, retries: int) -> bool:
    """Queue a killed job again under its own id, at most so many times; whether that was done."""
    if not state.killed or not is_slurm(job):
        return False
    count = _count(job.paths.folder.parent, job.job_id)
    with count.open("a+", encoding="utf-8") as file:
        print(state.reason, file=file)
        file.seek(0)
        if len(file.readlines()) > retries:
            return False
    asked = subprocess.run(["scontrol", "requeue", job.job_id], capture_output=True, text=True)
    return asked.returncode == 0
