"""The threads that ask the model, and the pictures that wait for it.

One of them on a CPU. On a GPU several, so that one batch is stacked and another turned into
detections while the GPU works at a third. Whatever waits when a thread is free goes through the
model together, as far as it agrees in padded size and options: nobody waits for company, and under
load batches fill by themselves. Knows nothing about requests; a bound on what waits is the
caller's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.pixels import Prepared
from glip.structures import Detections
from glip.text.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Job:
    """A picture and what to look for in it."""

    detector: Detector
    """The base model, or one with a learned prompt."""
    picture: Prepared
    prompt: Prompt
    options: PostprocessOptions
    found: Future[Detections] = field(default_factory=Future)
    """Cancelled, the job is left out."""

    def goes_with(self, other: Job) -> bool:
        """Whether both give together what each gives alone.

        Their thresholds may differ: a batch is searched by the lowest, and no detection depends on
        lower-scored ones.
        """
        return (
            self.detector is other.detector
            and self.picture.padded_hw == other.picture.padded_hw
            and replace(self.options, score=0.0) == replace(other.options, score=0.0)
        )


class Worker:
    """Runs jobs, oldest first, those that go with the oldest in the same batch."""

    def __init__(
        self,
        batch_size: int,
        *,
        at_once: int = 1,
        done: Callable[[int, float], object] = lambda count, seconds: None,
    ) -> None:
        """Starts its threads.

        Args:
            batch_size: Most pictures that go through the model together.
            at_once: Batches that are under way at a time, a thread for each.
            done: Told after each batch how many pictures it had and how long it took; one call at a
                time.
        """
        self._batch_size = batch_size
        self._done = done
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name="model", daemon=True) for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> Future[Detections]:
        """Put a job behind those that wait.

        Raises:
            RuntimeError: The worker is closed.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.found

    def close(self, seconds: float | None = None) -> None:
        """Finish what waits, and stop; what is not done after so many seconds is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        with self._changed:
            left = list(self._jobs)
            self._jobs.clear()
        for job in left:
            job.found.cancel()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are being done."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while True:
            batch = self._next()
            if batch is None:
                return
            start = time.perf_counter()
            outcomes = _look(batch)
            with self._changed:
                self._done(len(batch), time.perf_counter() - start)
            for job, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.found.set_exception(outcome)
                else:
                    job.found.set_result(outcome)

    def _next(self) -> list[Job] | None:
        """The oldest job that still matters, and others that go with it; None at the end."""
        with self._changed:
            while True:
                while not self._jobs:
                    if self._closed:
                        return None
                    self._changed.wait()
                first = self._jobs.popleft()
                if first.found.set_running_or_notify_cancel():
                    return [first, *self._company(first)]

    def _company(self, first: Job) -> list[Job]:
        """Takes out of the queue what goes with a job."""
        taken: list[Job] = []
        left: deque[Job] = deque()
        while self._jobs:
            job = self._jobs.popleft()
            if len(taken) + 1 < self._batch_size and job.goes_with(first):
                if job.found.set_running_or_notify_cancel():
                    taken.append(job)
            else:
                left.append(job)
        self._jobs = left
        return taken


def _look(batch: list[Job]) -> list[Detections | Exception]:
    """Detections of each job of a batch, or what went wrong with it."""
    options = replace(batch[0].options, score=min(job.options.score for job in batch))
    try:
        results = batch[0].detector.detect(
            [job.picture for job in batch], [[job.prompt] for job in batch], options=options
        )
        return [
            found[found.scores > job.options.score]
            for job, (found,) in zip(batch, results, strict=True)
        ]
    except Exception as error:  # the thread outlives whatever one batch does
        if len(batch) == 1:
            return [error]
    # One bad prompt, or too little memory for all: not the others' fault.
    return [outcome for job in batch for outcome in _look([job])]
