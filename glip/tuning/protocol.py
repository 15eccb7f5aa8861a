"""The comparison of the paper on a folder of small data sets: few shots, and ways of tuning.

Each set is measured zero-shot, then tuned in every mode with every number of shots and every seed
(arXiv 2112.03857, section 5; reference G.4, H.4). Each of these is a folder with a result of its
own, so a run that was stopped goes on, and new modes or shots are added by asking for them. The
numbers go into one table, with mean and standard deviation over seeds, and into curves.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from glip.choices import TuneMode
from glip.data.formats.folders import folders_below
from glip.data.formats.recognise import train_and_val
from glip.errors import ConfigError, DataError, GlipError, StorageError
from glip.files import make_folder, whole_file, why_missing, write_json
from glip.progress import Progress, Step
from glip.report.chart import Line, write_chart
from glip.settings import within
from glip.tuning.options import TuneOptions
from glip.tuning.tune import RESULT, read_result, tune

logger = logging.getLogger(__name__)

ALL = 0
"""As a number of shots: every picture."""
MEAN = "mean over sets"
RETENTION = "other_words"
"""Folder of the base model's predictions on the set that is not tuned on, for all data sets."""


@dataclass(frozen=True)
class Plan:
    """What to compare."""

    data: str
    """A data set, or a folder of them; each has parts to train and to evaluate on."""
    modes: tuple[TuneMode, ...] = ("prompt", "linear_probe", "lora", "full")
    shots: tuple[int, ...] = (1, 3, 5, 10, ALL)
    seeds: tuple[int, ...] = (3, 30, 300)
    """official: these. All pictures are all pictures, so there only the first is used."""
    options: TuneOptions = field(default_factory=lambda: TuneOptions(""))
    """Everything else; its data, mode, shots and seed are replaced."""

    def __post_init__(self) -> None:
        for name in ("modes", "shots", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} must be different values, at least one, got {values}")
        if self.options.lr and len(self.modes) > 1:
            raise ConfigError(
                f"learning rates {self.options.lr} are for a single mode, got "
                f"{', '.join(self.modes)}; each has a usual rate of its own"
            )
        for count in self.shots:
            within("shots", count, least=0, way_out="0 is all")


class Cell(NamedTuple):
    """One result."""

    name: str
    """Of the data set."""
    mode: str
    """Of tuning, or "zero_shot"."""
    shots: int
    seed: int
    ap: float
    retention: float | None
    """Change of AP on the set that was not tuned on; None if that was not measured."""
    seconds: float


def data_sets(path: str | os.PathLike[str]) -> dict[str, Path]:
    """Name and folder of each data set: the path itself, or what lies in it.

    Raises:
        DataError: None of them has a part to train and a part to evaluate on.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise DataError(f"{path} {why_missing(path)}")

    def is_set(folder: Path) -> bool:
        part, held_out = train_and_val(folder)
        if held_out is None and part.path != folder:
            logger.warning("%s is left out: it has nothing to evaluate on beside %s", folder,
                           part.path.name)  # fmt: skip
        return held_out is not None

    if os.path.isdir(path) and is_set(path):
        return {path.name: path}
    found = dict(folders_below(path, is_set)) if os.path.isdir(path) else {}
    if not found:
        raise DataError(
            f"{path} holds no data set with parts to train and to evaluate on, such as train.json "
            "and val.json, or train and valid folders"
        )
    return found


def compare(
    plan: Plan,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    failed: Callable[[str, GlipError], object] | None = None,
    progress: Progress | None = None,
) -> list[Cell]:
    """Carry out a plan; what is there already is not done again.

    Args:
        plan: See there.
        output: Folder; `results.json`, `results.md` and curves are written anew after each result,
            of all results in the folder.
        device: To run on.
        failed: Is told which run could not be made and why, and the others go on; without it the
            first failure ends all. A disk that fails always does.
        progress: Is told what comes next.
    Returns:
        As `finished`.
    """
    output = make_folder(output)
    for name, folder, mode, shots, seed in _runs(plan):
        label = f"{name}: {mode}, {_shots(shots)}, seed {seed}"
        if progress is not None:
            progress(Step(label, unit="run"))
        options = replace(
            plan.options,
            data=str(folder),
            mode=mode,
            shots=shots or None,
            seed=seed,
            # Asked of the plan for every mode, but words alone forget nothing.
            replay=None if mode == "prompt" else plan.options.replay,
        )
        try:
            tune(
                options,
                output / name / mode / _shots(shots) / f"seed_{seed}",
                device,
                base_folder=output / name / "base",
                retention_folder=output / RETENTION,
            )
        except StorageError:
            raise
        except GlipError as error:
            if failed is None:
                raise
            failed(label, error)
            continue
        write_results(finished(output), output)
    return finished(output)


def finished(output: str | os.PathLike[str]) -> list[Cell]:
    """All results below a folder, of this and of other plans and machines.

    In the order of data sets, modes, shots and seeds; zero-shot comes first of each data set.
    """
    cells: list[Cell] = []
    for file in Path(output).glob(f"*/*/*_shots/seed_*/{RESULT}"):
        result = read_result(file.parent)
        if result is None or result["tuned"] is None or result["tuned"]["AP"] is None:
            continue
        name, mode = file.parts[-5:-3]
        settings = result["settings"]
        if all(cell.name != name for cell in cells):
            cells.append(Cell(name, "zero_shot", 0, 0, result["base"]["AP"] or 0.0, None, 0.0))
        cells.append(_cell(name, mode, settings["shots"] or ALL, settings["seed"], result))
    order = ["zero_shot", *Plan.modes, *(m for m in get_args(TuneMode) if m not in Plan.modes)]
    return sorted(cells, key=lambda c: (c.name, order.index(c.mode), c.shots or math.inf, c.seed))


def _shots(shots: int) -> str:
    return f"{shots or 'all'}_shots"


def _runs(plan: Plan) -> Iterator[tuple[str, Path, TuneMode, int, int]]:
    """Name and folder of the data, mode, shots and seed of each run."""
    for name, folder in data_sets(plan.data).items():
        for mode, shots in product(plan.modes, plan.shots):
            for seed in plan.seeds if shots != ALL else plan.seeds[:1]:
                yield name, folder, mode, shots, seed


def cells_table(cells: Sequence[Cell]) -> str:
    """AP in per cent by mode and shots, mean and deviation over seeds, as Markdown."""
    names = list(dict.fromkeys(cell.name for cell in cells))
    header = [*names, MEAN] if len(names) > 1 else names
    lines = [
        "| mode | shots | " + " | ".join(header) + " | other words | seconds |",
        "| --- | --- |" + " --- |" * (len(header) + 2),
    ]
    for mode, shots in dict.fromkeys((cell.mode, cell.shots) for cell in cells):
        own = [cell for cell in cells if (cell.mode, cell.shots) == (mode, shots)]
        said = "-" if mode == "zero_shot" else str(shots or "all")
        lines.append(f"| {mode} | {said} | " + " | ".join(_columns(own, names)) + " |")
    return "\n".join(lines)


def _columns(cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """A row of the table: AP of each set, mean of them, change of other words, seconds."""
    by_set = {name: [cell.ap for cell in cells if cell.name == name] for name in names}
    columns = [_spread(values) for values in by_set.values()]
    if len(names) > 1:
        columns.append(_mean_of_sets(by_set.values()))
    kept = [cell.retention for cell in cells if cell.retention is not None]
    columns.append(f"{100 * statistics.fmean(kept):+.1f}" if kept else "-")
    columns.append(f"{statistics.fmean([cell.seconds for cell in cells]):.0f}")
    return columns


def write_results(cells: Sequence[Cell], output: Path) -> None:
    """The table, the numbers, and a chart for each data set and for their mean."""
    with whole_file(output / "results.md") as file:
        file.write(cells_table(cells) + "\n")
    rows = [cell._asdict() for cell in cells]
    write_json(output / "results.json", rows)
    names = list(dict.fromkeys(cell.name for cell in cells))
    for name in names:
        own = [cell for cell in cells if cell.name == name]
        write_chart(
            output / f"{name}.svg",
            curves(own),
            title=name,
            x="pictures of each class",
            y="AP, %",
        )
    if len(names) > 1:
        write_chart(
            output / "mean.svg",
            curves(cells),
            title=MEAN,
            x="pictures of each class",
            y="AP, %",
        )


def curves(cells: Sequence[Cell]) -> list[Line]:
    """Data-efficiency curves: AP against shots for each mode, from zero-shot on.

    A number of shots joins a curve when every data set has it, so that means are of like things.
    """
    names = {cell.name for cell in cells}
    order = [*sorted({cell.shots for cell in cells if cell.shots != ALL}), ALL]
    zero = _mean([cell for cell in cells if cell.mode == "zero_shot"], names)
    lines = []
    for mode in dict.fromkeys(cell.mode for cell in cells if cell.mode != "zero_shot"):
        points = [(0.0, "0", *zero)] if zero is not None else []
        for place, shots in enumerate(order, start=1):
            found = _mean([c for c in cells if (c.mode, c.shots) == (mode, shots)], names)
            if found is not None:
                points.append((float(place), str(shots or "all"), *found))
        lines.append(Line(mode, tuple(points)))
    return lines


def _mean(cells: Sequence[Cell], names: Collection[str]) -> tuple[float, float] | None:
    """AP and its deviation in per cent, means over all sets; None if one of them has no cell."""
    by_set = {name: [cell.ap for cell in cells if cell.name == name] for name in names}
    if not all(by_set.values()):
        return None
    means = [statistics.fmean(values) for values in by_set.values()]
    spreads = [_deviation(values) for values in by_set.values()]
    return 100 * statistics.fmean(means), 100 * statistics.fmean(spreads)


def _cell(name: str, mode: str, shots: int, seed: int, result: Mapping[str, Any]) -> Cell:
    kept = result.get("retention")
    change = None if kept is None else kept["tuned"]["AP"] - kept["base"]["AP"]
    return Cell(name, mode, shots, seed, result["tuned"]["AP"], change, result["seconds"])


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * _deviation(values):.1f}"


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _mean_of_sets(by_set: Collection[Sequence[float]]) -> str:
    """A mean over fewer sets than the table has would not compare with the one above it."""
    if not all(by_set):
        return "-"
    return f"{100 * statistics.fmean(statistics.fmean(values) for values in by_set):.1f}"
