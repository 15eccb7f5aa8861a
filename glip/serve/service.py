"""Answers for requests: pictures are read in threads, looked at by the worker, and waited for here.

The middle of the server: knows detectors, limits and deadlines, nothing about HTTP routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import Image

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import GlipError
from glip.pixels import Prepared
from glip.serve.fetch import fetch_public
from glip.serve.metrics import Metrics
from glip.serve.options import ServeOptions
from glip.serve.pictures import ADDRESS, Fetch, Picture, content_of, no_addresses, read_picture
from glip.serve.refusals import Refusal, refusal_of
from glip.serve.worker import Job, Worker
from glip.structures import Detections
from glip.text.prompt import Prompt

T = TypeVar("T")
Gone = Callable[[], Any]


@dataclass(frozen=True)
class Ask:
    """One picture and what to look for in it."""

    picture: Picture
    prompt: Prompt
    detector: Detector
    options: PostprocessOptions
    fitted: bool
    """Whether the thresholds fitted for the classes of a learned prompt hold as well."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What became of an `Ask`."""

    detections: Detections
    content: bytes
    """Of the picture's file, for drawing on it."""


class Service:
    """A detector, its learned prompts, and the requests that are being answered.

    Attributes:
        detector: The base model.
        tasks: By the name that requests ask for, detectors that share its weights.
        options: Of the server.
        metrics: What happens.
        is_closing: No new request is answered any more.
    """

    def __init__(
        self, detector: Detector, tasks: Mapping[str, Detector], options: ServeOptions
    ) -> None:
        self.detector = detector
        self.tasks = dict(tasks)
        self.options = options
        self.metrics = Metrics()
        self.is_closing = False
        self._inside = 0
        self._seconds = 0.2  # a picture takes about so long
        self._readers = ThreadPoolExecutor(options.readers, thread_name_prefix="read")
        self._worker = Worker(
            options.batch_size_on(str(detector.device)),
            at_once=detector.pace.at_once,
            done=self._batch_done,
        )

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        return self._worker.is_alive and not self.is_closing

    def task(self, name: str | None) -> Detector:
        """The detector of a task, or the base model.

        Raises:
            Refusal: There is no such task.
        """
        if name is None:
            return self.detector
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none"
            raise Refusal(
                404, "unknown_task", f"there is no task {name[:64]!r} here; there is {known}"
            )
        return self.tasks[name]

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Room for so many pictures, from before they are read until they are answered.

        Raises:
            Refusal: There is none.
        """
        if not self.is_ready:
            raise Refusal(503, "stopping", "the server is stopping", retry_after=10)
        if self._inside + count > self.options.limits.queue:
            raise Refusal(
                429,
                "busy",
                "the server has too much to do; try again later",
                retry_after=min(60.0, self._inside * self._seconds),
            )
        self._inside += count
        self.metrics.inside.inc(count)
        try:
            yield
        finally:
            self._inside -= count
            self.metrics.inside.dec(count)

    async def answer(
        self, asks: Sequence[Ask], *, deadline: float, gone: asyncio.Future[Any] | None = None
    ) -> list[Seen]:
        """What is found in each picture.

        Args:
            asks: Their place in the queue is the caller's (`places`).
            deadline: On the clock of `time.monotonic`.
            gone: Done when whoever asked is no longer there.
        Raises:
            Refusal: One of the pictures cannot be used, or time is over.
        """
        tasks = [
            asyncio.ensure_future(self._answer_one(ask, number)) for number, ask in enumerate(asks)
        ]
        all_done = asyncio.gather(*tasks)
        # Whoever leaves before the end asks for no error, which asyncio would log as forgotten.
        all_done.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            left = deadline - time.monotonic()
            await asyncio.wait(
                {all_done, gone} if gone else {all_done},
                timeout=max(0.0, left),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if all_done.done():
                return all_done.result()
            if gone is not None and gone.done():
                raise Refusal(499, "gone", "nobody waits for the answer")
            raise Refusal(503, "too_slow", "there was not enough time", retry_after=10)
        finally:
            for task in tasks:  # what is left of them if one has failed or time is over
                task.cancel()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What takes long but needs no model, on one of the readers' threads."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def _answer_one(self, ask: Ask, number: int) -> Seen:
        try:
            content = ask.picture.content
            if isinstance(content, str):
                # An address can be slow: whoever sends pictures does not wait for its thread.
                run = asyncio.to_thread if ADDRESS.match(content) else self.in_thread
                content = await run(partial(content_of, ask.picture, self._fetch))
            prepared = await self.in_thread(partial(self._prepare, content, ask.detector))
            job = Job(ask.detector, prepared, ask.prompt, ask.options)
            found = await asyncio.wrap_future(self._worker.submit(job))
        except GlipError as error:
            refusal = refusal_of(error)
            if refusal.picture is None and refusal.code != "bad_prompt":
                refusal.picture = number
            raise refusal from error
        return Seen(ask.detector.above_fitted(found) if ask.fitted else found, content)

    def _prepare(self, content: bytes, detector: Detector) -> Prepared:
        return detector.prepare(read_picture(content, max_pixels=self.options.limits.max_pixels))

    @property
    def _fetch(self) -> Fetch:
        if not self.options.urls:
            return no_addresses
        limits = self.options.limits
        return partial(fetch_public, max_bytes=limits.max_bytes, seconds=limits.seconds)

    def draw(self, seen: Seen) -> Image.Image:
        """The picture with its detections."""
        image = read_picture(seen.content, max_pixels=self.options.limits.max_pixels)
        return seen.detections.plot(image)

    def _batch_done(self, count: int, seconds: float) -> None:
        each = seconds / count / self.detector.pace.at_once  # as long as others wait too
        self._seconds += 0.1 * (each - self._seconds)
        self.metrics.batch_done(count, seconds)

    def close(self) -> None:
        """Finish what was begun and stop."""
        self.is_closing = True
        self._readers.shutdown(cancel_futures=True)
        self._worker.close(self.options.limits.seconds)
