"""A search over settings: a study in one file, shared by its jobs and by any number of workers.

The run directories are the truth: what became of a trial is read from its own, whoever started it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from gtex_vae.errors import ConfigError, RunError
from gtex_vae.runs import directory

if TYPE_CHECKING:
    import optuna

STUDY, JOURNAL = "search", "study.journal"
Sampler = Literal["tpe", "random", "grid"]
Direction = Literal["minimize", "maximize"]
OVERRIDES, SETTINGS = "overrides", "settings"  # user attributes of a trial and of the study


def open_study(
    storage: Path | str,
    *,
    direction: Direction | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Open the study in a journal file; with a direction, make it where there is none.

    Parameters
    ----------
    storage
        The file. Appending to it is locked, on network file systems too.
    direction
        ``minimize`` or ``maximize``.
    sampler, pruner
        Not stored in the file: each process brings those it needs.

    Raises
    ------
    ConfigError
        optuna is not installed, or the study goes in the other direction.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("hparams_search needs optuna: pip install 'gtex-vae[search]'") from error
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = optuna.storages.JournalStorage(JournalFileBackend(str(storage)))
    sampler = sampler or optuna.samplers.RandomSampler()
    if direction is None:
        return optuna.load_study(study_name=STUDY, storage=file, sampler=sampler, pruner=pruner)
    study = optuna.create_study(
        study_name=STUDY,
        storage=file,
        direction=direction,
        sampler=sampler,
        pruner=pruner,
        load_if_exists=True,
    )
    if study.direction.name.lower() != direction:
        raise ConfigError(f"{storage} holds a search that does not {direction}: give another hydra.sweep.dir")
    return study


def make_sampler(name: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    """What proposes the next trial; ``tpe`` learns from the trials before and from those at work."""
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)


def trial_in(study: optuna.Study, number: int) -> optuna.Trial:
    """The running trial of this number, to report to."""
    import optuna

    storage = study._storage
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def check_settings(study: optuna.Study, settings: Mapping[str, Any]) -> None:
    """Note what the search is about, and refuse to go on with one about something else.

    Raises
    ------
    ConfigError
        The study was begun with other settings or another space.
    """
    noted = study.user_attrs.get(SETTINGS)
    if noted is None:
        study.set_user_attr(SETTINGS, dict(settings))
    elif different := directory.differing_keys(noted, dict(settings)):
        raise ConfigError(
            f"a search with other settings lies there ({', '.join(different[:5])}): "
            "give the same command to go on with it, or another hydra.sweep.dir"
        )


def best_value(trial: optuna.trial.FrozenTrial, direction: str) -> float | None:
    """The best of the reported validations, as ``best.ckpt`` is the best of the run; ``None`` where there is none."""
    values = [value for value in trial.intermediate_values.values() if value == value]
    if not values:
        return None
    return min(values) if direction == "minimize" else max(values)


def finish_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial, run_dir: Path) -> str:
    """Tell the study what became of a trial that nobody works on, as its run directory says.

    Parameters
    ----------
    study
        Where the trial is running as yet.
    trial
        The trial.
    run_dir
        Its run.

    Returns
    -------
    str
        ``finished``, ``pruned``, ``failed``, or ``unfinished``: then it is left running in the study, to be gone on
        with.
    """
    from optuna.trial import TrialState

    state = directory.status(run_dir)
    if state == "finished":
        value = best_value(trial, study.direction.name.lower())
        if value is None:
            study.tell(trial.number, state=TrialState.FAIL)
            return "failed"
        study.tell(trial.number, value)
        return state
    if state in ("pruned", "failed"):
        study.tell(trial.number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
        return state
    return "unfinished"


def try_lock(path: Path, *, patience_s: float = 0.0) -> FileLock | None:
    """Take a lock that the kernel gives back when its process dies; ``None`` where another process keeps it."""
    lock = FileLock(path, is_singleton=True)  # a process may take its own lock again
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        return None
    return lock


def lock_trial(run_dir: Path) -> FileLock:
    """Be the one process that works on a trial's run.

    Raises
    ------
    RunError
        Another process does.
    """
    lock = try_lock(run_dir / ".trial.lock")
    if lock is None:
        raise RunError(f"another job is at work in {run_dir}")
    return lock


def is_running(run_dir: Path, *, patience_s: float = 0.0) -> bool:
    """Whether a job works on the run, though the worker that started it may be gone, and goes on doing so."""
    if not run_dir.is_dir():
        return False
    lock = try_lock(run_dir / ".trial.lock", patience_s=patience_s)
    if lock is None:
        return True
    lock.release()
    return False
