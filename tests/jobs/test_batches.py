"""Reading ahead, batches of one size, and results in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from glip.errors import ConfigError, DataError, ImageError
from glip.jobs.batches import in_order, read_ahead, through_model

SIZES = [1, 2, 1, 1, 3, 2, 1, 2, 1, 1]


def doubled(batch: Sequence[tuple[int, int]]) -> list[str]:
    """The answer of a model that takes one size at a time."""
    assert len({size for _, size in batch}) == 1
    return [f"{key}:{2 * size}" for key, size in batch]


def test_every_item_is_answered_in_batches_of_one_size() -> None:
    batches: list[list[int]] = []

    def answer(batch: Sequence[tuple[int, int]]) -> list[str]:
        batches.append([key for key, _ in batch])
        return doubled(batch)

    found = through_model(
        enumerate(SIZES), int, answer, size_of=lambda size: size, batch_size=3, workers=2
    )
    assert dict(found) == {key: f"{key}:{2 * size}" for key, size in enumerate(SIZES)}
    assert batches == [[0, 2, 3], [1, 5, 7], [6, 8, 9], [4]]


def test_rare_sizes_do_not_wait_for_ever() -> None:
    seen: list[int] = []

    def answer(batch: Sequence[tuple[int, int]]) -> list[int]:
        seen.extend(key for key, _ in batch)
        return [0] * len(batch)

    found = through_model(
        enumerate(range(40)), int, answer, size_of=lambda size: size, batch_size=2, workers=1
    )
    assert next(found)[0] == 0  # eight sizes wait, then the oldest goes alone
    assert seen == [0]
    assert len(list(found)) == 39


def test_what_cannot_be_read_is_its_own_answer_and_other_errors_end_all() -> None:
    def read(source: str) -> str:
        if source == "bad":
            raise ImageError("no picture")
        if source == "worse":
            raise DataError("no disk")
        return source

    items = list(enumerate(["a", "bad", "b"]))
    found = dict(through_model(items, read, lambda batch: [one for _, one in batch], size_of=len))
    assert found[0] == "a" and found[2] == "b" and str(found[1]) == "no picture"
    with pytest.raises(DataError, match="no disk"):
        list(through_model([(0, "worse")], read, lambda batch: [], size_of=len))


def test_what_needs_no_model_passes_by() -> None:
    found = through_model(
        enumerate([1, 2, 3]), int, doubled, size_of=lambda size: None if size == 2 else size
    )
    assert dict(found) == {0: "0:2", 1: 2, 2: "2:6"}


@pytest.mark.parametrize("name", ["batch_size", "workers"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_counts_are_whole_numbers_from_one(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a whole number from 1, got"):
        next(through_model([], int, doubled, size_of=int, **{name: value}))  # type: ignore[arg-type]


def test_no_more_is_read_than_is_needed_and_threads_end() -> None:
    taken: list[int] = []

    def items() -> Iterator[tuple[int, int]]:
        for number in range(1000):
            taken.append(number)
            yield number, number

    before = set(threading.enumerate())
    reading = read_ahead(items(), int, workers=2, ahead=3)
    assert [next(reading) for _ in range(2)] == [(0, 0), (1, 1)]
    assert len(taken) <= 6
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    reading.close()
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


def test_results_come_in_order() -> None:
    shuffled = [(2, "c"), (0, "a"), (1, "b"), (4, "e"), (3, "d")]
    assert list(in_order(shuffled)) == [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]


def test_a_closed_reader_waits_for_nothing_that_is_being_read() -> None:
    gate = threading.Event()
    guard = threading.Timer(60, gate.set)
    guard.start()

    def read(number: int) -> int:
        if number:
            gate.wait()
        return number

    try:
        reading = read_ahead(enumerate(range(9)), read, workers=2, ahead=4)
        assert next(reading) == (0, 0)
        reading.close()
        assert not gate.is_set()
    finally:
        gate.set()
        guard.cancel()
