"""A function of tensors whose launches are recorded once for each set of sizes, and then replayed.

On a GPU the host needs longer to launch a small model than the GPU to run it. A CUDA graph launches
all of it at once; it reads and writes the same memory each time, so inputs are copied there and
results from there. Knows nothing about what it runs.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Function = Callable[..., tuple[Tensor, ...]]
logger = logging.getLogger(__name__)

WARM_UP = 2  # runs before a recording, in which libraries choose their kernels
WORTH = 10  # plain runs that take about as long as a recording and its warm-up
REMEMBERED = 256  # sets of sizes whose calls are counted
RECORDING = threading.Lock()  # CUDA records for one thread of a process at a time


class Recording(Protocol):
    """What a function launched for inputs of one set of sizes."""

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The function's results for other numbers in inputs of the same sizes."""
        ...


class Memory:
    """What recordings on one GPU share: memory for all they make, and so a lock, as one runs at a
    time.

    Attributes:
        lock: To be held from copying inputs in to copying results out.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._last: torch.cuda.Stream | None = None

    @property
    def pool(self) -> Any:
        """CUDA's name for it."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return self._pool

    @property
    def stream(self) -> torch.cuda.Stream:
        """Where recordings are made, one for all: memory comes back to the stream it was for."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        return self._stream

    def leave(self) -> None:
        """Pool and stream of a recording that failed may refuse others, which get new ones."""
        self._pool = self._stream = None

    def follow(self) -> None:
        """Let the current stream wait for the one that used the memory before it."""
        now = torch.cuda.current_stream()
        if self._last is not None and self._last != now:
            now.wait_stream(self._last)
        self._last = now


class CudaGraph:
    """A `Recording` on a GPU.

    Args:
        function: Launches the same for all inputs of these sizes, and reads nothing back.
        inputs: On one GPU.
        memory: Of this and other recordings.
    Raises:
        RuntimeError: The function cannot be recorded, or memory is short.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor], memory: Memory) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph, self._memory = torch.cuda.CUDAGraph(), memory
        with torch.cuda.device(inputs[0].device):
            memory.follow()
            stream = memory.stream
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # around all: a failed recording leaves its own behind
                for _ in range(WARM_UP):
                    function(*self._inputs)
                recording = torch.cuda.graph(
                    self._graph, pool=memory.pool, stream=stream, capture_error_mode="thread_local"
                )
                # `Held` not before: what a warm-up makes may be kept.
                with RECORDING, recording, Held() as held:
                    self._results = function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
        self._held = held.tensors

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """See `Recording`; the results are the caller's own."""
        with torch.cuda.device(self._inputs[0].device):
            self._memory.follow()
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            self._graph.replay()
            return tuple(result.clone() for result in self._results)


class Held(TorchDispatchMode):
    """Keeps what is read inside and was not made there: a graph reads it again, by its address.

    Above all tables of places, which their caches may forget.

    Attributes:
        tensors: One for each piece of memory.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors: dict[int, Tensor] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and _memory(tensor) not in self._made:
                self.tensors[_memory(tensor)] = tensor
        result = func(*args, **(kwargs or {}))
        made = (_memory(one) for one in tree_leaves(result) if isinstance(one, Tensor))
        self._made.update(memory for memory in made if memory not in self.tensors)
        return result


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Replay:
    """Calls a function, by a recording from the second call with inputs of the same sizes on.

    Once as many are kept as may be, other sizes take the place of those unused for longest only
    when they have come so often that their recording is worth its time: data of many sizes would
    else be recorded again and again. Any number of threads may use one. What cannot be recorded
    runs plainly.

    Args:
        function: Of tensors on one device; what it launches depends on nothing but their sizes.
        memory: Shared by several of these.
        most: Recordings that are kept; those unused for longest go first.
        record: Makes a recording; another one in tests on machines without a GPU.
    """

    def __init__(
        self,
        function: Function,
        memory: Memory,
        most: int = 8,
        record: Callable[[Function, Sequence[Tensor], Memory], Recording] = CudaGraph,
    ) -> None:
        self._function = function
        self._memory = memory
        self._most = most
        self._record = record
        self._seen: OrderedDict[object, int] = OrderedDict()
        self._kept: OrderedDict[object, Recording | None] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's results."""
        sizes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        with self._memory.lock:
            if sizes in self._kept:
                self._kept.move_to_end(sizes)
            elif self._is_due(sizes):
                self._kept[sizes] = self._recorded(inputs)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            recording = self._kept.get(sizes)
            if recording is not None:
                return recording(inputs)
        return self._function(*inputs)

    def _is_due(self, sizes: object) -> bool:
        """Count a call with sizes that have no recording; whether it should make one."""
        calls = self._seen.pop(sizes, 0) + 1
        if calls >= (2 if len(self._kept) < self._most else WORTH):
            return True
        self._seen[sizes] = calls
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _recorded(self, inputs: Sequence[Tensor]) -> Recording | None:
        try:
            return self._record(self._function, inputs, self._memory)
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError):  # which ends in good order
                self._memory.leave()
            logger.warning(
                "inputs of %s are not replayed as a CUDA graph (%s)",
                " and ".join(str(tuple(tensor.shape)) for tensor in inputs[:1]),
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
            return None
