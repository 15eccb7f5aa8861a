"""The engine and labelling photos with it: shares, batches, rejected pictures, kills."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glip import distributed
from glip.config import PostprocessOptions
from glip.data.labels import Labelled
from glip.detector import Detector
from glip.errors import ConfigError, ImageError, StorageError
from glip.images import list_pictures
from glip.jobs import pipeline as run
from glip.jobs.batches import Pace
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Read, in_turn, work_through
from glip.labelling.label import JournalPictures, label_photos
from glip.labelling.ontology import Ontology
from glip.pixels import Prepared

pytestmark = pytest.mark.whole

JOB = {"job": 1}
ONTOLOGY = Ontology.of_names(["cat", "red car"], threshold=0.5)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a loaded model is forked")


@pytest.fixture
def root(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """Twelve good pictures of four shapes and two that are none."""
    root = tmp_path / "photos"
    (root / "straße").mkdir(parents=True)
    for number in range(12):
        size = [(120, 90), (90, 120), (100, 100), (160, 60)][number % 4]
        folder = "straße/" if number % 2 else ""
        make_picture(*size, seed=number).save(root / f"{folder}{number:02d} é.png")
    (root / "empty.jpg").touch()
    (root / "straße" / "text.jpg").write_text("no picture")
    return root


def label(detector: Detector, root: Path, journal: Journal, **options: Any) -> None:
    label_photos(
        detector,
        root,
        list_pictures(root),
        ONTOLOGY,
        journal,
        options=PostprocessOptions(max_detections=12),
        **options,
    )


def records(folder: Path) -> list[tuple[str, str, Any]]:
    with Journal(folder, JOB) as journal:
        return list(journal.read())


@pytest.fixture
def undisturbed(tiny_detector: Detector, root: Path, tmp_path: Path) -> list[tuple[str, str, Any]]:
    with Journal(tmp_path / "undisturbed", JOB) as journal:
        label(tiny_detector, root, journal)
        return list(journal.read())


def test_labels_are_those_of_predict(
    tiny_detector: Detector, root: Path, undisturbed: list[tuple[str, str, Any]], tmp_path: Path
) -> None:
    assert [status for _, status, _ in undisturbed].count("done") == 12
    total = 0
    for name, status, record in undisturbed:
        if status == "done":
            [found] = tiny_detector.predict(
                root / name, ["cat", "red car"], threshold=0.5, max_detections=12
            )
            labelled = Labelled.from_json(name, record)
            assert labelled.labels == ONTOLOGY.labels(found, nms=0.6)
            assert labelled.image_hw == found.image_hw
            total += len(labelled.labels)
    assert total > 12
    with Journal(tmp_path / "undisturbed", JOB) as journal:
        done = [name for name, status, _ in undisturbed if status == "done"]
        assert [picture.picture for picture in JournalPictures(journal, root)] == done
        (root / done[3]).unlink()
        del done[3]  # gone since it was labelled
        assert [picture.picture for picture in JournalPictures(journal, root)] == done


def test_pictures_that_cannot_be_used_are_rejected_with_a_reason(
    undisturbed: list[tuple[str, str, Any]],
) -> None:
    reasons = {name: record for name, status, record in undisturbed if status == "rejected"}
    assert set(reasons) == {"empty.jpg", "straße/text.jpg"}
    assert "is empty (0 bytes)" in reasons["empty.jpg"]


@pytest.mark.parametrize(("batch_size", "workers"), [(3, 1), (2, 4)])
def test_batches_and_threads_change_no_record(
    batch_size: int,
    workers: int,
    tiny_detector: Detector,
    root: Path,
    undisturbed: list[tuple[str, str, Any]],
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "other", JOB) as journal:
        label(tiny_detector, root, journal, batch_size=batch_size, workers=workers)
        found = list(journal.read())
    for (name, status, record), (_, _, there) in zip(found, undisturbed, strict=True):
        if status == "done":
            read, expected = Labelled.from_json(name, record), Labelled.from_json(name, there)
            assert len(read.labels) == len(expected.labels)
            for one, other in zip(read.labels, expected.labels, strict=True):
                assert one.box == pytest.approx(other.box, abs=0.02)
                assert one.score == pytest.approx(other.score, abs=2e-4)


def test_a_second_run_does_nothing(tiny_detector: Detector, root: Path, tmp_path: Path) -> None:
    def forbidden(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        raise AssertionError(f"{batch} was done already")

    with Journal(tmp_path / "journal", JOB) as journal:
        label(tiny_detector, root, journal)
        items = ((name, root / name) for name in list_pictures(root))
        work_through(items, forbidden, tiny_detector.prepare, journal)


def _prepared(source: Any) -> Prepared:
    return Prepared(0, torch.zeros(3, 32, 32 * (1 + int(source) % 3)), (32, 32))


def test_batches_have_one_shape_and_few_pictures_wait(tmp_path: Path) -> None:
    batches: list[list[int]] = []
    read = 0

    def prepare(source: Any) -> Prepared:
        nonlocal read
        read += 1
        return _prepared(source)

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        assert len({one.picture.resized_hw for one in batch}) == 1
        batches.append([int(one.key) for one in batch])
        assert read - sum(map(len, batches)) <= 4 * 4 + 2 * 4 + 2 + 2  # waiting, ahead, in threads
        return [("done", None)] * len(batch)

    with Journal(tmp_path, JOB) as journal:
        items = ((f"{n:03d}", str(n)) for n in range(100))
        work_through(items, answer, prepare, journal, batch_size=4)
        assert journal.count() == 100
    assert sorted(n for batch in batches for n in batch) == list(range(100))
    assert [len(batch) for batch in batches].count(4) >= 24


def test_what_is_finished_is_kept_when_something_breaks(tmp_path: Path) -> None:
    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        if batch[0].key == "5":
            raise KeyboardInterrupt
        return [("done", None)]

    with Journal(tmp_path, JOB) as journal:
        with pytest.raises(KeyboardInterrupt):
            work_through(((str(n), str(n)) for n in range(9)), answer, _prepared, journal)
        assert [key for key, _, _ in journal.read()] == list("01234")


def test_a_full_disk_stops_the_run_and_keeps_what_was_done(tmp_path: Path) -> None:
    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        return [("done", "x" * 2000)]

    with Journal(tmp_path, JOB) as journal:
        (pages,) = journal._own.execute("PRAGMA page_count").fetchone()
        journal._own.execute(f"PRAGMA max_page_count = {pages + 20}")
        items = ((f"{n:03d}", str(n)) for n in range(500))
        with pytest.raises(StorageError, match="disk is full"):
            work_through(items, answer, _prepared, journal)
        kept = journal.count()
    assert 0 < kept < 500
    with Journal(tmp_path, JOB) as journal:  # there is room again
        work_through(((f"{n:03d}", str(n)) for n in range(500)), answer, _prepared, journal)
        assert journal.count() == 500


@pytest.mark.parametrize(
    ("name", "option"), [("batch_size", {"batch_size": 0}), ("workers", {"pace": Pace(0)})]
)
def test_options_out_of_range(name: str, option: dict[str, Any], tmp_path: Path) -> None:
    with (
        Journal(tmp_path, JOB) as journal,
        pytest.raises(ConfigError, match=f"{name} must be a whole number from 1, got 0"),
    ):
        work_through((), lambda batch: [], _prepared, journal, **option)


def _fork(work: Callable[[], None]) -> int:
    """Run something in a copy of this process; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_killed_again_and_again_the_records_are_those_of_an_undisturbed_run(
    tiny_detector: Detector,
    root: Path,
    undisturbed: list[tuple[str, str, Any]],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "killed"
    chance = random.Random(0)

    def work() -> None:
        with Journal(folder, JOB) as journal:
            label(tiny_detector, root, journal)

    done: list[int] = []
    for _ in range(15):
        child = _fork(work)
        time.sleep(chance.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done.append(len(records(folder)))
        if done[-1] == len(undisturbed):
            break
    assert done == sorted(done)  # nothing is lost
    child = _fork(work)
    assert os.waitpid(child, 0)[1] == 0
    assert records(folder) == undisturbed


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_two_processes_do_each_picture_once_then_one_continues(
    tiny_detector: Detector,
    root: Path,
    undisturbed: list[tuple[str, str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "ROUND_SECONDS", 0.05)  # many rounds
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        distributed.start()
        totals: list[int] = []
        with Journal(tmp_path / "two", JOB, rank=rank) as journal:
            label(
                tiny_detector,
                root,
                journal,
                progress=lambda step: totals.append(step.done),
            )
        assert totals[-1] == len(undisturbed), totals
        distributed.stop()

    children = [_fork(lambda rank=rank: work(rank)) for rank in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    counts = []
    for rank in range(2):
        with Journal(tmp_path / "two", JOB, rank=rank) as journal:
            counts.append(journal._own.execute("SELECT count(*) FROM records").fetchone()[0])
    assert sum(counts) == len(undisturbed) and min(counts) > 0
    assert records(tmp_path / "two") == undisturbed


def test_a_failing_disk_is_told_by_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(records: object) -> None:
        raise StorageError(errno.EIO, "broken")

    with Journal(tmp_path, JOB) as journal:
        monkeypatch.setattr(journal, "write", fail)
        with pytest.raises(StorageError, match="broken"):
            work_through([("a", "1")], lambda batch: [("done", 1)], _prepared, journal)


@pytest.mark.parametrize("at_once", [1, 3])
def test_all_in_turn_and_none_twice(tmp_path: Path, at_once: int) -> None:
    asked: list[str] = []

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        asked.extend(one.key for one in batch)
        return [("done", one.picture.number) for one in batch]

    def prepare(number: int) -> Prepared:
        if number == 5:
            raise ImageError("5 is no picture")
        size = (32, 32) if number % 2 else (64, 32)  # batches of two sizes
        pixels = np.zeros((3, *size), np.float32)
        return Prepared(number, pixels, size)

    def run(count: int, journal: Journal | None) -> list[tuple[int, Any]]:
        items = ((None if number % 4 == 3 else f"{number:03d}", number) for number in range(count))
        pace = Pace(2, at_once)
        return list(in_turn(items, answer, prepare, journal, batch_size=3, pace=pace))

    expected = [(n, None if n % 4 == 3 or n == 5 else n) for n in range(30)]
    assert run(30, None) == expected
    first, asked[:] = asked[:], []
    with Journal(tmp_path, JOB) as journal:
        assert run(14, journal) == expected[:14]
        early, asked[:] = asked[:], []
        assert run(30, journal) == expected
        assert not set(asked) & set(early) and sorted(asked + early) == sorted(first)
        assert [key for key, _, _ in journal.read("rejected")] == ["005"]


def test_record_of_a_thread_that_is_left_alone_is_not_half_written(tmp_path: Path) -> None:
    gate, left = threading.Event(), threading.Event()

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        number = batch[0].picture.number
        if number:
            left.set()
            gate.wait(60)
        return [("done", number)]

    def prepare(number: int) -> Prepared:
        return Prepared(number, np.zeros((3, 32, 32), np.float32), (32, 32))

    before = set(threading.enumerate())
    with Journal(tmp_path, JOB) as journal:
        items = ((f"{number:03d}", number) for number in range(9))
        turn = in_turn(items, answer, prepare, journal, batch_size=1, pace=Pace(1, 2))
        assert next(turn) == (0, 0)
        assert left.wait(60)
        turn.close()  # waits for no answer
        gate.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
        assert [key for key, _, _ in journal.read("done")] == ["000"]


def test_labels_of_several_threads_are_those_of_one(
    tiny_detector: Detector,
    root: Path,
    undisturbed: list[tuple[str, str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Detector, "pace", Pace(3, 3))
    with Journal(tmp_path / "threads", JOB) as journal:
        label(tiny_detector, root, journal, batch_size=2)
    assert [row[:2] for row in records(tmp_path / "threads")] == [row[:2] for row in undisturbed]
