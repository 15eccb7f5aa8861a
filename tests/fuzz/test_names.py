"""Names that no file has or can have, handed in wherever a file or folder is asked for.

The system refuses them in other words than a missing file; so does a folder above that may not be
entered. Each is an error of ours that says so, never one of the system.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.checkpoint import read_config as read_weights_config
from glip.data.doctor.examine import examine
from glip.data.formats.flickr import read_flickr
from glip.data.formats.recognise import read_annotated
from glip.data.pictures import open_pictures
from glip.errors import GlipError
from glip.evaluation.odinw import odinw_sets
from glip.files import make_folder, whole_file, whole_folder
from glip.images import list_images, list_pictures, load_image, save_image
from glip.jobs.journal import Journal
from glip.labelling.job import take_corrected
from glip.labelling.ontology import Ontology
from glip.model_files import find_model
from glip.pseudo.captions import CaptionSet
from glip.settings import read_yaml
from glip.task_prompt import read_prompt
from glip.text.class_list import class_names
from glip.tuning.protocol import data_sets
from tests.data.formats.trees import coco, grow
from tests.fuzz.border import refusal


def nothing_is_written(writing: Any) -> None:
    """A writer that is asked whether it would."""
    with writing:
        pytest.fail("what cannot be kept is refused before the work")


READERS: dict[str, Callable[[Path, Path], object]] = {
    "data": lambda path, base: read_annotated(path),
    "pictures of data": lambda path, base: read_annotated(base / "c.json", path),
    "pictures": lambda path, base: open_pictures(path),
    "sentences": lambda path, base: read_flickr(path),
    "sets": lambda path, base: odinw_sets([path]),
    "parts": lambda path, base: data_sets(path),
    "folder of pictures": lambda path, base: list_images(path),
    "pictures to label": lambda path, base: list(list_pictures(path)),
    "picture": lambda path, base: load_image(path),
    "captions": lambda path, base: CaptionSet(path),
    "pictures of captions": lambda path, base: CaptionSet(base / "c.tsv", path),
    "classes": lambda path, base: class_names(f"{path}.txt"),
    "ontology": lambda path, base: Ontology.read(path),
    "settings": lambda path, base: read_yaml(path),
    "learned prompt": lambda path, base: read_prompt(path),
    "model": lambda path, base: find_model(path),
    "weights": lambda path, base: read_weights_config(path),
    "corrected": lambda path, base: take_corrected(path, base / "out"),
    "proposed": lambda path, base: take_corrected(base / "c.json", base / "out", proposed=path),
}
WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "journal": lambda path, base: Journal(path, {}),
    "labels": lambda path, base: take_corrected(base / "c.json", path),
    "folder": lambda path, base: make_folder(path),
    "file": lambda path, base: nothing_is_written(whole_file(path)),
    "whole folder": lambda path, base: nothing_is_written(whole_folder(path)),
    "drawn": lambda path, base: save_image(Image.new("RGB", (8, 8)), path.with_suffix(".png")),
}
NAMES = {"long": "n" * 300, "deep": "/".join(["d" * 200] * 25), "below a file": "c.json/x"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small data set and captions of it."""
    grow(tmp_path, {"c.json": coco("a.png"), "a.png": None})
    (tmp_path / "c.tsv").write_text("a.png\ta cat\n")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_read(reader: str, name: str, base: Path) -> None:
    assert refusal(lambda: READERS[reader](base / NAMES[name], base)) is not None
    assert examine(base / NAMES[name], quick=True).exit_code == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written(writer: str, name: str, base: Path) -> None:
    with pytest.raises(GlipError):
        WRITERS[writer](base / NAMES[name], base)
    assert sorted(path.name for path in base.iterdir()) == ["a.png", "c.json", "c.tsv"]
