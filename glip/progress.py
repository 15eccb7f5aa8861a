"""How far a long job is: the one thing that every `progress` callback is told.

Knows nothing about jobs, nor about how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


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
