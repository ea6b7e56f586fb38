"""DataModule: from a processed AnnData to standardized batches, split by donor.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from gtex_vae.data.covariates import Covariates
from gtex_vae.data.loading.disk import DiskLoader
from gtex_vae.data.loading.disk_matrix import DiskMatrix, check_memory
from gtex_vae.data.loading.memory import Batch, BatchLoader
from gtex_vae.data.loading.standardized import StandardizedMatrix
from gtex_vae.data.preprocess import processed as processed_data
from gtex_vae.data.preprocess.near_duplicates import warn_of_duplicates
from gtex_vae.data.rows import RowMatrix
from gtex_vae.data.splits import SPLITS, check_fractions, check_split, fill_donors, read_splits, split_samples
from gtex_vae.data.standardize import Method, Standardizer
from gtex_vae.errors import ConfigError, DataError
from gtex_vae.files import write_beside

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)


class ExpressionDataModule(LightningDataModule):
    """Standardized expression in memory (on the GPU if it fits) or on disk, split by donor.

    Parameters
    ----------
    name
        Name of the data set.
    processed
        Path of the processed AnnData, which `prepare_data` makes if it does not exist.
    prepare
        ``_target_`` and arguments of the function that makes it; ``None`` if ``processed`` exists already.
    path
        The user's raw file, which the configs pass to ``prepare``; or a processed file, which is used directly.
    common_with
        Other data sets; the genes common to all of them are listed next to ``processed``.
    val, test
        Fractions of the samples held out for model selection and for the final metrics.
    split_seed
        Seed of the split only.
    split_by
        ``donor``; or ``sample``, which lets donors leak (only for comparison with published figures).
    splits
        A ``splits.csv`` of your own instead (columns ``sample``, ``split``).
    standardize
        ``standard`` (mean and standard deviation) or ``robust`` (median and interquartile range), fitted to the
        training samples only.
    clip, min_scale
        See `Standardizer`.
    batch_size
        Samples per step and device.
    seed
        Seed of the order of batches.
    memory_gib
        Memory for expression, in GiB. A larger matrix stays on disk: training reads it through a shuffle buffer
        (see `gtex_vae.data.loading.disk.DiskLoader`), and what needs samples all at once gets a subset of them.
        ``null``: the whole matrix in memory.
    covariates
        Columns of the annotations that a conditional VAE takes in addition to expression, numeric or categorical.

    Attributes
    ----------
    conditions
        The fitted `Covariates` after `setup`; None if no column is named.
    adata
        The samples after `setup`: ``obs`` with a column ``split``; X is standardized in place, or absent if it is on
        disk or was released by `rotate`.
    scaler
        The fitted `Standardizer`.
    """

    adata: AnnData
    scaler: Standardizer
    conditions: Covariates | None

    def __init__(
        self,
        name: str,
        processed: str,
        prepare: dict[str, Any] | None = None,
        path: str | None = None,
        *,
        common_with: Sequence[str] = (),
        val: float = 0.1,
        test: float = 0.2,
        split_seed: int = 0,
        split_by: Literal["donor", "sample"] = "donor",
        splits: str | None = None,
        standardize: Method = "standard",
        clip: float | None = None,
        min_scale: float = 0.05,
        batch_size: int = 128,
        seed: int = 0,
        memory_gib: float | None = None,
        covariates: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ConfigError(
                f"data.batch_size={batch_size} must be at least 2, for the statistics of a batch"
            )
        self.name, self.prepare, self.common_with = name, prepare, common_with
        self.processed = processed_data.choose(path, processed)
        self.path = Path(path) if path is not None else None
        self.val, self.test, self.split_seed = val, test, split_seed
        self.split_by, self.splits = split_by, splits
        self.standardize: dict[str, Any] = {"method": standardize, "clip": clip, "min_scale": min_scale}
        check_fractions(val, test)
        check_memory(memory_gib)
        Standardizer(1, **self.standardize)  # refuse impossible values before the data is read
        self.batch_size, self.seed = batch_size, seed
        self.memory_gib, self.covariates = memory_gib, covariates
        self._matrix: StandardizedMatrix | None = None

    def prepare_data(self) -> None:
        """Make the processed AnnData if there is none; a ``path`` that is a processed file is used directly."""
        if (
            self.processed != self.path
            and self.prepare is not None
            and processed_data.make_processed(
                self.processed,
                self.prepare,
                common_with=self.common_with,
                in_chunks=self.memory_gib is not None,
            )
        ):
            log.info("made %s", self.processed)

    def setup(self, stage: str | None = None) -> None:
        """Read, split and standardize; the second call does nothing.

        Raises
        ------
        DataError, SplitError
            The file or the split is not usable.
        """
        if self._matrix is not None:
            return
        matrix = StandardizedMatrix(self.processed, self.memory_gib)
        self.adata = matrix.adata
        split = self._split()
        self.adata.obs["split"] = pd.Categorical(split, categories=SPLITS)
        self._samples = self.adata.obs[["donor", "split"]]
        log.info(
            "%s: %d samples of %d donors x %d genes; train/val/test %s samples", self.name, self.adata.n_obs,
            self.adata.obs["donor"].nunique(), self.adata.n_vars, _sizes(split),
        )  # fmt: skip
        warn_of_duplicates(self.adata)
        train = self.rows("train")
        self.conditions = Covariates.fit(self.adata.obs.iloc[train], self.covariates)
        if self.conditions is not None:
            matrix.add_to_batches(c_nk=torch.from_numpy(self.conditions.design(self.adata.obs)))
        self.scaler = Standardizer(self.adata.n_vars, **self.standardize)
        matrix.fit(self.scaler, train, np.flatnonzero(split != "train"), self.batch_size)
        self._matrix = matrix
        constant = self.adata.var_names[self.scaler.constant]
        if len(constant) == self.adata.n_vars:
            raise DataError(
                f"{self.processed}: no gene varies over the {len(train)} training samples, so there is "
                "nothing to learn"
            )
        if len(constant):
            log.warning(
                "%d genes do not vary over the training samples (%s, ...): scale 1", len(constant), constant[0]
            )  # fmt: skip

    def training_size(self) -> tuple[int, int]:
        """Return the numbers of training samples and genes of the processed file, without reading X."""
        self.adata = DiskMatrix(self.processed).adata
        return int((self._split() == "train").sum()), self.adata.n_vars

    def _split(self) -> np.ndarray:
        obs = self.adata.obs
        obs["donor"] = fill_donors(obs["donor"], warn=self.split_by == "donor")
        if self.splits is not None:
            split = read_splits(self.splits, list(self.adata.obs_names))
            check_split(split, obs["donor"], by=self.split_by)
            return split
        return split_samples(
            obs["donor"], obs["tissue"], val=self.val, test=self.test, seed=self.split_seed, by=self.split_by
        )

    @property
    def matrix(self) -> StandardizedMatrix:
        """Expression of all samples, after `setup`."""
        assert self._matrix is not None, "setup() first"
        return self._matrix

    def rows(self, split: str) -> np.ndarray:
        """Return the row numbers of one split, in order."""
        return np.flatnonzero(self.adata.obs["split"].to_numpy() == split)

    def kept(self, split: str) -> np.ndarray:
        """Return the row numbers of the samples in `expression`: the whole split, or a subset if X is on disk."""
        return self.matrix.kept(self.rows(split))

    def expression(self, split: str) -> Tensor:
        """Return standardized expression (n, g) of the `kept` samples of one split."""
        return self.matrix.read(self.kept(split))

    def lazily(self, split: str) -> RowMatrix:
        """Return `expression` for reading in blocks, see `StandardizedMatrix.lazily`."""
        return self.matrix.lazily(self.kept(split))

    def annotations(self, split: str) -> pd.DataFrame:
        """Return the annotations of the samples in `expression`."""
        return self.adata.obs.iloc[self.kept(split)]

    def covariate_design(self, split: str) -> Tensor | None:
        """Return the covariates' design (n, k) of the samples in `expression`; None without covariates."""
        if self.conditions is None:
            return None
        return torch.from_numpy(self.conditions.design(self.annotations(split)))

    def add_to_batches(self, **per_row: Tensor) -> None:
        """Let batches carry further values of their samples, see `StandardizedMatrix.add_to_batches`."""
        self.matrix.add_to_batches(**per_row)

    def rotate(self, basis_fg: Tensor) -> None:
        """Make batches of coordinates in an orthonormal basis (f, g) instead of genes, see `StandardizedMatrix.rotate`."""
        self.matrix.rotate(basis_fg)

    @property
    def genes(self) -> dict[str, list[str]]:
        """Ids and names of the genes in order."""
        ids = [str(gene) for gene in self.adata.var_names]
        names = self.adata.var.get("gene_name", ids)
        return {"ids": ids, "names": [str(name) for name in names]}

    @property
    def unit(self) -> str:
        """Unit of the expression before standardizing."""
        return str(self.adata.uns.get("expression", {}).get("unit", "log2(TPM+1)"))

    def write_splits(self, path: Path) -> None:
        """Write sample, donor and split of every sample as CSV."""
        with write_beside(path) as temporary:
            self._samples.rename_axis("sample").to_csv(temporary)

    def train_dataloader(self) -> BatchLoader | DiskLoader:
        """Return shuffled whole batches of the training samples."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> BatchLoader | DiskLoader:
        """Return all validation samples in order."""
        return self._loader("val", shuffle=False)

    def _loader(self, split: str, *, shuffle: bool) -> BatchLoader | DiskLoader:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        rows = self.rows(split)
        if shuffle and len(rows) < self.batch_size * world_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} x {world_size} process(es) is more than the "
                f"{len(rows)} training samples"
            )
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        return self.matrix.loader(
            rows,
            device,
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            progress=self._progress,
            rank=rank,
            world_size=world_size,
        )

    def _progress(self) -> tuple[int, int]:
        """Return the finished epochs of training and the finished batches of the current one, also after a restart."""
        if self.trainer is None:
            return 0, 0
        fit_loop = self.trainer.fit_loop
        epochs: Any = fit_loop.epoch_progress.current
        return epochs.processed, fit_loop.epoch_loop.batch_progress.current.ready

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the device asynchronously; free if the matrix is there already."""
        return batch.to(device)


def _sizes(split: np.ndarray) -> str:
    return "/".join(str(int((split == part).sum())) for part in SPLITS)
