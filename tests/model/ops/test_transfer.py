"""Numbers between the host and a GPU: values as they were, one copy, and nobody waits too long."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from glip.model.ops.transfer import Arriving, uploaded

PRETENDED = pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_on_a_processor_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert uploaded(tensor, "cpu") is tensor


@PRETENDED
def test_upload_of_a_fake_tensor_pins_nothing() -> None:
    with FakeTensorMode():
        assert uploaded(torch.arange(3), "cuda").device.type == "cuda"


@pytest.mark.parametrize("shapes", [[], [(2, 3)], [(2, 3, 6), (0, 4, 6), (1,), ()]])
def test_what_arrives_is_what_was_sent(shapes: list[tuple[int, ...]]) -> None:
    sent = [torch.randn(shape) for shape in shapes]
    arriving = Arriving(sent)
    for _ in range(2):
        assert [one.equal(other) for one, other in zip(arriving.wait(), sent, strict=True)] == [
            True
        ] * len(sent)


@PRETENDED
def test_the_host_waits_for_the_copy_only_and_when_it_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking  # or a waiting thread would keep a core busy

        def record(self, stream: object) -> None:
            done.append(f"mark {stream}")

        def synchronize(self) -> None:
            done.append("wait")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    with FakeTensorMode():
        sent: list[Any] = [torch.empty(size, 6, device="cuda") for size in (3, 2)]
        arriving = Arriving(sent)
        assert done == ["mark stream of cuda:0"]
        assert [one.shape for one in arriving.wait()] == [(3, 6), (2, 6)]
    assert done == ["mark stream of cuda:0", "wait"]


@ON_GPU
def test_on_a_gpu_both_ways_keep_the_numbers() -> None:
    sent = [torch.randn(1000, 6), torch.randn(3)]
    there = [uploaded(one, "cuda") for one in sent]
    assert all(one.is_cuda for one in there)
    assert all(a.equal(b) for a, b in zip(Arriving(there).wait(), sent, strict=True))
