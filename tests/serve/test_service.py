"""The service without HTTP: places, deadlines, and people who leave."""

from __future__ import annotations

import asyncio
import base64
import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from glip.detector import Detector
from glip.postprocess import PostprocessOptions
from glip.serve.options import Limits, ServeOptions
from glip.serve.pictures import Picture
from glip.serve.refusals import Refusal
from glip.serve.service import Ask, Service
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole


@pytest.fixture
def service(served: Detector) -> Iterator[Service]:
    made = Service(served, {}, ServeOptions(limits=Limits(queue=3)))
    yield made
    made.close()


def asks(service: Service, *contents: bytes | str) -> list[Ask]:
    prompt, options = Prompt.from_classes(["cat"]), PostprocessOptions()
    return [
        Ask(Picture(content, "a"), prompt, service.detector, options, False) for content in contents
    ]


def soon() -> float:
    return time.monotonic() + 20


def test_answers_keep_the_order_of_the_pictures(service: Service, photo: bytes) -> None:
    seen = asyncio.run(service.answer(asks(service, photo, photo), deadline=soon()))
    assert [one.content for one in seen] == [photo, photo]
    assert len(seen[0].detections) == len(seen[1].detections) > 0


def test_places_are_given_back_whatever_happens(service: Service) -> None:
    def fail(count: int) -> None:
        with service.places(count):
            raise ZeroDivisionError

    with service.places(2):
        with pytest.raises(Refusal) as refused:
            fail(2)
        assert (refused.value.status, refused.value.code) == (429, "busy")
        assert refused.value.retry_after is not None
        with pytest.raises(ZeroDivisionError):
            fail(1)
    with pytest.raises(ZeroDivisionError):
        fail(3)


def test_one_bad_picture_ends_the_others(service: Service, photo: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(service.answer(asks(service, photo, b"broken"), deadline=soon()))
    assert refused.value.picture == 1


def test_slow_addresses_keep_no_picture_that_is_sent_waiting(
    served: Detector, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def slow(url: str, **limits: Any) -> bytes:
        assert released.wait(60)
        return photo

    monkeypatch.setattr("glip.serve.service.fetch_public", slow)
    service = Service(served, {}, ServeOptions(urls=True))
    sent = base64.b64encode(photo).decode()

    async def visit() -> None:
        far = asyncio.ensure_future(
            service.answer(asks(service, *["http://example.org/a.png"] * 40), deadline=soon() + 40)
        )
        await asyncio.sleep(0.1)
        [one] = await service.answer(asks(service, sent), deadline=soon())
        assert one.content == photo and not far.done()
        released.set()
        assert len(await far) == 40

    try:
        asyncio.run(visit())
    finally:
        released.set()
        service.close()


def test_nobody_works_for_people_who_left(
    service: Service,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, released = threading.Event(), threading.Event()
    plain, batches = service.detector.detect, []

    def slow(pictures: Any, *args: Any, **options: Any) -> Any:
        begun.set()
        assert released.wait(20)
        batches.append(len(pictures))
        return plain(pictures, *args, **options)

    monkeypatch.setattr(service.detector, "detect", slow)

    async def visit() -> None:
        stays = asyncio.ensure_future(service.answer(asks(service, photo), deadline=soon()))
        await asyncio.to_thread(begun.wait, 20)
        gone: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        leaves = asyncio.ensure_future(
            service.answer(asks(service, photo), deadline=soon(), gone=gone)
        )
        await asyncio.sleep(0.3)  # prepared, and behind the first
        gone.set_result(None)
        with pytest.raises(Refusal, match="nobody waits"):
            await leaves
        released.set()
        await stays
        await asyncio.sleep(0)
        del leaves
        gc.collect()  # when asyncio complains of errors that nobody asked for

    with caplog.at_level("ERROR", logger="asyncio"):
        asyncio.run(visit())
    service.close()
    assert batches == [1]
    assert not caplog.messages


def test_tasks_by_name(service: Service) -> None:
    assert service.task(None) is service.detector
    with pytest.raises(Refusal, match="no task 'rust' here; there is none"):
        service.task("rust")
