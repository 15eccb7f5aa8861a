"""What a GPU would have to be waited for, seen on fake tensors of one that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Uploads(TorchDispatchMode):
    """Operators between host and GPU, for which the latter is waited for.

    Not those that are given a single number, which goes along with a launch, nor copies that need
    not block.

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
        named = kwargs or {}
        result = func(*args, **named)
        tensors = [leaf for leaf in tree_leaves((args, named, result)) if isinstance(leaf, Tensor)]
        places = {one.device.type for one in tensors if one.dim() or one.device.type != "cpu"}
        if len(places) > 1 and not named.get("non_blocking"):
            self.found.append(str(func))
        return result
