"""What all writers have in common: what is written, pictures beside it, text and XML.

Knows no format.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from PIL import Image

from glip.choices import PictureMode
from glip.data.formats.archive import is_temporary
from glip.data.labels import Labelled, Part, part_of
from glip.data.pictures import is_inside, is_turned
from glip.errors import ConfigError, DataError, ImageError
from glip.files import fitting
from glip.images import load_image, save_image

logger = logging.getLogger(__name__)

LABEL_STUDIO_PREFIX = "/data/local-files/?d="
"""How Label Studio addresses files below the folder that it was told to serve; that is the parent
of the picture folder, whose name follows."""


@dataclass(frozen=True)
class DataSet:
    """What is to be written."""

    pictures: Iterable[Labelled]
    """Run through several times, in the same order each time."""
    names: tuple[str, ...]
    """Of all classes, in order."""
    root: Path
    """Folder that the pictures' names start from."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Of classes that are a kind of something."""
    source: str = "glip"
    """What made the labels, such as a name of weights."""
    val_share: float = 0.0
    """Share of pictures that is for validation; 0 does not divide them."""
    place: PictureMode = "none"
    """Pictures stay where they are, or are linked or copied into the data set. Copies are upright:
    those that EXIF would turn are encoded anew, the others are the same bytes."""
    prefix: str = LABEL_STUDIO_PREFIX
    """For Label Studio: what stands before a picture's name in its address."""

    def __post_init__(self) -> None:
        if not 0 <= self.val_share < 1:
            raise ConfigError(
                f"the share for validation must lie in [0, 1), got {self.val_share}; 0.2 is a fifth"
            )

    @property
    def parts(self) -> tuple[Part | None, ...]:
        """The parts it is divided into; None alone is all of it."""
        return ("train", "val") if self.val_share else (None,)

    def of(self, part: Part | None) -> Iterator[Labelled]:
        """The pictures of a part."""
        for picture in self.pictures:
            if part is None or part_of(picture.picture, self.val_share) == part:
                yield picture


def place_all(data: DataSet, folder: Path) -> None:
    """Pictures for the formats that name them by their path below a picture folder."""
    if data.place != "none":
        for picture in data.pictures:
            place_picture(data, picture.picture, folder / "images" / picture.picture)


def place_picture(data: DataSet, picture: str, target: Path) -> None:
    """Link or copy a picture into the data set, if it is to be there."""
    if data.place == "none":
        return
    if not is_inside(picture):
        raise DataError(f"picture {picture} leads out of its folder {data.root}")
    source = data.root / picture
    target.parent.mkdir(parents=True, exist_ok=True)
    if data.place == "link" and not is_temporary(source):
        try:
            target.symlink_to(source.resolve())
            return
        except (OSError, NotImplementedError) as error:  # Windows asks for a right
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
    upright = _turned(source) if data.place == "copy" else None
    if upright is None:
        shutil.copyfile(source, target)
    else:
        save_image(upright, target)


def _turned(picture: Path) -> Image.Image | None:
    """The upright picture where EXIF asks to turn or mirror it, else None.

    One that cannot be read is copied as it is: its labels need not be lost with it.
    """
    try:
        return load_image(picture) if is_turned(picture) else None
    except ImageError as error:
        logger.warning("%s: it is copied as it is", error)
        return None


def flat_name(picture: str) -> PurePosixPath:
    """A name in one folder that tells which folder the picture was in."""
    return PurePosixPath(fitting(*os.path.splitext(picture.replace("/", "__"))))


def unused_name(name: PurePosixPath, file_of: Callable[[PurePosixPath], Path]) -> PurePosixPath:
    """The name, or if its label file is taken, as that of a.jpg is for a.png, one close to it."""
    tried = name
    number = 1
    while os.path.lexists(file_of(tried)):
        number += 1
        tried = name.with_name(f"{name.stem}_{number}{name.suffix}")
    return tried


@contextlib.contextmanager
def text_file(path: Path, *, mode: Literal["w", "x"] = "w") -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file to write to, with the same line ends everywhere."""
    with path.open(mode, encoding="utf-8", newline="\n") as file:
        yield file


def as_json(value: Any) -> str:
    """A value in a line of JSON, with letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def write_list(
    file: IO[str], key: str, entries: Iterable[dict[str, Any]], *, last: bool = False
) -> None:
    """One list of a JSON object, entry by entry."""
    file.write(f"{as_json(key)}: ")
    write_array(file, entries)
    file.write("\n" if last else ",\n")


def write_array(file: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    """A JSON array, entry by entry."""
    file.write("[")
    for number, entry in enumerate(entries):
        file.write(",\n" if number else "\n")
        file.write(as_json(entry))
    file.write("\n]")


class XmlFile:
    """An indented XML file, written as its elements come.

    Args:
        file: To write to.
        declaration: Whether it begins with one; some readers refuse it.
    """

    def __init__(self, file: io.TextIOBase, *, declaration: bool = True) -> None:
        self._out = XMLGenerator(file, encoding="utf-8", short_empty_elements=True)
        self._depth = 0
        if declaration:
            self._out.startDocument()

    @contextlib.contextmanager
    def element(self, tag: str, /, **attributes: object) -> Iterator[None]:
        """An element around others."""
        self._start(tag, attributes)
        self._depth += 1
        yield
        self._depth -= 1
        self._new_line()
        self._out.endElement(tag)
        if not self._depth:
            self._out.ignorableWhitespace("\n")

    def text(self, tag: str, content: object = "", /, **attributes: object) -> None:
        """An element with text in it, or nothing."""
        self._start(tag, attributes)
        if content != "":
            self._out.characters(str(content))
        self._out.endElement(tag)

    def _start(self, tag: str, attributes: Mapping[str, object]) -> None:
        if self._depth:
            self._new_line()
        words = {key: str(value) for key, value in attributes.items()}
        self._out.startElement(tag, AttributesImpl(words))

    def _new_line(self) -> None:
        self._out.ignorableWhitespace("\n" + "  " * self._depth)
