"""Odd values, odd bytes and odd files, as every border may meet them."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2.5, float("nan"), float("inf"), 1e39, 1e308, 10**25, 10**400, "", "x", "0",
    "nan", "../x", "/etc/passwd", "a\0b", "n" * 5_000, [], {}, [[]], [None], {"a": 1}, [1, 2, 3],
    "\ud800",
)  # fmt: skip
"""What real files and careless scripts have where something else is expected."""


def places(content: Any) -> Iterator[tuple[Any, ...]]:
    """Where a value stands, of all values of some content."""
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield (key,)
        for rest in places(value):
            yield (key, *rest)


def spoiled(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    whole = copy.deepcopy(content)
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return whole


def damaged(content: bytes, times: int, seed: int = 0) -> Iterator[bytes]:
    """Broken off, with bytes changed, left out or repeated, at seeded random places."""
    rng = random.Random(seed)
    for _ in range(times):
        start = rng.randrange(len(content))
        end = min(len(content), start + rng.choice((1, 2, 8, 100)))
        kind = rng.randrange(4)
        if kind == 0:
            yield content[:start]
        elif kind == 1:
            yield content[:start] + rng.randbytes(end - start) + content[end:]
        elif kind == 2:
            yield content[:start] + content[end:]
        else:
            yield content[:start] + content[start:end] * rng.choice((2, 50)) + content[end:]


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def in_latin_1(path: Path) -> None:
    path.write_bytes(b"caf\xe9 \xff\xfe\x00")


def a_picture(path: Path) -> None:
    Image.new("RGB", (9, 9)).save(path, "PNG")


def nothing(path: Path) -> None:
    path.touch()


def deep_brackets(path: Path) -> None:
    path.write_text("[" * 100_000)


def deep_braces(path: Path) -> None:
    path.write_text('{"a":' * 100_000)


def many_digits(path: Path) -> None:
    path.write_text('{"a": ' + "1" * 5_000 + "}")


def repeated_aliases(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join([*lines, "names: *a11", "classes: *a11"]))


KINDS: tuple[Callable[[Path], None], ...] = (
    a_folder, a_link_to_nothing, a_link_to_itself, a_pipe, an_endless_device, in_latin_1, a_picture,
    nothing, deep_brackets, deep_braces, many_digits, repeated_aliases,
)  # fmt: skip
"""What a file that is to hold words may be instead; each makes one at a path where nothing is."""
