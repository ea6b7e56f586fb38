"""A sweeper that asks an optuna study which jobs to launch, through any of Hydra's launchers.

Not hydra-optuna-sweeper: 1.3.0 holds optuna below 3.
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
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
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

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

log = logging.getLogger(__name__)

BEST = "best.yaml"
ENDING_S = 60.0  # patience with a process that has handed its result over


class OptunaSweeper(Sweeper):
    """Launch the trials of a study until there are enough of them.

    The same command given again goes on: trials that nobody works on any more are taken up where their last
    checkpoint is, and the rest is asked for anew. Given twice at once, the two share the study and the number of
    trials.

    Parameters
    ----------
    storage
        Journal file of the study.
    sampler
        ``tpe``, ``random``, or ``grid``: every combination, once.
    direction
        ``minimize`` or ``maximize``, what ``monitor`` of the trial's callback wants.
    n_trials
        Trials of all workers together; ``None`` with ``grid``: all combinations.
    n_jobs
        Jobs that this worker launches at once.
    seed
        Of the sampler; trial k depends on it, on k and on what is known by then.
    search_key
        Key of the `SearchTrial` callback in the job's config.
    params
        Key to space in Hydra's sweep grammar: ``choice(a,b)``, ``range(1,5)``, ``interval(0,1)``,
        ``tag(log, interval(1e-4,1e-2))``, ``int(interval(1,9))``. Sweeps on the command line are added, and a plain
        value there fixes a key.
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
        """Take what Hydra hands over, and its launcher."""
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
            The space or another value is impossible, or the folder holds another search.
        RunError
            A trial failed or was killed; the others were carried out.
        """
        self._check()
        fixed, space = self._space(arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        study = open_study(self.storage, direction=self.direction)
        grid = self._grid(space) if self.sampler == "grid" else None
        settings = {"fixed": sorted(fixed), "space": {key: str(d) for key, d in space.items()}}
        with FileLock(self.folder / ".search.lock"):
            check_settings(study, settings)
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
        """Refuse impossible values before anything is written."""
        for key, known in (("sampler", ("tpe", "random", "grid")), ("direction", ("minimize", "maximize"))):
            if getattr(self, key) not in known:
                raise ConfigError(f"hydra.sweeper.{key}={getattr(self, key)} is none of {', '.join(known)}")
        if self.n_jobs < 1:
            raise ConfigError(f"hydra.sweeper.n_jobs={self.n_jobs} must be at least 1")
        if self.n_trials is None and self.sampler != "grid":
            raise ConfigError("hydra.sweeper.n_trials=null is for hydra.sweeper.sampler=grid")

    def _space(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
        """Overrides that are the same for every trial, and the space of the others."""
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
            raise ConfigError("nothing to search: give a space, as in model.latent_dim=choice(16,32,64)")
        return list(fixed.values()), space

    def _grid(self, space: Mapping[str, BaseDistribution]) -> list[dict[str, Any]]:
        """Every combination, in order."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        values: dict[str, Sequence[Any]] = {}
        for key, part in space.items():
            if isinstance(part, CategoricalDistribution):
                values[key] = part.choices
            elif isinstance(part, IntDistribution):
                values[key] = range(part.low, part.high + 1, part.step)
            else:
                raise ConfigError(f"{key}: a grid needs choice(...) or range(...), not an interval")
        return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]

    def _next_batch(
        self,
        fixed: list[str],
        space: dict[str, BaseDistribution],
        grid: list[dict[str, Any]] | None,
        problems: Mapping[int, str],
    ) -> list[tuple[int, list[str], FileLock]]:
        """Number, overrides and lock of the trials to carry out next: first those left behind, then new ones."""
        with FileLock(self.folder / ".search.lock"):
            study = open_study(self.storage, direction=self.direction)
            batch = self._abandoned_trials(study, problems)
            total = min(n for n in (self.n_trials, None if grid is None else len(grid)) if n is not None)
            while len(batch) < self.n_jobs and (number := len(study.get_trials(deepcopy=False))) < total:
                # the number in the seed: a search that goes on must not draw what it drew before
                study.sampler = make_sampler(self.sampler, self.seed * 100_003 + number)
                if grid is not None:
                    study.enqueue_trial(grid[number])
                try:
                    trial = study.ask(space)
                except ValueError as error:
                    raise ConfigError(f"{self.storage} holds a search in another space: {error}") from error
                values = (f"{key}={value}" for key, value in trial.params.items())
                overrides = [
                    *fixed, *values, f"{self.search_key}.storage={quoted(self.storage)}",
                    f"{self.search_key}.trial={trial.number}", f"hydra.sweep.subdir={trial.number}",
                ]  # fmt: skip
                trial.set_user_attr(OVERRIDES, overrides)
                lock = try_lock(self._lock_of(trial.number))
                assert lock is not None
                batch.append((trial.number, overrides, lock))
        # launchers number their jobs in a row
        return sorted(batch, key=lambda job: job[0])

    def _abandoned_trials(
        self, study: optuna.Study, problems: Mapping[int, str]
    ) -> list[tuple[int, list[str], FileLock]]:
        """Trials whose worker is gone: settled where their run has ended, else to be gone on with."""
        from optuna.trial import TrialState

        batch: list[tuple[int, list[str], FileLock]] = []
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            run_dir = self.folder / str(trial.number)
            if trial.number in problems or len(batch) == self.n_jobs:
                continue
            lock = try_lock(self._lock_of(trial.number))
            if lock is None or is_running(run_dir):
                continue
            # a failed run whose worker did not live to say so was interrupted with it
            if directory.status(run_dir) in ("finished", "pruned"):
                finish_trial(study, trial, run_dir)
            elif OVERRIDES in trial.user_attrs:
                log.info("going on with trial %d", trial.number)
                batch.append((trial.number, trial.user_attrs[OVERRIDES], lock))
                continue
            lock.release()
        return batch

    def _lock_of(self, number: int) -> Path:
        return self.folder / f".trial_{number}.lock"

    def _run_batch(self, study: optuna.Study, batch: list[tuple[int, list[str], FileLock]]) -> dict[int, str]:
        """Launch jobs, wait for them, and tell the study; what went wrong, by number of the trial."""
        assert self.launcher is not None
        problems: dict[int, str] = {}
        returned: list[JobReturn] = []
        try:
            jobs = [overrides for _, overrides, _ in batch]
            returned = list(self.launcher.launch(jobs, initial_job_idx=batch[0][0]))
        finally:  # where the launcher stopped waiting, some jobs may have ended all the same
            for (number, _, lock), result in itertools.zip_longest(batch, returned):
                state, reason = self._finish(study, number, result)
                if reason:
                    problems[number] = reason
                lock.release()
                log.info("trial %d: %s", number, reason or state)
        return problems

    def _finish(self, study: optuna.Study, number: int, result: JobReturn | None) -> tuple[str, str]:
        """Tell the study what became of a trial; its state, and what went wrong if something did."""
        from optuna.trial import TrialState

        run_dir = self.folder / str(number)
        # a job hands its result over before its process has ended
        if is_running(run_dir, patience_s=0.0 if result is None else ENDING_S):
            return "unfinished", "still at work; the same command takes in what it finds"
        state = finish_trial(study, study.get_trials(deepcopy=False)[number], run_dir)
        said = "" if result is None or result.status is not JobStatus.FAILED else str(result._return_value)
        if state == "failed":
            failed = run_dir / directory.FAILED
            text = (
                failed.read_text(encoding="utf-8") if failed.exists() else "no validation after the warm-up"
            )
            return state, text.splitlines()[0]
        if (
            state == "unfinished" and said and directory.status(run_dir) == "new"
        ):  # refused before it had its directory
            study.tell(number, state=TrialState.FAIL)
            return "failed", said.splitlines()[0]
        if state == "unfinished":
            return state, f"{said.splitlines()[0] if said else 'killed'}; the same command goes on with it"
        return state, ""

    def _report(self, study: optuna.Study) -> None:
        """Leave ``best.yaml`` and say it."""
        from optuna.trial import TrialState

        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        count = len(study.get_trials(deepcopy=False))
        if not done:
            log.info("%d trials, none finished", count)
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


def distribution(override: Override) -> BaseDistribution:
    """Optuna's name for what Hydra's grammar says."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        log_scale = "log" in value.tags
        try:
            if isinstance(value.start, int) and isinstance(value.end, int):
                return IntDistribution(value.start, value.end, log=log_scale)
            return FloatDistribution(value.start, value.end, log=log_scale)
        except ValueError as error:
            raise ConfigError(f"{override.input_line}: {error}") from error
    if isinstance(value, RangeSweep):
        numbers = list(value.range())
        if numbers and all(isinstance(number, int) for number in numbers):
            return IntDistribution(numbers[0], numbers[-1], step=int(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def quoted(path: Path) -> str:
    """A path as the value of an override, whatever signs it has."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
