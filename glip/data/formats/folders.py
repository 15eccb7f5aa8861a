"""Data sets in a folder of many, as ODinW has them: some of them several folders deep.

`Packages/Raw/train` is a part of the set "Packages_Raw", as the official code names it. Knows
nothing about formats.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from glip.choices import Split

PART_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("valid", "val", "validation"),
    "test": ("test",),
}
"""What folders of the parts of a data set are called."""
DEPTH = 3
"""Folders below one another, until no data set is looked for any more."""


def folders_below(
    folder: Path, is_set: Callable[[Path], bool], *, depth: int = DEPTH, name: str = ""
) -> Iterator[tuple[str, Path]]:
    """Name and place of the data sets below a folder, in the order of their names.

    Args:
        folder: What holds them.
        is_set: Whether a folder is one; nothing is looked for below it then.
        depth: How deep to look.
        name: Of the folder, what the names of those below begin with.
    """
    parts = {part for names in PART_FOLDERS.values() for part in names}
    with os.scandir(folder) as entries:
        below = sorted(entry.name for entry in entries if entry.is_dir())
    for one in below:
        if one in parts or one.startswith("."):
            continue
        whole = "_".join(filter(None, (name, one.replace(" ", "_"))))
        if is_set(folder / one):
            yield whole, folder / one
        elif depth > 1:
            yield from folders_below(folder / one, is_set, depth=depth - 1, name=whole)
