"""Decorator of the mains: Hydra, checked configs, one-line errors, SUCCESS or FAILED."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from gtex_vae import provenance, runtime
from gtex_vae.analysis.report.sweep_summary import summarize_sweep
from gtex_vae.config import check_fields, full_keys, register_resolvers, to_plain
from gtex_vae.errors import GtexVaeError, PrunedError
from gtex_vae.explain import explain
from gtex_vae.files import write_json
from gtex_vae.paths import conf_dir, expand_home
from gtex_vae.runs import continuation, directory, lock, submission
from gtex_vae.runs.sweep import separate_data

log = logging.getLogger(__name__)

Settings = TypeVar("Settings")
Body = Callable[[Settings, Path], float | None]


def stage(
    name: str, schema: type[Settings], *, resumable: bool = False
) -> Callable[[Body[Settings]], Callable[[], None]]:
    """Turn the body of a stage into its command-line main.

    Parameters
    ----------
    name
        Root config in ``conf/`` and name of the stage.
    schema
        Dataclass of the root config's keys; the body gets an instance of it.
    resumable
        If true, ``run=`` resumes an unfinished run. If the config sets ``pretrained: ${run}``, ``run=`` instead names
        the trained model to start from.

    Returns
    -------
    callable
        Decorator; the decorated main takes no arguments and exits with 1 after one line on any error.
    """

    def decorate(body: Body[Settings]) -> Callable[[], None]:
        def task(config: DictConfig) -> float | None:
            from hydra.core.hydra_config import HydraConfig
            from hydra.types import RunMode

            hydra_config = HydraConfig.get()
            run_dir = Path(hydra_config.runtime.output_dir)
            try:
                overrides = list(hydra_config.overrides.task)
                return run_stage(
                    body, schema, config, run_dir, overrides,
                    resume_with=f"python -m gtex_vae.{name}" if resumable else None,
                    again=hydra_config.mode is RunMode.MULTIRUN,
                )  # fmt: skip
            except Exception as error:
                if hydra_config.mode is not RunMode.RUN:
                    raise  # the launcher handles it
                exit_with(error, name)
            finally:
                if hydra_config.mode is RunMode.MULTIRUN and directory.is_first_process():
                    summarize_sweep(Path(hydra_config.sweep.dir))

        def main() -> None:
            import hydra

            register_resolvers()
            sys.argv[1:] = map(expand_home, sys.argv[1:])
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors, which are explained in one line below
            # spinning threads would slow down other processes on a shared machine; read when torch is imported later
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            try:
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)()
            except (Exception, KeyboardInterrupt) as error:
                exit_with(error, name)

        return main

    return decorate


def in_sweep() -> bool:
    """Return True in a job of a Hydra sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def stated_keys(callbacks: Mapping[str, Any]) -> set[str]:
    """Return the config keys set on the command line, or by the sweep that started this job.

    A trial of a search has none, because the search, not the user, set its values.
    """
    from hydra.core.hydra_config import HydraConfig

    in_search = (callbacks.get("search") or {}).get("trial") is not None
    if in_search or not HydraConfig.initialized():
        return set()
    return {override.partition("=")[0].lstrip("+") for override in HydraConfig.get().overrides.task}


class RefuseLocked(Callback):
    """Hydra callback that refuses a run directory in use before Hydra writes to it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the directory of a single run."""
        if directory.is_first_process():
            try:
                lock.refuse_locked(Path(config.hydra.run.dir))
            except GtexVaeError as error:
                exit_with(error, "")


def exit_with(error: BaseException, config_name: str) -> NoReturn:
    """Print one line with the error and exit with status 1."""
    print(f"error: {explain(error, config_name)}", file=sys.stderr)
    sys.exit(1)


def run_stage(
    body: Body[Settings],
    schema: type[Settings],
    config: DictConfig,
    run_dir: Path,
    overrides: list[str],
    *,
    resume_with: str | None = None,
    again: bool = False,
) -> float | None:
    """Check the config, claim the run directory, run the body, and write SUCCESS or FAILED.

    Errors are logged with their traceback, written to ``FAILED`` and raised again, so that the scheduler sees a failed
    job. A process that is interrupted leaves its run unfinished, and prints the command that resumes it. With ``again``, as
    in a repeated sweep, a finished run is skipped. ``resume_with`` is the command that takes ``run=`` to resume a run.
    """
    resumable = resume_with is not None
    plain = to_plain(config)
    if again:
        separate_data(plain, run_dir)
    per_call = continuation.PER_CALL if resumable else ("overwrite",)
    if again and not plain.get("overwrite") and directory.is_done(run_dir, plain, per_call):
        log.info("already finished: %s", run_dir)
        return directory.result(run_dir)
    check_fields(plain, schema)
    starts_from_it = plain.get("run") == plain.get("pretrained")
    continued = False
    if resumable and plain.get("run") is not None and not starts_from_it:
        plain, continued = continuation.resumed_config(plain, run_dir, overrides)
    if not directory.is_first_process():
        return _follow_first_process(body, schema, plain, run_dir)
    with lock.locked(run_dir):
        return _run_locked(
            body, schema, plain, run_dir, per_call, resume_with=resume_with, continued=continued
        )


def _run_locked(
    body: Body[Settings],
    schema: type[Settings],
    plain: dict[str, Any],
    run_dir: Path,
    per_call: tuple[str, ...],
    *,
    resume_with: str | None,
    continued: bool,
) -> float | None:
    """Claim a locked directory, run the body, and write the marker."""
    if continued:
        continuation.reopen(run_dir)
        directory.write_config(run_dir, plain)
    resumed = directory.claim(run_dir, plain, per_call=per_call)
    if resumed:
        log.info("resuming the unfinished run in %s", run_dir)
    write_json(run_dir / "provenance.json", provenance.describe(config=plain))
    try:
        if submission.VARIABLE in os.environ:
            submission.check(Path(os.environ[submission.VARIABLE]))
        with runtime.exit_on_sigterm():
            result = body(schema(**plain), run_dir)
    except PrunedError as pruned:
        log.info("%s", pruned)
        directory.mark(run_dir, str(pruned), marker=directory.PRUNED)
        return None
    except BaseException as error:
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            error = error.__context__  # Lightning exits silently on Ctrl-C
        if isinstance(error, KeyboardInterrupt) and resume_with is not None:
            error = KeyboardInterrupt(_resume_advice(run_dir, resume_with))
        if isinstance(
            error, SystemExit
        ):  # SIGTERM, or the scheduler's signal before the time limit: the run has not failed
            log.warning("stopped before its end: %s", _resume_advice(run_dir, resume_with))
            raise SystemExit(error.code or runtime.TERMINATED) from None
        if isinstance(error, GtexVaeError):
            error.args = (full_keys(str(error), plain),)
        directory.mark(run_dir, f"{explain(error, '')}\n\n{traceback.format_exc()}")
        _log_to_file(traceback.format_exc())
        if (run_dir / directory.REPLACED).exists():
            log.warning("the former results are in %s", run_dir / directory.REPLACED)
        raise error
    directory.mark(run_dir, result=result)
    return result


def _follow_first_process(
    body: Body[Settings], schema: type[Settings], plain: dict[str, Any], run_dir: Path
) -> float | None:
    """Run the body in a process of rank > 0, which writes neither log nor markers."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
        root.removeHandler(handler)
    try:
        return body(schema(**plain), run_dir)
    except PrunedError:
        return None


def _resume_advice(run_dir: Path, resume_with: str | None) -> str:
    """Tell how to resume an interrupted run."""
    if resume_with is None:
        return f"repeat the command to resume {run_dir}"
    return f"resume {run_dir} with `{resume_with} {shlex.quote(f'run={run_dir}')}`"


def _log_to_file(text: str) -> None:
    """Write a traceback to the log file only; the console gets one line."""
    record = logging.LogRecord("gtex_vae", logging.ERROR, "", 0, "%s", (text,), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
