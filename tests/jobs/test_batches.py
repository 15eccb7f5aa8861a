"""Reading ahead, batches of one size, and results in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest

from glip.errors import ConfigError, DataError, ImageError
from glip.jobs import batches
from glip.jobs.batches import Pace, in_order, read_ahead, through_model

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
        enumerate(SIZES), int, answer, size_of=lambda size: size, batch_size=3, pace=Pace(2)
    )
    assert dict(found) == {key: f"{key}:{2 * size}" for key, size in enumerate(SIZES)}
    assert batches == [[0, 2, 3], [1, 5, 7], [6, 8, 9], [4]]


def test_rare_sizes_do_not_wait_for_ever() -> None:
    seen: list[int] = []

    def answer(batch: Sequence[tuple[int, int]]) -> list[int]:
        seen.extend(key for key, _ in batch)
        return [0] * len(batch)

    found = through_model(
        enumerate(range(40)), int, answer, size_of=lambda size: size, batch_size=2, pace=Pace(1)
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


@pytest.mark.parametrize("name", ["batch_size", "workers", "at_once"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_counts_are_whole_numbers_from_one(name: str, value: Any) -> None:
    options = {"batch_size": value} if name == "batch_size" else {"pace": Pace(**{name: value})}
    with pytest.raises(ConfigError, match=f"{name} must be a whole number from 1, got"):
        next(through_model([], int, doubled, size_of=int, **options))


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (4, 2), (10, 5), (17, 8), (96, 8)])
def test_a_gpu_has_half_the_cores_read_for_it(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "usable", lambda: cores)
    assert Pace.on_gpu(3) == Pace(workers, 3)
    assert Pace.on_gpu(3).with_workers(1) == Pace(1, 3)
    assert Pace.on_gpu(3).with_workers(None) == Pace(workers, 3)


# ---------------------------------------------------------------- several batches asked for at once


def through(
    answer: Callable[[Sequence[tuple[int, int]]], list[str]],
    count: int,
    at_once: int,
    read: Callable[[int], int] = int,
) -> Iterator[tuple[int, object]]:
    """Batches of two of so many items, all of one size."""
    numbers = enumerate(range(count))
    return through_model(
        numbers, read, answer, size_of=lambda size: 0, batch_size=2, pace=Pace(2, at_once)
    )


def told(batch: Sequence[tuple[int, int]]) -> list[str]:
    return [f"answer {key}" for key, _ in batch]


def ended(threads: set[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(60)
    return not any(thread.is_alive() for thread in threads)


def test_so_many_batches_are_asked_for_side_by_side_and_come_in_their_order() -> None:
    together = threading.Barrier(3, timeout=60)  # breaks unless three threads are inside

    def answer(batch: Sequence[tuple[int, int]]) -> list[str]:
        together.wait()
        return told(batch)

    found = list(through(answer, 18, at_once=3))
    assert found == [(number, f"answer {number}") for number in range(18)]


def test_who_does_not_fetch_answers_holds_the_others_back() -> None:
    asked: list[int] = []

    def answer(batch: Sequence[tuple[int, int]]) -> list[str]:
        asked.append(batch[0][0])
        return told(batch)

    found = through(answer, 100, at_once=2)
    assert next(found) == (0, "answer 0")
    time.sleep(0.1)
    assert sorted(asked) == [0, 2, 4]  # two under way, and the one that is handed over
    assert len(list(found)) == 99


def test_what_was_answered_before_an_error_is_not_lost() -> None:
    def answer(batch: Sequence[tuple[int, int]]) -> list[str]:
        if batch[0][0] == 4:
            raise DataError("no memory")
        return told(batch)

    def read(number: int) -> int:
        if number == 7:
            raise DataError("no disk")
        return number

    for found, error in (
        (through(answer, 20, at_once=3), "no memory"),
        (through(told, 20, at_once=3, read=read), "no disk"),
    ):
        keys: list[int] = []
        with pytest.raises(DataError, match=error):
            keys.extend(key for key, _ in found)
        before = set(threading.enumerate())
        assert ended({one for one in before if one.name.startswith("ask")})
        assert keys == list(range(4 if error == "no memory" else 6))


def test_left_in_the_middle_it_waits_for_no_answer() -> None:
    gate = threading.Event()

    def answer(batch: Sequence[tuple[int, int]]) -> list[str]:
        if batch[0][0]:
            gate.wait(60)
        return told(batch)

    before = set(threading.enumerate())
    found = through(answer, 20, at_once=2)
    assert next(found) == (0, "answer 0")
    assert isinstance(found, Generator)
    found.close()
    assert not gate.is_set()
    gate.set()
    assert ended(set(threading.enumerate()) - before)


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
