"""TensorBoard summaries that `SummaryWriter` has no method for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def add_summary(writer: SummaryWriter, summary: Any, step: int | None = None) -> None:
    """Write a ``Summary`` protocol buffer.

    `SummaryWriter` has only a private method that opens its event file again after ``close``.
    """
    writer._get_file_writer().add_summary(summary, step)
