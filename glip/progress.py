"""How far a long job is: the one thing that every `progress` callback is told.

Knows nothing about jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

LOG_SECONDS = 10.0
"""Between the lines of a bar in a log, which is no terminal."""


@dataclass(frozen=True)
class Step:
    """Where a job stands in one part of its work."""

    what: str
    """The part, such as "grounding"."""
    done: int = 0
    """How much of it, earlier runs included."""
    total: int | None = None
    """Of how much; None while that is not known."""
    unit: str = "picture"
    """What is counted."""
    tally: Mapping[str, int] = field(default_factory=dict)
    """How many came out how, such as {"rejected": 3}."""


Progress: TypeAlias = Callable[[Step], object]
"""Is called now and then, in the thread of the job; what it returns is not looked at."""


def silent(step: Step) -> None:
    """The callback for nobody."""


class Counter:
    """Counts one part of a job and tells of each step.

    Args:
        progress: Who is told.
        what, total, unit: See `Step`.
        done: By earlier runs.
    """

    def __init__(
        self,
        progress: Progress | None,
        what: str,
        total: int | None = None,
        *,
        unit: str = "picture",
        done: int = 0,
    ) -> None:
        self._progress = progress or silent
        self.step = Step(what, done, total, unit)
        self._progress(self.step)

    def add(self, more: int = 1, tally: Mapping[str, int] | None = None) -> None:
        """So many more are done."""
        self.step = Step(
            self.step.what,
            self.step.done + more,
            self.step.total,
            self.step.unit,
            self.step.tally if tally is None else dict(tally),
        )
        self._progress(self.step)


@contextmanager
def bars(shown: Callable[[], bool] = lambda: True) -> Iterator[Progress]:
    """A callback that shows a bar on stderr for each part of a job.

    Args:
        shown: Is asked before each bar whether there is to be one.
    """
    from tqdm import tqdm

    made: dict[str, Any] = {}

    def show(step: Step) -> None:
        if step.what not in made:
            close()
            slow = 0.1 if sys.stderr.isatty() else LOG_SECONDS
            made[step.what] = tqdm(
                desc=step.what,
                total=step.total,
                unit=step.unit,
                initial=step.done,
                mininterval=slow,
                disable=not shown(),
            )
            return
        bar = made[step.what]
        bar.total = step.total
        if set(step.tally) - {"done"}:
            bar.set_postfix(step.tally, refresh=False)
        bar.update(step.done - bar.n)

    def close() -> None:
        for bar in made.values():
            bar.close()

    try:
        yield show
    finally:
        close()
