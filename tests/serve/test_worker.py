"""The worker with detectors that only write down what they are asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import PromptError
from glip.pixels import Prepared
from glip.serve.worker import Job, Worker
from glip.structures import Detections
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole

CAT = Prompt.from_classes(["cat"])
BAD = Prompt.from_classes(["bad"])


class Listener:
    """In the place of a detector: waits until it is released, and notes each batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.thresholds: list[float] = []
        self.begun = threading.Event()
        self.released = threading.Event()

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        *,
        options: PostprocessOptions,
    ) -> list[list[Detections]]:
        self.begun.set()
        assert self.released.wait(10)
        self.batches.append([picture.number for picture in pictures])
        self.thresholds.append(options.score)
        if [BAD] in prompts:
            raise PromptError("bad")
        scores = torch.tensor([0.9, 0.5, 0.2])
        return [
            [Detections(torch.zeros(3, 4), scores, torch.zeros(3).long(), prompt, (9, 9))]
            for [prompt] in prompts
        ]


def job(
    detector: Listener,
    number: int,
    *,
    hw: tuple[int, int] = (64, 64),
    prompt: Prompt = CAT,
    **options: Any,
) -> Job:
    picture = Prepared(number, torch.zeros(3, *hw), hw)
    return Job(cast(Detector, detector), picture, prompt, PostprocessOptions(**options))


def submitted(worker: Worker, listener: Listener, jobs: Sequence[Job]) -> None:
    """The first job is with the model while the others come."""
    worker.submit(jobs[0])
    assert listener.begun.wait(10)
    for one in jobs[1:]:
        worker.submit(one)
    listener.released.set()


def test_what_waits_goes_together_if_it_agrees() -> None:
    listener, other = Listener(), Listener()
    other.released.set()
    worker = Worker(3)
    jobs = [
        job(listener, 0),
        job(listener, 1),
        job(listener, 2, hw=(64, 96)),
        job(listener, 3, nms=0.5),
        job(listener, 4, hw=(60, 50)),  # padded to the same
        job(listener, 5, prompt=BAD),
        job(other, 6),
        job(listener, 7),
        job(listener, 8, hw=(64, 96)),
    ]
    submitted(worker, listener, jobs)
    for one in jobs:
        if one.prompt is CAT:
            assert len(one.found.result(10)) == 3
    with pytest.raises(PromptError):
        jobs[5].found.result(10)
    worker.close()
    # One bad prompt in a batch: each is then asked alone.
    assert listener.batches == [[0], [1, 4, 5], [1], [4], [5], [2, 8], [3], [7]]
    assert other.batches == [[6]]


def test_several_batches_are_under_way_at_once() -> None:
    class Meeting(Listener):
        """Answers when a second batch has come."""

        def __init__(self) -> None:
            super().__init__()
            self.met = threading.Barrier(2, timeout=10)

        def detect(self, *args: Any, **options: Any) -> list[list[Detections]]:
            self.met.wait()
            return super().detect(*args, **options)

    listener, told = Meeting(), []
    listener.released.set()
    worker = Worker(2, at_once=2, done=lambda count, seconds: told.append(count))
    # Different sizes: no two of them make a batch.
    jobs = [job(listener, number, hw=(64, 32 * number)) for number in range(1, 7)]
    for one in jobs:
        worker.submit(one)
    assert all(len(one.found.result(10)) == 3 for one in jobs)
    assert worker.is_alive
    worker.close(10)
    assert not worker.is_alive
    assert told == [1] * 6
    assert sorted(listener.batches) == [[number] for number in range(1, 7)]


def test_each_job_keeps_its_own_threshold() -> None:
    listener = Listener()
    worker = Worker(8)
    jobs = [job(listener, number, score=score) for number, score in enumerate((0, 0.6, 0.3, 0.95))]
    submitted(worker, listener, jobs)
    assert [len(one.found.result(10)) for one in jobs] == [3, 1, 2, 0]
    worker.close()
    assert listener.thresholds == [0.0, 0.3]


def test_a_cancelled_job_costs_nothing() -> None:
    listener = Listener()
    worker = Worker(1)
    jobs = [job(listener, number) for number in range(3)]
    worker.submit(jobs[0])
    assert listener.begun.wait(10)
    worker.submit(jobs[1])
    worker.submit(jobs[2])
    jobs[1].found.cancel()
    listener.released.set()
    assert len(jobs[2].found.result(10)) == 3
    worker.close()
    assert listener.batches == [[0], [2]]


def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    listener = Listener()
    done: list[int] = []
    worker = Worker(2, done=lambda count, seconds: done.append(count))
    jobs = [job(listener, number) for number in range(3)]
    submitted(worker, listener, jobs)
    worker.close()
    assert not worker.is_alive
    assert all(one.found.done() for one in jobs)
    assert done == [1, 2]
    with pytest.raises(RuntimeError):
        worker.submit(job(listener, 9))


def test_what_is_not_done_in_time_is_given_up() -> None:
    listener = Listener()
    worker = Worker(1)
    jobs = [job(listener, number) for number in range(2)]
    worker.submit(jobs[0])
    assert listener.begun.wait(10)
    worker.submit(jobs[1])
    worker.close(0.05)
    assert jobs[1].found.cancelled()
    listener.released.set()
    assert len(jobs[0].found.result(10)) == 3
