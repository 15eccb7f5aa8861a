"""What a GPU would have to be waited for, seen on fake tensors of one that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Uploads(TorchDispatchMode):
    """Operators that are given numbers of the host, for which a GPU is waited for.

    Attributes:
        found: Their names.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type == "cpu" and tensor.dim() for tensor in given):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))
