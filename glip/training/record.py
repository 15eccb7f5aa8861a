"""What a run writes down on its way: a progress bar, JSON lines, and TensorBoard if it is there.

Knows nothing about training; it is handed numbers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm

from glip.distributed import is_main
from glip.files import whole_file
from glip.progress import Counter, Progress
from glip.training.loop import StepReport

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"


def read_records(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The JSON lines of a run; what a kill has cut off is left out."""
    path = Path(folder) / FILE
    if not os.path.exists(path):
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: left out a line that is cut off", path)
    return rows


def peak_memory() -> float:
    """GiB: of the GPU if there is one, else of the process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Recorder:
    """Writes on the main process and keeps quiet on the others.

    Args:
        folder: Of the run; gets `metrics.jsonl` and TensorBoard's files.
        steps: Of the whole run.
        start: Steps that are done. Lines of later steps, from a run that was killed after its last
            checkpoint, are dropped, as those steps will come again.
        pictures: Of one step, for the rate.
        progress: Is told of the steps, in the place of a bar on stderr.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        *,
        start: int = 0,
        pictures: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self._pictures = pictures
        self._active = is_main()
        if not self._active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_records(folder) if row["step"] <= start]
        with whole_file(folder / FILE) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self._file = (folder / FILE).open("a", encoding="utf-8", buffering=1)
        self._board = _summary_writer(folder, start)
        self._counter = Counter(progress, "training", steps, unit="step", done=start)
        self._bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            dynamic_ncols=True,
            disable=progress is not None,
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._active:
            self._bar.close()
            self._file.close()
            if self._board is not None:
                self._board.close()

    def advance(self) -> None:
        """Show one more step."""
        if self._active:
            self._counter.add()
            self._bar.update()

    def step(self, report: StepReport) -> None:
        """Take note of some steps."""
        if not self._active:
            return
        numbers = {
            **{f"loss/{name}": value for name, value in report.losses.items()},
            "lr": report.lr,
            "gradient_norm": report.gradient_norm,
            "seconds": report.seconds,
            "data_seconds": report.data_seconds,
            "pictures_per_second": self._pictures / max(report.seconds, 1e-9),
            "memory_gib": peak_memory(),
        }
        self._write(report.step, numbers)
        self._bar.set_postfix_str(
            ", ".join(f"{name} {value:.3g}" for name, value in report.losses.items())
            + f", {numbers['pictures_per_second']:.3g} pictures/s, {numbers['memory_gib']:.1f} GiB"
        )

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take note of an evaluation."""
        if self._active:
            self._write(step, {f"evaluation/{name}": value for name, value in metrics.items()})

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        # JSON has no NaN and no infinity.
        row = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)


def _summary_writer(folder: Path, start: int) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard logs: `pip install tensorboard` brings them")
        return None
    try:
        return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
    except UnicodeError:  # it wants names of folders in Unicode
        logger.warning("no TensorBoard logs: the name of the folder %s is not Unicode", folder)
        return None
