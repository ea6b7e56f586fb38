"""Hydra launchers ``gtex_vae_slurm`` and ``gtex_vae_local``: sweeps through submitit.

In addition to hydra-submitit-launcher, they record what is submitted, requeue killed jobs, let failed jobs fail for the
scheduler too, and wait for all jobs.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gtex_vae.errors import RunError


class _Launcher(BaseSubmititLauncher):
    """Base class of both launchers."""

    record = (
        ""  # path of the submission record, set by the command: jobs would resolve the time in it differently
    )

    def __call__(self, *args: Any, **kwargs: Any) -> JobReturn:
        """Run the stage in the job; raise if it failed."""
        from gtex_vae.runs import submission

        os.environ[submission.VARIABLE] = self.record
        returned = super().__call__(*args, **kwargs)
        if returned.status is JobStatus.COMPLETED:
            return returned
        # raise: if the error were returned, the scheduler would list the job as completed
        assert returned.hydra_cfg is not None
        failed = Path(returned.hydra_cfg.hydra.runtime.output_dir) / "FAILED"
        reason = failed.read_text(encoding="utf-8").splitlines()[0] if failed.exists() else ""
        raise RunError(reason or error_of(returned))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit all jobs, wait for them, and return their results."""
        from gtex_vae.launch.jobs import follow, log_submitted, make_executor
        from gtex_vae.runs import submission

        assert self.config is not None
        params = dict(self.params)
        refuse = params.pop("if_changed") == "refuse"
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        self.record = str((sweep_dir / submission.FILE).absolute())
        submission.write(Path(self.record), _in_common(self.config), refuse=refuse)
        executor = make_executor(self._EXECUTOR, params.pop("submitit_folder"), params)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        common = set(job_overrides[0]).intersection(*job_overrides)
        names = [
            " ".join([f"#{number}", *(o for o in filter_overrides(overrides) if o not in common)])
            for number, overrides in zip(numbers, job_overrides, strict=True)
        ]
        calls = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in zip(numbers, job_overrides, strict=True)
        ]
        jobs = executor.map_array(self, *zip(*calls, strict=True))
        log_submitted(jobs, sweep_dir)
        ended = follow(jobs, names, retries=int(params.get("max_num_timeout", 0)))
        return [_returned(end, overrides) for end, overrides in zip(ended, job_overrides, strict=True)]


def error_of(returned: JobReturn) -> str:
    """Error of a failed job; reading the public ``return_value`` would print to stderr and raise."""
    return str(returned._return_value)


def _in_common(config: DictConfig) -> Any:
    """Plain config of the sweep; swept keys have their defaults."""
    shared = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return OmegaConf.to_container(shared, resolve=True)
    except OmegaConfBaseException:  # a swept key without a default
        return OmegaConf.to_container(shared, resolve=False)


def _returned(end: Any, overrides: Sequence[str]) -> JobReturn:
    """Convert a job's result to Hydra's `JobReturn`; a failed one raises when its value is read."""
    if end.error is None:
        returned: JobReturn = end.result
        return returned
    failed = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    failed.return_value = RunError(end.error)
    return failed


class GtexVaeSlurmLauncher(_Launcher):
    """Launcher of SLURM jobs."""

    _EXECUTOR = "slurm"


class GtexVaeLocalLauncher(_Launcher):
    """Launcher of local processes."""

    _EXECUTOR = "local"


@dataclass
class GtexVaeSlurmConf(SlurmQueueConf):
    """Keys of ``hydra.launcher``, described in conf/hydra/launcher/cluster/default.yaml."""

    _target_: str = "hydra_plugins.gtex_vae_launcher.GtexVaeSlurmLauncher"
    array_parallelism: int = 16
    max_num_timeout: int = 3
    python: str | None = None
    if_changed: str = "warn"


@dataclass
class GtexVaeLocalConf(LocalQueueConf):
    """Keys of ``hydra.launcher``."""

    _target_: str = "hydra_plugins.gtex_vae_launcher.GtexVaeLocalLauncher"
    if_changed: str = "warn"


for _name, _node in (("gtex_vae_slurm", GtexVaeSlurmConf), ("gtex_vae_local", GtexVaeLocalConf)):
    ConfigStore.instance().store(
        group="hydra/launcher", name=_name, node=_node(), provider="gtex_vae_launcher"
    )
