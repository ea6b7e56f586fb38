"""An optuna study in one file, shared by the jobs and workers of a search.

The result of a trial is always read from its run directory.
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
    """Open the study in a journal file; create it if a direction is given.

    Parameters
    ----------
    storage
        The file. Writes are locked, on network file systems too.
    direction
        ``minimize`` or ``maximize``.
    sampler, pruner
        Not stored in the file; each process passes those it needs.

    Raises
    ------
    ConfigError
        optuna is not installed, or the study has the other direction.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("hparams_search requires optuna: pip install 'gtex-vae[search]'") from error
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
        raise ConfigError(
            f"{storage} contains a search that does not {direction}: set another hydra.sweep.dir"
        )
    return study


def make_sampler(name: Sampler, seed: int) -> optuna.samplers.BaseSampler:
    """Make a sampler; ``tpe`` uses finished and running trials."""
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)


def trial_in(study: optuna.Study, number: int) -> optuna.Trial:
    """Running trial with this number."""
    import optuna

    storage = study._storage
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def check_settings(study: optuna.Study, settings: Mapping[str, Any]) -> None:
    """Store the settings of a new study, or compare them with those of an existing one.

    Raises
    ------
    ConfigError
        The study was started with other settings or another space.
    """
    noted = study.user_attrs.get(SETTINGS)
    if noted is None:
        study.set_user_attr(SETTINGS, dict(settings))
    elif different := directory.differing_keys(noted, dict(settings)):
        raise ConfigError(
            f"hydra.sweep.dir contains a search with other settings ({', '.join(different[:5])}): "
            "repeat its command to resume it, or set another hydra.sweep.dir"
        )


def best_value(trial: optuna.trial.FrozenTrial, direction: str) -> float | None:
    """Best reported validation metric, like that of ``best.ckpt``; ``None`` without a report."""
    values = [value for value in trial.intermediate_values.values() if value == value]
    if not values:
        return None
    return min(values) if direction == "minimize" else max(values)


def finish_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial, run_dir: Path) -> str:
    """Enter the result of a trial into the study, as found in its run directory.

    Parameters
    ----------
    study
        Study in which the trial is still marked as running.
    trial
        The trial; no process works on it any more.
    run_dir
        Its run.

    Returns
    -------
    str
        ``finished``, ``pruned``, ``failed`` or ``unfinished``. An unfinished trial stays running in the study.
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
    """Acquire a lock that the kernel releases when its process dies; ``None`` if another process has it."""
    lock = FileLock(path, is_singleton=True)  # a process may acquire its own lock again
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        return None
    return lock


def lock_trial(run_dir: Path) -> FileLock:
    """Acquire the lock of a trial's run.

    Raises
    ------
    RunError
        Another process has it.
    """
    lock = try_lock(run_dir / ".trial.lock")
    if lock is None:
        raise RunError(f"another job is running in {run_dir}")
    return lock


def is_running(run_dir: Path, *, patience_s: float = 0.0) -> bool:
    """Return whether a job works on the run, for at least ``patience_s`` more seconds."""
    if not run_dir.is_dir():
        return False
    lock = try_lock(run_dir / ".trial.lock", patience_s=patience_s)
    if lock is None:
        return True
    lock.release()
    return False
