"""TensorBoard events of evaluate and analyze: one event file per stage, replaced each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gtex_vae.analysis.report.model_card import metrics_section
from gtex_vae.analysis.report.report_data import read_curves
from gtex_vae.runs.events import add_summary

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


@contextmanager
def events_of(run: Path, stage: str) -> Iterator[SummaryWriter | None]:
    """Open the stage's event file and delete an earlier one; yield None if the run has no TensorBoard log."""
    from torch.utils.tensorboard import SummaryWriter

    folder, suffix = run / FOLDER, f".{stage}"
    if not folder.is_dir():
        yield None
        return
    for earlier in folder.glob(f"events.*{suffix}"):
        earlier.unlink()
    writer = SummaryWriter(str(folder), filename_suffix=suffix)
    try:
        yield writer
    finally:
        writer.close()


def show_figures(run: Path, pictures: Sequence[Path]) -> None:
    """Log the figures of the report as PNG under ``analysis/``."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    with events_of(run, "analyze") as writer:
        if writer is None:
            return
        step = _last_step(run)
        for path in pictures:
            png = path.read_bytes()
            width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))  # from the PNG header
            image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=4)
            value = Summary.Value(tag=f"analysis/{path.stem}", image=image)
            add_summary(writer, Summary(value=[value]), step)


def show_metrics(run: Path) -> None:
    """Log the metrics of `evaluate` with their intervals as text under ``evaluation/``."""
    with events_of(run, "evaluate") as writer:
        if writer is not None:
            writer.add_text("evaluation/metrics", metrics_section(run), _last_step(run))


def _last_step(run: Path) -> int:
    """Return the last step of training."""
    return max((steps[-1] for steps, _ in read_curves(run / FOLDER).values()), default=0)
