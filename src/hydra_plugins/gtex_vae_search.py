"""Hydra sweeper that launches the trials of an optuna study with any of Hydra's launchers.

hydra-optuna-sweeper 1.3.0 is not used because it requires optuna < 3.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from gtex_vae.errors import ConfigError, RunError
from gtex_vae.files import write_text
from gtex_vae.runs import directory
from gtex_vae.runs.study import (
    OVERRIDES,
    Direction,
    Sampler,
    check_settings,
    finish_trial,
    is_running,
    make_sampler,
    open_study,
    try_lock,
)
from hydra_plugins.gtex_vae_launcher import error_of
from hydra_plugins.gtex_vae_search_space import distribution, fit_to_data, grid_points, quoted

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)

BEST = "best.yaml"
ENDING_S = 60.0  # wait for the process of a job that has already returned its result


class OptunaSweeper(Sweeper):
    """Launch trials of a study until it has ``n_trials``.

    The same command resumes a search: abandoned trials continue from their last checkpoint, then new trials are asked
    for. Two such commands at the same time share the study and the number of trials.

    Parameters
    ----------
    storage
        Journal file of the study.
    sampler
        ``tpe``, ``random``, or ``grid``: every combination, once.
    direction
        ``minimize`` or ``maximize``: the direction of the callback's ``monitor``.
    n_trials
        Trials of all workers together; ``None`` with ``grid``: all combinations.
    n_jobs
        Jobs that this worker launches at once.
    seed
        Seed of the sampler. Trial k depends on it, on k and on the results so far.
    search_key
        Key of the `SearchTrial` callback in the job's config.
    params
        Key to space in Hydra's sweep grammar: ``choice(a,b)``, ``range(1,5)``, ``interval(0,1)``,
        ``tag(log, interval(1e-4,1e-2))``, ``int(interval(1,9))``. On the command line, a sweep adds a key and a
        single value fixes one.
    """

    def __init__(
        self,
        storage: str,
        *,
        sampler: Sampler = "tpe",
        direction: Direction = "minimize",
        n_trials: int | None = 30,
        n_jobs: int = 1,
        seed: int = 0,
        search_key: str = "callbacks.search",
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.storage = Path(storage).absolute()
        self.sampler, self.direction = sampler, direction
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.search_key, self.params = search_key, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context and make its launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder = Path(config.hydra.sweep.dir).absolute()

    def sweep(self, arguments: list[str]) -> None:
        """Launch trials in batches until the study has enough.

        Raises
        ------
        ConfigError
            The space or another value is invalid, or the folder contains another search.
        RunError
            A trial failed or was killed; the other trials were run.
        """
        self._check()
        fixed, space = self._space(arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        study = open_study(self.storage, direction=self.direction)
        settings = {"fixed": sorted(fixed), "space": {key: str(d) for key, d in space.items()}}
        with FileLock(self.folder / ".search.lock"):
            check_settings(study, settings)
        space = self._space_that_fits(study, space)
        grid = grid_points(space) if self.sampler == "grid" else None
        problems: dict[int, str] = {}
        while batch := self._next_batch(fixed, space, grid, problems):
            problems |= self._run_batch(study, batch)
        self._report(study)
        if problems:
            number, reason = next(iter(problems.items()))
            raise RunError(
                f"{len(problems)} trial(s) did not finish, first {self.folder / str(number)}: {reason}"
            )

    def _check(self) -> None:
        """Raise on invalid values before anything is written."""
        for key, known in (("sampler", ("tpe", "random", "grid")), ("direction", ("minimize", "maximize"))):
            if getattr(self, key) not in known:
                raise ConfigError(
                    f"hydra.sweeper.{key}={getattr(self, key)} must be one of {', '.join(known)}"
                )
        if self.n_jobs < 1:
            raise ConfigError(f"hydra.sweeper.n_jobs={self.n_jobs} must be at least 1")
        if self.n_trials is None and self.sampler != "grid":
            raise ConfigError("hydra.sweeper.n_trials=null requires hydra.sweeper.sampler=grid")

    def _space(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
        """Split overrides into those that are fixed and the space of the others."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()]
        fixed: dict[str, str] = {}
        space: dict[str, BaseDistribution] = {}
        for override in parser.parse_overrides([*given, *arguments]):
            key = override.get_key_element()
            fixed.pop(key, None)
            space.pop(key, None)
            if override.is_sweep_override():
                space[key] = distribution(override)
            else:
                assert override.input_line is not None
                fixed[key] = override.input_line
        if not space:
            raise ConfigError(
                "nothing to search: add a space, for example 'model.latent_dim=choice(16,32,64)'"
            )
        return list(fixed.values()), space

    def _space_that_fits(
        self, study: optuna.Study, space: dict[str, BaseDistribution]
    ) -> dict[str, BaseDistribution]:
        """Limit the space to sizes that the training samples allow; a resumed search keeps the space of its trials."""
        if before := study.get_trials(deepcopy=False):
            return {key: before[0].distributions.get(key, part) for key, part in space.items()}
        return fit_to_data(space, self.config)

    def _next_batch(
        self,
        fixed: list[str],
        space: dict[str, BaseDistribution],
        grid: list[dict[str, Any]] | None,
        problems: Mapping[int, str],
    ) -> list[tuple[int, list[str], FileLock]]:
        """Number, overrides and lock of the next trials: first abandoned ones, then new ones."""
        with FileLock(self.folder / ".search.lock"):
            study = open_study(self.storage, direction=self.direction)
            batch = self._abandoned_trials(study, problems)
            total = min(n for n in (self.n_trials, None if grid is None else len(grid)) if n is not None)
            while len(batch) < self.n_jobs and (number := len(study.get_trials(deepcopy=False))) < total:
                # the seed contains the number, so that a resumed search does not repeat earlier proposals
                study.sampler = make_sampler(self.sampler, self.seed * 100_003 + number)
                if grid is not None:
                    study.enqueue_trial(grid[number])
                try:
                    trial = study.ask(space)
                except ValueError as error:
                    raise ConfigError(
                        f"{self.storage} contains a search in another space, set another hydra.sweep.dir: {error}"
                    ) from error
                values = (f"{key}={value}" for key, value in trial.params.items())
                overrides = [
                    *fixed, *values, f"{self.search_key}.storage={quoted(self.storage)}",
                    f"{self.search_key}.trial={trial.number}", f"hydra.sweep.subdir={trial.number}",
                ]  # fmt: skip
                trial.set_user_attr(OVERRIDES, overrides)
                lock = try_lock(self._lock_of(trial.number))
                assert lock is not None
                batch.append((trial.number, overrides, lock))
        # launchers number their jobs consecutively
        return sorted(batch, key=lambda job: job[0])

    def _abandoned_trials(
        self, study: optuna.Study, problems: Mapping[int, str]
    ) -> list[tuple[int, list[str], FileLock]]:
        """Find trials whose worker is gone; finish those whose run has ended and return the others."""
        from optuna.trial import TrialState

        batch: list[tuple[int, list[str], FileLock]] = []
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            run_dir = self.folder / str(trial.number)
            if trial.number in problems or len(batch) == self.n_jobs:
                continue
            lock = try_lock(self._lock_of(trial.number))
            if lock is None or is_running(run_dir):
                continue
            # a run that failed together with its worker was interrupted: resume it
            if directory.status(run_dir) in ("finished", "pruned"):
                finish_trial(study, trial, run_dir)
            elif OVERRIDES in trial.user_attrs:
                log.info("resuming trial %d", trial.number)
                batch.append((trial.number, trial.user_attrs[OVERRIDES], lock))
                continue
            lock.release()
        return batch

    def _lock_of(self, number: int) -> Path:
        return self.folder / f".trial_{number}.lock"

    def _run_batch(self, study: optuna.Study, batch: list[tuple[int, list[str], FileLock]]) -> dict[int, str]:
        """Run jobs and enter their results into the study; return problems by trial number."""
        assert self.launcher is not None
        problems: dict[int, str] = {}
        returned: list[JobReturn] = []
        try:
            jobs = [overrides for _, overrides, _ in batch]
            returned = list(self.launcher.launch(jobs, initial_job_idx=batch[0][0]))
        finally:  # some jobs may have ended even if the launcher stopped waiting
            for (number, _, lock), result in itertools.zip_longest(batch, returned):
                state, reason = self._finish(study, number, result)
                if reason:
                    problems[number] = reason
                lock.release()
                log.info("trial %d: %s", number, reason or state)
        return problems

    def _finish(self, study: optuna.Study, number: int, result: JobReturn | None) -> tuple[str, str]:
        """Enter the result of a trial into the study; return its state and the problem, if any."""
        from optuna.trial import TrialState

        run_dir = self.folder / str(number)
        # a job returns its result before its process has ended
        if is_running(run_dir, patience_s=0.0 if result is None else ENDING_S):
            return "unfinished", "still running; repeat the command to collect its result"
        state = finish_trial(study, study.get_trials(deepcopy=False)[number], run_dir)
        message = "" if result is None or result.status is not JobStatus.FAILED else error_of(result)
        if state == "failed":
            failed = run_dir / directory.FAILED
            text = (
                failed.read_text(encoding="utf-8") if failed.exists() else "no validation after the warm-up"
            )
            return state, text.splitlines()[0]
        if state == "unfinished" and message and directory.status(run_dir) == "new":  # its config was refused
            study.tell(number, state=TrialState.FAIL)
            return "failed", message.splitlines()[0]
        if state == "unfinished":
            return (
                state,
                f"{message.splitlines()[0] if message else 'killed'}; repeat the command to resume it",
            )
        return state, ""

    def _report(self, study: optuna.Study) -> None:
        """Write ``best.yaml`` and log the best trial."""
        from optuna.trial import TrialState

        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        count = len(study.get_trials(deepcopy=False))
        if not done:
            log.info("%d trials, 0 finished", count)
            return
        best = study.best_trial
        run_dir = self.folder / str(best.number)
        found = {"trial": best.number, "value": best.value, "run": str(run_dir), "params": best.params}
        write_text(self.folder / BEST, yaml.safe_dump(found, sort_keys=False))
        pruned = len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
        log.info(
            "%d trials, %d of them pruned; best: trial %d with %.5g on validation donors\n  %s\n  run: %s",
            count, pruned, best.number, best.value,
            " ".join(f"{key}={value}" for key, value in best.params.items()), run_dir,
        )  # fmt: skip
