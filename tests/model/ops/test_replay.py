"""Recordings by size, with something that stands for a CUDA graph where there is no GPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.model.ops.replay import WORTH, CudaGraph, Function, Held, Memory, Replay


class Tape:
    """A recording as a GPU has it: always the same memory for inputs and results."""

    made: list[tuple[int, ...]]

    def __init__(self, function: Function, inputs: Sequence[Tensor], memory: Memory) -> None:
        self.function = function
        self.inputs = [tensor.clone() for tensor in inputs]
        self.results = [result.clone() for result in function(*self.inputs)]
        Tape.made.append(tuple(inputs[0].shape))

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        for own, new in zip(self.results, self.function(*self.inputs), strict=True):
            own.copy_(new)
        return tuple(result.clone() for result in self.results)


@pytest.fixture(autouse=True)
def no_tapes() -> None:
    Tape.made = []


def doubled(x: Tensor) -> tuple[Tensor, ...]:
    return (2 * x,)


def test_second_call_of_a_size_records_and_later_ones_replay() -> None:
    replay = Replay(doubled, Memory(), record=Tape)
    results = [replay(torch.full((3,), float(number)))[0] for number in range(5)]
    assert Tape.made == [(3,)]
    assert [result.tolist() for result in results] == [[2.0 * number] * 3 for number in range(5)]


def test_only_the_recordings_used_last_are_kept() -> None:
    replay = Replay(doubled, Memory(), most=2, record=Tape)
    for size in (1, 1, 2, 2, 1, *[3] * WORTH, 1, *[2] * WORTH):
        replay(torch.ones(size))
    # The third one pushes out size 2, which had not been used since; size 1 had.
    assert Tape.made == [(1,), (2,), (3,), (2,)]


def test_data_of_many_sizes_is_not_recorded_again_and_again() -> None:
    replay = Replay(doubled, Memory(), most=2, record=Tape)
    rounds = 4 * WORTH
    for _ in range(rounds):
        for size in range(1, 9):  # none is asked twice in a row
            assert replay(torch.ones(size))[0].tolist() == [2.0] * size
    assert Tape.made[:2] == [(1,), (2,)]
    assert len(Tape.made) <= 8 * rounds / WORTH


def test_what_cannot_be_recorded_runs_plainly(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(function: Function, inputs: Sequence[Tensor], memory: Memory) -> Tape:
        raise RuntimeError("operation not permitted\nmore")

    replay = Replay(doubled, Memory(), record=refuse)
    for _ in range(4):
        assert replay(torch.ones(2))[0].tolist() == [2.0, 2.0]
    assert caplog.text.count("(2,) are not replayed as a CUDA graph (operation not permitted)") == 1


def test_threads_do_not_see_each_others_numbers() -> None:
    replay = Replay(doubled, Memory(), record=Tape)

    def ask(number: int) -> list[float]:
        return replay(torch.full((100,), float(number)))[0].unique().tolist()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(200)))
    assert found == [[2.0 * number] for number in range(200)]


def test_memory_that_a_function_only_reads_is_held() -> None:
    places, x = torch.tensor([2, 0]), torch.randn(3)
    with Held() as held:
        chosen = x[places].mul(2)
        chosen.add_(1)
    memory = {tensor.data_ptr() for tensor in held.tensors.values()}
    assert memory == {places.data_ptr(), x.data_ptr()}


class Stream:
    """What a CUDA stream is to recordings: something that waits for others."""

    def __init__(self) -> None:
        self.waits: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waits.append(other)


class Cuda:
    """The parts of `torch.cuda` that recordings use, for tensors on a CPU.

    As in torch, a recording that fails does not put the current stream back.
    """

    def __init__(self) -> None:
        self.main = self.current = Stream()
        self.recorded_on: list[Stream] = []
        self.pools: list[object] = []
        self.fails = False

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: object, *, stream: Stream, pool: object, **_: object) -> Iterator[None]:
        self.recorded_on.append(stream)
        self.pools.append(pool)
        before, self.current = self.current, stream
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.current = before


class NoGraph:
    """A graph of nothing."""

    def replay(self) -> None: ...


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found, pools = Cuda(), itertools.count()
    fakes: dict[str, Any] = {
        "CUDAGraph": NoGraph,
        "Stream": Stream,
        "current_stream": lambda: found.current,
        "device": lambda device: nullcontext(),
        "graph": found.graph,
        "graph_pool_handle": lambda: (0, next(pools)),
        "stream": found.stream,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return found


def test_all_recordings_are_made_on_one_stream(cuda: Cuda) -> None:
    # The allocator gives memory back to the stream that it was for, even inside a shared pool.
    memory = Memory()
    for replay in (Replay(doubled, memory), Replay(doubled, memory)):
        for size in (1, 1, 2, 2):
            replay(torch.ones(size))
    assert len(cuda.recorded_on) == 4 and len(set(cuda.recorded_on)) == 1
    assert cuda.recorded_on[0] is not cuda.main and cuda.current is cuda.main


def test_recording_that_fails_leaves_the_stream_that_was(cuda: Cuda) -> None:
    cuda.fails = True
    replay = Replay(doubled, Memory())
    results = [replay(torch.ones(2))[0].tolist() for _ in range(3)]
    assert results == [[2.0, 2.0]] * 3 and len(cuda.recorded_on) == 1
    assert cuda.current is cuda.main


def test_recording_after_one_that_failed_has_pool_and_stream_of_its_own(cuda: Cuda) -> None:
    # Those of a recording that was broken off may refuse all others.
    replay = Replay(doubled, Memory())
    for size, cuda.fails in ((1, False), (2, True), (3, False), (4, False)):
        replay(torch.ones(size))
        replay(torch.ones(size))
    before, failed, *after = zip(cuda.recorded_on, cuda.pools, strict=True)
    assert before == failed and after[0] == after[1]
    assert after[0][0] is not failed[0] and after[0][1] != failed[1]


def test_callers_on_streams_of_their_own_take_turns(cuda: Cuda) -> None:
    replay, other = Replay(doubled, Memory()), Stream()
    for _ in range(3):
        replay(torch.ones(2))
    assert other not in cuda.main.waits
    with cuda.stream(other):
        replay(torch.ones(2))
        replay(torch.ones(2))
    assert other.waits == [cuda.main]
    replay(torch.ones(2))
    assert cuda.main.waits[-1] is other


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_graph_gives_what_the_function_gives() -> None:
    weight = torch.randn(64, 64, device="cuda")
    replay = Replay(lambda x: ((x @ weight).relu(), x.sum(0)), Memory(), record=CudaGraph)
    for _ in range(4):
        x = torch.randn(8, 64, device="cuda")
        for found, expected in zip(replay(x), ((x @ weight).relu(), x.sum(0)), strict=True):
            assert found.equal(expected)
