"""Tables that depend on sizes only: made once for each, and kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def kept(most: int) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Remember the last results of a function of sizes and device names.

    Tensors in them outlive the inference mode that they were first asked in; compilers take them
    for constants; and those that an exporter asks for, which hold no numbers, are for it alone.
    They are shared between calls: nobody may write to them.

    Args:
        most: Results to remember.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @lru_cache(maxsize=most)
        def made(_: object, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            with torch.inference_mode(False):
                return function(*arguments, **options)

        @wraps(function)
        def remembered(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            return made(detect_fake_mode(), *arguments, **options)  # type: ignore[arg-type]

        # What `torch.compiler.assume_constant_result` does, which imports the compiler for it: more
        # than a second for those who never compile.
        remembered._dynamo_marked_constant = True  # type: ignore[attr-defined]
        return remembered

    return decorate
