"""Numbers on their way between the host and a GPU, while both go on with their work.

A plain copy makes the host wait for all that the GPU was given before. Here the host's side of a
copy lies in pinned memory, which a GPU reads and writes by itself; who needs the numbers waits for
them, and for nothing that the GPU was given after them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._guards import detect_fake_mode


def uploaded(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on a device; if that is a GPU, nobody waits for it."""
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    if detect_fake_mode(tensor) is not None:  # without numbers there is no memory to pin
        return tensor.to(device, non_blocking=True)
    return tensor.pin_memory().to(device, non_blocking=True)


class Arriving:
    """Tensors on their way to the host, in one copy.

    Args:
        tensors: Of any shapes, of one number format and on one device.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._shapes = [tensor.shape for tensor in tensors]
        joined = torch.cat([tensor.flatten() for tensor in tensors]) if tensors else torch.empty(0)
        self._copy = joined.to("cpu", non_blocking=joined.is_cuda)  # into pinned memory then
        self._event: torch.cuda.Event | None = None
        if joined.is_cuda:
            self._event = torch.cuda.Event(blocking=True)  # a thread that waits leaves its core
            self._event.record(torch.cuda.current_stream(joined.device))

    def wait(self) -> list[Tensor]:
        """The tensors, on the host."""
        if self._event is not None:
            self._event.synchronize()
        parts = self._copy.split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
