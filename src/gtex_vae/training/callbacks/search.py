"""Callback of a hyperparameter search's trial: reports validations to the study, and prunes."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer

from gtex_vae.errors import ConfigError, PrunedError
from gtex_vae.runs.study import lock_trial, open_study, trial_in
from gtex_vae.training.callbacks.kl_annealing import in_warmup
from gtex_vae.training.callbacks.monitored import refuse_unknown


class SearchTrial(Callback):
    """Report a validation metric to the study of a search, and prune by the median of earlier trials.

    Nothing is reported during the KL warm-up.

    Parameters
    ----------
    monitor
        A validation metric that does not depend on beta; the search optimizes it.
    startup_trials
        Number of finished trials before any is pruned.
    startup_epochs
        Epochs of each trial in which it is not pruned.
    storage, trial
        File of the study and number of this trial, set by the search. ``None``: nothing is reported.

    References
    ----------
    Golovin et al. (2017), Google Vizier, section 3.2.2, for the median rule.

    Examples
    --------
    .. code-block:: yaml

        callbacks:
          search:
            _target_: gtex_vae.training.callbacks.search.SearchTrial
            monitor: val/loss
            startup_trials: 5
            startup_epochs: 5
            storage: null
            trial: null
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        *,
        startup_trials: int = 5,
        startup_epochs: int = 5,
        storage: str | None = None,
        trial: int | None = None,
    ) -> None:
        for key, value in (("startup_trials", startup_trials), ("startup_epochs", startup_epochs)):
            if value < 0:
                raise ConfigError(f"callbacks.search.{key}={value} must not be negative")
        self.monitor = monitor
        self.startup_trials, self.startup_epochs = startup_trials, startup_epochs
        self.storage, self.trial = storage, trial
        self._lock: FileLock | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lock the run for other processes, until the trainer is deleted."""
        if self.trial is not None and trainer.is_global_zero:
            self._lock = lock_trial(Path(trainer.default_root_dir))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the metric, and stop if half of the earlier trials were better at this epoch.

        Raises
        ------
        PrunedError
            The trial is pruned.
        """
        if self.trial is None or trainer.sanity_checking or in_warmup(trainer):
            return
        refuse_unknown(trainer, "search", self.monitor)
        hopeless = trainer.is_global_zero and self._report(
            float(trainer.callback_metrics[self.monitor]), trainer.current_epoch
        )
        if trainer.strategy.broadcast(hopeless):
            value = float(trainer.callback_metrics[self.monitor])
            raise PrunedError(
                f"pruned after epoch {trainer.current_epoch + 1}: {self.monitor}={value:.4g} is worse than the median "
                "of the earlier trials"
            )

    def _report(self, value: float, epoch: int) -> bool:
        """Report the metric to the study; return True if the trial should be pruned."""
        import optuna

        assert self.storage is not None
        assert self.trial is not None
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=self.startup_trials, n_warmup_steps=self.startup_epochs
        )
        trial = trial_in(open_study(self.storage, pruner=pruner), self.trial)
        frozen = trial.study.get_trials(deepcopy=False)[self.trial]
        if epoch not in frozen.intermediate_values:  # a resumed run repeats its last validation
            trial.report(value, epoch)
        return trial.should_prune()
