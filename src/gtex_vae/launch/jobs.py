"""Jobs through submitit, on SLURM or as local processes: submit them and wait for them."""

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

# parameters that all executors have; the others belong to SLURM
COMMON = {
    "name", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "stderr_to_stdout",
}  # fmt: skip
POLL_S = 30.0  # between calls of squeue, to limit the load on the scheduler
ENDED_BY_THE_MACHINE = {"NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}


@dataclass(frozen=True)
class JobResult:
    """Result of a job, or the reason why there is none."""

    result: Any = None
    error: str | None = None


def make_executor(kind: str, folder: str, params: Mapping[str, Any]) -> Any:
    """Make a submitit executor from the keys of ``hydra.launcher``.

    Parameters
    ----------
    kind
        ``slurm`` or ``local``.
    folder
        Folder of submitit's files and of the jobs' output; ``%j`` is replaced by the job's id.
    params
        Resources and settings of the cluster; see ``conf/hydra/launcher/cluster/default.yaml``.

    Returns
    -------
    submitit.AutoExecutor
        Its jobs are requeued after a time limit, a preemption, a lost node or a killed process.
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
    """Bash lines that requeue a job whose process was killed by a signal, at most ``retries`` times.

    SLURM requeues a job when its node fails, and submitit when the time limit is near. Neither does when the process is
    killed on the node, for example by the kernel when memory is short. A cancelled job is no longer ``RUNNING``.
    """
    count = _count(Path(folder.partition("%")[0]).absolute(), "")
    return [
        "killed() {",
        "  rc=$?; [ $rc -gt 128 ] && [ $rc -lt 192 ] || return $rc",
        # the plain id of an array's last task refers to the whole array
        '  job=$SLURM_JOB_ID; [ -z "$SLURM_ARRAY_JOB_ID" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID',
        '  scontrol show job -o "$job" | grep -q JobState=RUNNING || return $rc',
        f'  count={shlex.quote(str(count))}$job; echo $rc >>"$count"; [ "$(wc -l <"$count")" -le {retries} ] || return $rc',
        '  echo "killed by signal $((rc - 128)): requeued" >&2; scontrol requeue "$job"',
        "}",
        "trap killed EXIT",
    ]


def _count(folder: Path, job_id: str) -> Path:
    """File with one line for each time the job was killed."""
    return folder / f"killed_{job_id}"


def log_submitted(jobs: Sequence[Any], folder: Path) -> None:
    """Log the ids of submitted jobs and the commands that list and cancel them."""
    ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
    stop = f"; list them with squeue --me, cancel them with scancel {ids}" if is_slurm(jobs[0]) else ""
    log.info("submitted %d job(s), %s: %s%s", len(jobs), ids, folder, stop)


def is_slurm(job: Any) -> bool:
    """Return whether a job belongs to SLURM and is not a local process."""
    return type(job).__name__ == "SlurmJob"


def follow(jobs: Sequence[Any], names: Sequence[str], *, retries: int = 0) -> list[JobResult]:
    """Wait for all jobs and log the result of each. One failed job does not stop the others.

    Ctrl-C stops the waiting, not the SLURM jobs.

    A job without a result that is no longer in the queue was cancelled, or killed together with its batch script. Only
    this process can requeue it then. SLURM accounting is not required.

    Parameters
    ----------
    jobs
        Jobs of submitit, all of one kind.
    names
        Their names in the log.
    retries
        How often a killed SLURM job is requeued, including the times counted by `retry_lines`.

    Returns
    -------
    list of JobResult
        In the order of the jobs.

    Raises
    ------
    RunError
        Ctrl-C was pressed; the jobs continue.
    """
    try:
        return _follow(jobs, names, retries)
    except KeyboardInterrupt:
        if not is_slurm(jobs[0]):
            raise
        raise RunError("stopped waiting; the jobs continue, list them with squeue --me") from None


def _follow(jobs: Sequence[Any], names: Sequence[str], retries: int) -> list[JobResult]:
    """Check for results and, less often, the queue."""
    ended: dict[int, JobResult] = {}
    missing: set[int] = set()  # not in the queue at the last check
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
            # checked twice, since a result may appear late on a shared file system
            for number in sorted(gone & missing):
                if has_result(jobs[number]):
                    continue
                state = final_state(jobs[number])
                if requeue(jobs[number], state, retries):
                    log.warning("%s: %s; requeued", names[number], state.reason)
                    continue
                ended[number] = JobResult(error=state.reason)
                log.error("[%d/%d] %s: %s", len(ended), len(jobs), names[number], state.reason)
            missing = gone
        if waiting:
            time.sleep(0.5)
    return [ended[number] for number in range(len(jobs))]


def has_result(job: Any) -> bool:
    """Return whether every task of a job has written its result."""
    return all(job.task(task).paths.result_pickle.exists() for task in range(job.num_tasks))


def _result_of(job: Any, name: str) -> JobResult:
    """Fetch a result and log one line."""
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
    """Return for each job whether it is pending or running; True for all if the scheduler does not answer."""
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
    """State in which a job without a result ended.

    Attributes
    ----------
    reason
        One line for the user.
    killed
        It was ended by a signal or by the machine, not by its user or by an error.
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
        return JobState("did not run, because an earlier job failed")
    state, by_signal = said["JobState"], int(said.get("ExitCode", "0:0").partition(":")[2])
    how = f" by signal {by_signal}" if state == "FAILED" and by_signal else ""
    # scancel sends a signal too, but leaves the state CANCELLED
    killed = state in ENDED_BY_THE_MACHINE or bool(how)
    return JobState(f"ended as {state}{how}, without a result", killed)


def requeue(job: Any, state: JobState, retries: int) -> bool:
    """Requeue a killed job under its own id, at most ``retries`` times; return whether it was requeued."""
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
