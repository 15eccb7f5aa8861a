"""The small data set that ships with the package: 22 pictures, half a megabyte."""

from __future__ import annotations

import os
from pathlib import Path

from glip.errors import StorageError
from glip.files import failing_disk, make_folder, whole_path

SAMPLE_SET = Path(__file__).parent / "sample_set"


def copy_samples(folder: str | os.PathLike[str] = "samples") -> Path:
    """A copy of the set: `images`, `train.json` and `val.json` (COCO), `captions.tsv`, a README.

    A copy that is there already stays as it is.

    Args:
        folder: Where to; made if it is not there.
    Returns:
        The folder.
    Raises:
        StorageError: It cannot be written, or a file there has the name of one of the set and
            another content; nothing is overwritten.
    """
    target = Path(folder)
    files = {
        target / source.relative_to(SAMPLE_SET): source.read_bytes()
        for source in sorted(SAMPLE_SET.rglob("*"))
        if os.path.isfile(source)
    }
    there = {path for path in files if os.path.lexists(path)}
    for path in sorted(there):
        if not os.path.isfile(path) or path.read_bytes() != files[path]:
            raise StorageError(
                f"{path} is there already, and is not the sample of that name; give another folder"
            )
    make_folder(target / "images")
    for path in sorted(files.keys() - there):
        with failing_disk(path), whole_path(path) as unfinished:
            unfinished.write_bytes(files[path])
    return target
