"""What a `progress` callback is told."""

from __future__ import annotations

from glip.progress import Counter, Step


def test_a_counter_tells_of_its_beginning_and_of_each_step() -> None:
    told: list[Step] = []
    counter = Counter(told.append, "survey", 5, unit="entry", done=2)
    counter.add()
    counter.add(2, {"rejected": 1})
    assert told == [
        Step("survey", 2, 5, "entry"),
        Step("survey", 3, 5, "entry"),
        Step("survey", 5, 5, "entry", {"rejected": 1}),
    ]


def test_nobody_need_listen() -> None:
    counter = Counter(None, "frames")
    counter.add()
    assert (counter.step.done, counter.step.total) == (1, None)
