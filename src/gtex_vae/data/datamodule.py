"""From a processed AnnData to standardized, donor-split batches.

Shapes: ``n`` samples, ``g`` genes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from tqdm import tqdm

from gtex_vae.data.covariates import Covariates
from gtex_vae.data.loading.disk import DiskLoader, batches_in_buffer
from gtex_vae.data.loading.disk_matrix import GIB, DiskMatrix, check_memory, open_larger_than, subset
from gtex_vae.data.loading.memory import Batch, BatchLoader
from gtex_vae.data.preprocess import processed as processed_data
from gtex_vae.data.rows import FilledRows, RowMatrix, blocks_of
from gtex_vae.data.splits import SPLITS, check_fractions, check_split, read_splits, split_samples
from gtex_vae.data.standardize import Method, Standardizer
from gtex_vae.errors import ConfigError, DataError
from gtex_vae.files import write_beside
from gtex_vae.functional.basis import coordinates

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)

BLOCK = 256  # samples at a time
COORDINATES_SHARE = 0.25  # of the memory


class ExpressionDataModule(LightningDataModule):
    """Standardized expression in memory (on the GPU where it fits) or on disk, split by donor.

    Parameters
    ----------
    name
        Name of the data set.
    processed
        Where its processed AnnData lies, or will after `prepare_data`.
    prepare
        ``_target_`` and arguments of the function that makes it; ``None`` when ``processed`` is given as it is.
    path
        The user's raw file; the configs hand it to ``prepare``.
    common_with
        Other data sets; the genes that all have in common are listed beside ``processed``.
    val, test
        Fractions of the samples held out for choosing and for the final figures.
    split_seed
        Seed of the split alone.
    split_by
        ``donor``, or ``sample`` to let donors leak (for comparison with published figures only).
    splits
        A ``splits.csv`` of the user's own instead (columns ``sample``, ``split``).
    standardize
        ``standard`` (mean and standard deviation) or ``robust`` (median and interquartile range), of training
        samples only.
    clip, min_scale
        See `Standardizer`.
    batch_size
        Samples per step and device.
    seed
        Seed of the order of batches.
    memory_gib
        Memory for expression, in GiB. A larger matrix stays on disk: training reads it through a shuffle buffer
        (see `gtex_vae.data.loading.disk.DiskLoader`), and what needs samples all at once gets a part of them. ``null``:
        the whole matrix in memory.
    covariates
        Columns of the annotations that a conditional VAE takes beside the expression, quantities or classes.

    Attributes
    ----------
    conditions
        The fitted `Covariates` after `setup`; None where no column is named.
    adata
        The samples after `setup`: ``obs`` with a column ``split``; X is standardized in place, or absent where it
        stays on disk or was let go by `rotate`.
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
                f"data.batch_size={batch_size} must be at least 2: batch statistics need two samples"
            )
        self.name, self.prepare, self.common_with = name, prepare, common_with
        self.processed = processed_data.choose(path, processed)
        self.path = Path(path) if path is not None else None
        self.val, self.test, self.split_seed, self.split_by, self.splits = (
            val,
            test,
            split_seed,
            split_by,
            splits,
        )
        self.standardize: dict[str, Any] = {"method": standardize, "clip": clip, "min_scale": min_scale}
        check_fractions(val, test)
        check_memory(memory_gib)
        Standardizer(1, **self.standardize)  # refuses impossible values now, not after the data is read
        self.batch_size, self.seed = batch_size, seed
        self.memory_gib, self.covariates = memory_gib, covariates
        self._x_ng: Tensor | None = None
        self._coordinates: tuple[Tensor, Tensor] | None = None
        self._disk: DiskMatrix | None = None  # larger than the memory
        self._file: DiskMatrix | None = None  # of a matrix that was let go, to be read again

    def prepare_data(self) -> None:
        """Make the processed AnnData where there is none; a ``path`` that is one already is taken as it is."""
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
        """Read, split and standardize; does nothing the second time.

        Raises
        ------
        DataError, SplitError
            The file or the split is not usable.
        """
        if self._x_ng is not None or self._disk is not None or self._file is not None:
            return
        self._disk = open_larger_than(self.processed, self.memory_gib)
        self.adata = processed_data.read(self.processed) if self._disk is None else self._disk.adata
        split = self._split()
        self.adata.obs["split"] = pd.Categorical(split, categories=SPLITS)
        self._samples = self.adata.obs[["donor", "split"]]
        log.info(
            "%s: %d samples of %d donors x %d genes; train/val/test %s samples", self.name, self.adata.n_obs,
            self.adata.obs["donor"].nunique(), self.adata.n_vars, _sizes(split),
        )  # fmt: skip
        self.conditions = Covariates.fit(self.adata.obs.iloc[self.rows("train")], self.covariates)
        self.scaler = Standardizer(self.adata.n_vars, **self.standardize)
        if self._disk is None:
            self.scaler.fit(self.adata.X, self.rows("train"))
            self._x_ng = torch.from_numpy(self.scaler.apply_(self.adata.X))
        else:
            assert self.memory_gib is not None
            log.info(
                "%s stays on disk: it takes %.3g GiB, data.memory_gib is %.3g; a PCA, figures and metrics are of at "
                "most %d samples of a split",
                self.processed, self._disk.nbytes / GIB, self.memory_gib, len(self.kept("train")),
            )  # fmt: skip
            # refuses too little memory now, not after a pass over the file
            batches_in_buffer(self._disk, self.memory_gib, self.batch_size)
            self.scaler.fit(self._disk, self.rows("train"))
            self._disk.check(np.flatnonzero(split != "train"))
        if len(self.scaler.constant) == self.adata.n_vars:
            raise DataError(
                f"{self.processed}: no gene varies over the {len(self.rows('train'))} training samples, so there is "
                "nothing to learn"
            )
        if len(self.scaler.constant):
            names = list(self.adata.var_names[self.scaler.constant])
            log.warning(
                "%d genes do not vary over the training samples (%s, ...): scale 1", len(names), names[0]
            )

    def _split(self) -> np.ndarray:
        obs = self.adata.obs
        if self.splits is not None:
            split = read_splits(self.splits, list(self.adata.obs_names))
            check_split(split, obs["donor"], by=self.split_by)
            return split
        return split_samples(
            obs["donor"], obs["tissue"], val=self.val, test=self.test, seed=self.split_seed, by=self.split_by
        )

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of one split, in order."""
        return np.flatnonzero(self.adata.obs["split"].to_numpy() == split)

    def kept(self, split: str) -> np.ndarray:
        """Row numbers of the samples of one split that `expression` holds: all, or a part where X stays on disk."""
        rows = self.rows(split)
        if self._disk is None or self.memory_gib is None:
            return rows
        return subset(rows, self.adata.n_vars, self.memory_gib)

    def expression(self, split: str) -> Tensor:
        """Standardized expression (n, g) of the `kept` samples of one split."""
        return self._standardized(self.kept(split))

    def lazily(self, split: str) -> RowMatrix:
        """`expression` for reading in blocks, without a copy of all of it; from disk, where passes are dear, at once."""
        rows = self.kept(split)
        if self._disk is not None:
            return self._standardized(rows).numpy()
        return FilledRows((len(rows), self.adata.n_vars), lambda part, out: self._fill(rows[part], out))

    def _standardized(self, rows: np.ndarray) -> Tensor:
        out_ng = np.empty((len(rows), self.adata.n_vars), np.float32)
        self._fill(rows, out_ng)
        return torch.from_numpy(out_ng)

    def _fill(self, rows: np.ndarray, out_ng: np.ndarray) -> None:
        """Write standardized rows, which must rise, into an array."""
        matrix = self._disk or self._file
        if matrix is not None:
            matrix.read(rows, out_ng)
            self.scaler.apply_(out_ng)
            return
        assert self._x_ng is not None, "setup() first"
        out, row_n = torch.from_numpy(out_ng), torch.from_numpy(rows).to(self._x_ng.device)
        if self._x_ng.is_cpu:
            torch.index_select(self._x_ng, 0, row_n, out=out)
        else:
            out.copy_(self._x_ng[row_n])

    def annotations(self, split: str) -> pd.DataFrame:
        """Annotations of the samples of `expression`."""
        return self.adata.obs.iloc[self.kept(split)]

    def rotate(self, basis_fg: Tensor) -> None:
        """Let batches hold `coordinates` in an orthonormal basis instead of genes.

        Parameters
        ----------
        basis_fg
            Orthonormal rows, shape (f, g).

        Notes
        -----
        Of a matrix on disk too, in one pass, where a quarter of ``memory_gib`` holds the coordinates; else batches go on
        holding genes, which the module projects. A matrix in memory is let go, since batches need it no more: `expression`
        and `lazily` read the file again, unless it is compressed, which would take longer.
        """
        n, f = len(self.adata), len(basis_fg)
        most = math.inf if self._disk is None else (self.memory_gib or 0.0) * GIB * COORDINATES_SHARE
        if 4 * n * f > most:
            log.info(
                "%d coordinates of %d samples are too much for data.memory_gib: batches hold genes", f, n
            )
            return
        y_nf, outside_n = torch.empty(n, f), torch.empty(n)
        blocks = blocks_of(FilledRows((n, self.adata.n_vars), self._fill), BLOCK)
        for rows, x_ng in tqdm(
            blocks, desc="projecting", delay=2, leave=False, disable=None, total=-(-n // BLOCK)
        ):
            y_nf[rows], outside_n[rows] = coordinates(torch.from_numpy(x_ng), basis_fg)
        self._coordinates = y_nf, outside_n
        if self._disk is None:
            matrix = DiskMatrix(self.processed)
            # the file may have been made anew since it was read
            same = matrix.adata.obs_names.equals(self.adata.obs_names)
            same &= matrix.adata.var_names.equals(self.adata.var_names)
            if matrix.contiguous and same:
                self._file, self._x_ng, self.adata.X = matrix, None, None

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
        """Shuffled whole batches of the training samples."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> BatchLoader | DiskLoader:
        """All validation samples in order."""
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
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": shuffle,
            "seed": self.seed,
            "progress": self._progress,
            "rank": rank,
            "world_size": world_size,
        }
        device = torch.device("cpu") if trainer is None else trainer.strategy.root_device
        row_n = torch.from_numpy(rows)
        if self._coordinates is not None:
            y_nf, outside_n = _resident(device, *self._coordinates)
            self._coordinates = y_nf, outside_n
            pin = device.type == "cuda" and not y_nf.is_cuda
            return BatchLoader(y_nf, row_n, outside_n=outside_n, pin=pin, **settings)
        if self._disk is not None:
            assert self.memory_gib is not None
            return DiskLoader(self._disk, rows, self.scaler, memory_gib=self.memory_gib, **settings)
        assert self._x_ng is not None, "setup() first"
        (self._x_ng,) = _resident(device, self._x_ng)
        return BatchLoader(
            self._x_ng, row_n, pin=device.type == "cuda" and not self._x_ng.is_cuda, **settings
        )

    def _progress(self) -> tuple[int, int]:
        """Epochs of training, and batches of the present one, that are over; right also after a restart."""
        if self.trainer is None:
            return 0, 0
        fit_loop = self.trainer.fit_loop
        epochs: Any = fit_loop.epoch_progress.current
        return epochs.processed, fit_loop.epoch_loop.batch_progress.current.ready

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the device, asynchronously; free where the matrix lies there already."""
        return batch.to(device)


def _sizes(split: np.ndarray) -> str:
    return "/".join(str(int((split == part).sum())) for part in SPLITS)


def _resident(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors on the GPU when they take at most half of the free memory, else where they are."""
    if device.type != "cuda" or tensors[0].is_cuda:
        return tensors
    free, _ = torch.cuda.mem_get_info(device)
    fit = sum(tensor.nbytes for tensor in tensors) <= free // 2
    return tuple(tensor.to(device) for tensor in tensors) if fit else tensors
