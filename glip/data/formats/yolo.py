"""YOLO and darknet: a text file of labels for each picture, the names of the classes beside them.

A line is "class x y width height", centre and size in shares of the picture; of a polygon its
corners, of a pose its box and then points. The names stand in `data.yaml` (ultralytics, Roboflow),
in `classes.txt` (Label Studio, labelImg), or in a file that `obj.data` names (darknet, CVAT).

Of the keys of `data.yaml` only `path` may lead elsewhere; all else is looked for below it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import msgspec
import yaml

from glip.data.faults import Faults
from glip.data.formats.content import checked, is_coordinate, read_text, read_yaml, text_lines
from glip.data.formats.entries import Entry, Request, Shape, annotated
from glip.data.formats.layout import DataSet, flat_name, place_picture, text_file, unused_name
from glip.data.labels import Labelled
from glip.data.matching import match_names, plain_stem
from glip.data.pictures import PictureFolder, Pictures, is_inside, open_pictures
from glip.data.records import Annotated
from glip.errors import DataError

SPLITS = ("train", "val", "test")


class _Settings(msgspec.Struct):
    """`data.yaml`; every value is a word, so that a class may be called "no"."""

    names: list[str] | dict[str, str]
    path: str = ""
    train: str | list[str] = ""
    val: str | list[str] = ""
    valid: str | list[str] = ""
    test: str | list[str] = ""
    kpt_shape: list[int] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """What the settings of a data set say."""

    file: Path
    """Where they stand."""
    names: Mapping[int, str]
    base: Path
    """Folder that the parts are below."""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of each split, folders of pictures or text files that list them."""
    point_values: int = 0
    """Numbers of a pose that follow its box."""


def settings_file_of(folder: Path) -> Path | None:
    """The file with the names of a YOLO data set, if the folder is one."""
    for name in ("data.yaml", "data.yml", "obj.data"):
        if os.path.isfile(folder / name):
            return folder / name
    for name in ("classes.txt", "labels/classes.txt"):
        # labelImg leaves such a file beside its VOC files, too.
        if os.path.isfile(folder / name) and _has_labels(folder):
            return folder / name
    others = [*sorted(folder.glob("*.y*ml")), *sorted(folder.glob("*.data"))]
    return next((file for file in others if is_settings_file(file)), None)


def _has_labels(folder: Path) -> bool:
    """Whether there is a text file that may be of labels."""
    texts = (file for place in ("labels", "images", ".") for file in (folder / place).glob("*.txt"))
    return any(file.name not in ("classes.txt", "train.txt", "val.txt") for file in texts)


def is_settings_file(file: Path) -> bool:
    """Whether a YAML or `.data` file lists the names and pictures of a data set."""
    try:
        listing = read_listing(file)
    except DataError:
        return False
    return bool(listing.parts) or os.path.isdir(listing.base / "images")


def read_listing(file: Path) -> Listing:
    """What the settings of a data set say.

    Raises:
        DataError: the file cannot be read, or has no names.
    """
    if file.suffix == ".txt":
        base = file.parent.parent if file.parent.name == "labels" else file.parent
        return Listing(file, _numbered(read_text(file)), base)
    if file.suffix == ".data":
        return _read_darknet(file)
    try:
        settings = checked(read_yaml(file), _Settings)
        names = settings.names
        if isinstance(names, list):
            numbered = dict(enumerate(names))
        else:
            numbered = {int(number): name for number, name in sorted(names.items())}
    except ValueError as error:
        raise DataError(f"{file}: needs 'names', a list of class names: {error}") from error
    if len(numbered) != len(names):
        raise DataError(f"{file}: 'names' has two names for one number, such as 0 and 00")
    values = {
        "train": settings.train,
        "val": settings.val or settings.valid,
        "test": settings.test,
    }
    parts = {
        split: [value] if isinstance(value, str) else value
        for split, value in values.items()
        if value not in ("", "null", "~", [])
    }
    if parts.get("val") == parts.get("train"):  # written for readers that ask for both
        parts.pop("val", None)
    base = file.parent / settings.path.replace("\\", "/")
    base = base if os.path.isdir(base) else file.parent
    return Listing(file, numbered, base, parts, math.prod(settings.kpt_shape or [0]))


def read_yolo(request: Request) -> Annotated:
    """Read a YOLO or darknet data set; a folder, or the file with its settings.

    No label file, or an empty one, says that there is nothing of any class.

    Raises:
        DataError: there are no names, no pictures, or no labels at all.
    """
    path = request.path
    file = settings_file_of(path) if os.path.isdir(path) else path
    if file is None:
        raise DataError(f"{path} has no data.yaml with the names of its classes")
    listing = read_listing(file)
    if request.split is not None and request.split not in listing.parts:
        known = ", ".join(listing.parts)
        raise DataError(
            f"{file} names no pictures for {request.split}, "
            + (f"only for {known}" if known else "nor for any split; leave it out")
        )
    pictures = open_pictures(request.images or listing.base)
    labels = _Labels(listing, pictures)
    names = _wanted(listing, pictures, request, labels)
    entries = []
    read: set[Path] = set()
    for name in names:
        found = labels.of(name)
        shapes = []
        if found is not None:
            read.add(found)
            shapes = list(_shapes(found, listing, request.faults))
        entries.append(Entry(name, shapes, shares=True))
    if left := labels.unread(read, request.split, everywhere=request.images is not None):
        request.faults.note(f"label files are of no picture in {pictures.root}", left)
    if names and not read:
        looked = labels.candidates(names[0])[0]
        raise DataError(f"{file}: no picture has labels; those of {names[0]} would be {looked}")
    classes = {number: listing.names[number] for number in sorted(listing.names)}
    return annotated(request, entries, classes=classes, pictures=pictures)


def _read_darknet(file: Path) -> Listing:
    """`obj.data`: "train = data/train.txt", "names = data/obj.names"."""
    pairs = [line.partition("=") for line in read_text(file).splitlines()]
    values = {key.strip(): value.strip() for key, _, value in pairs}
    names = _below(file.parent, values.get("names", "obj.names"))
    if names is None:
        raise DataError(f"{file}: needs 'names', a file of class names below {file.parent}")
    splits = {"train": values.get("train"), "val": values.get("valid"), "test": values.get("test")}
    parts = {split: [value] for split, value in splits.items() if value}
    return Listing(file, _numbered(read_text(names)), file.parent, parts)


def _numbered(text: str) -> dict[int, str]:
    """Names by their lines, as the tools count that write such files; a blank one names nothing."""
    lines = text.replace("\r\r\n", "\n").splitlines()  # of Windows, twice over
    return {number: line.strip() for number, line in enumerate(lines) if line.strip()}


def _below(base: Path, value: str) -> Path | None:
    """The file or folder below `base` that a path of perhaps another machine ends in."""
    parts = [part for part in value.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts:
        return base
    tails = (base.joinpath(*parts[first:]) for first in range(len(parts)))
    return next((place for place in tails if os.path.exists(place)), None)


def _wanted(listing: Listing, pictures: Pictures, request: Request, labels: _Labels) -> list[str]:
    """Names of the pictures of the splits that were asked for, each once."""
    splits = listing.parts if request.split is None else [request.split]
    names: dict[str, None] = {}
    for split in splits:
        for value in listing.parts[split]:
            names |= dict.fromkeys(_of_part(value, listing, pictures, request, labels))
    if listing.parts:
        return list(names)
    every = pictures.names()
    inside = [name for name in every if name.startswith("images/")]
    return inside or every


def _of_part(
    value: str, listing: Listing, pictures: Pictures, request: Request, labels: _Labels
) -> list[str]:
    """Pictures of a folder, or those that a text file lists."""
    place = _below(pictures.root, value) or _below(listing.base, value)
    if place is None and request.images is None:
        raise DataError(
            f"{listing.file}: picture folder {value} does not exist below {listing.base}; set "
            "'path' in the file, or say where the pictures are (--images)"
        )
    if place is not None and os.path.isfile(place):
        lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
        matched = match_names(pictures, dict.fromkeys(lines, ()), request.faults)
        request.faults.count("images", len(lines) - len(matched))
        for line in lines:
            if line not in matched:
                request.faults.add("missing pictures", f"{place}: {line}")
        return [matched[line] for line in lines if line in matched]
    if place is not None and place.is_relative_to(pictures.root):
        below = place.relative_to(pictures.root)
        return [(below / name).as_posix() for name in PictureFolder(place).names()]
    every = pictures.names()  # they lie where the user said, in no folders
    if request.split is None or len(listing.parts) == 1:
        return every
    own = [name for name in every if labels.is_in_part(name, request.split)]
    if not own:
        raise DataError(
            f"{listing.file}: nothing says which pictures of {pictures.root} are for "
            f"{request.split}: neither is there {value}, nor do its labels have a folder of their "
            "own"
        )
    if left := sum(labels.of(name) is None for name in every):
        request.faults.note("pictures without labels are of no part", left)
    return own


class _Labels:
    """The label file of each picture."""

    def __init__(self, listing: Listing, pictures: Pictures) -> None:
        self._base = listing.base
        self._root = pictures.root
        self._folders_of = {
            split: [
                self._base / _labels_of(folder).with_suffix("")
                for folder in map(PurePosixPath, values)
                if "images" in folder.parts and is_inside(str(folder))
            ]
            for split, values in listing.parts.items()
        }
        self._whole = {
            split
            for split, values in listing.parts.items()
            if not any(value.endswith(".txt") for value in values)  # lists name what they like
        }

    def candidates(self, name: str) -> list[Path]:
        """`labels` instead of the last `images` of the path, or beside it, or in one folder."""
        found = []
        for root in dict.fromkeys((self._root, self._base)):
            parts = list((root / name).parts)
            if "images" in parts:
                parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
                found.append(Path(*parts).with_suffix(".txt"))
            found.append((root / name).with_suffix(".txt"))
        text = PurePosixPath(name).with_suffix(".txt")
        # Pictures may lie elsewhere.
        folders = [folder / text for own in self._folders_of.values() for folder in own]
        return [*found, self._base / "labels" / text, self._base / "labels" / text.name, *folders]

    def of(self, name: str) -> Path | None:
        """The one that is there."""
        found = next((file for file in self.candidates(name) if os.path.isfile(file)), None)
        return found or self._uploaded.get(plain_stem(PurePosixPath(name).name))

    def is_in_part(self, name: str, split: str) -> bool:
        """Whether a picture that lies elsewhere has labels in a folder of a part."""
        text = PurePosixPath(name).with_suffix(".txt")
        return any(os.path.isfile(folder / text) for folder in self._folders_of[split])

    def unread(self, read: Iterable[Path], split: str | None, *, everywhere: bool) -> int:
        """How many label files are not among those that were read.

        Args:
            read: These files.
            split: The part whose pictures were read; None for all of them.
            everywhere: Of all parts, look at the whole of `labels` and not at their folders only.
        """
        asked = self._whole if split is None else self._whole & {split}
        folders = [folder for part in asked for folder in self._folders_of[part]]
        if split is None and (everywhere or not self._folders_of):
            folders = [self._base / "labels"]
        known = set(map(os.path.realpath, read))
        every = {os.path.realpath(file) for folder in folders for file in folder.rglob("*.txt")}
        return sum(os.path.basename(file) != "classes.txt" for file in every - known)

    @cached_property
    def _uploaded(self) -> dict[str, Path | None]:
        """Files of `labels` by what their names were before Label Studio changed them."""
        found: dict[str, Path | None] = {}
        for file in sorted((self._base / "labels").glob("*.txt")):
            stem = plain_stem(file.name)
            found[stem] = None if stem in found else file
        return found


def _shapes(path: Path, listing: Listing, faults: Faults) -> Iterator[Shape]:
    """The lines of a label file."""
    for row, line in text_lines(path, faults):
        where = f"{path}:{row}"
        try:
            number, *values = map(float, line.replace(",", " ").split())
        except ValueError:
            faults.add("lines", f"{where} is not numbers: {line.strip()!r:.80}")
            continue
        points = _points(values, listing, faults)
        if number not in listing.names:
            faults.add("lines", f"{where}: class {number:g} is not in {listing.file}")
        elif points is None:
            faults.add("lines", f"{where} is not 'class x y width height': {line.strip()!r:.80}")
        else:
            yield Shape(int(number), points)


def _points(
    values: Sequence[float], listing: Listing, faults: Faults
) -> list[tuple[float, float]] | None:
    """Corners of a box or a polygon in shares; None if the numbers are neither."""
    if not all(map(is_coordinate, values)):
        return None
    if len(values) == 5 or (len(values) >= 7 and len(values) % 2 and not listing.point_values):
        faults.note("a column behind the box is no part of it (a score or a track)")
        values = values[:-1]
    if listing.point_values and len(values) == 4 + listing.point_values:
        values = values[:4]
    if len(values) >= 6 and len(values) % 2 == 0:
        return list(zip(values[::2], values[1::2], strict=True))
    if len(values) != 4 or min(values[2:]) < 0:
        return None
    x, y, w, h = values
    return [(x - w / 2, y - h / 2), (x + w / 2, y + h / 2)]


def write_yolo(data: DataSet, folder: Path) -> None:
    """Write `data.yaml`, `images` and `labels`.

    Pictures lie in one folder for each part, those of sub-folders under a name that tells where
    they were: supervision and datumaro see no deeper.
    """
    numbers = {name: number for number, name in enumerate(data.names)}
    found: dict[str, str] = {}
    for part in data.parts:
        place = f"images/{part or 'train'}"
        for picture in data.of(part):
            name = unused_name(
                PurePosixPath(place) / flat_name(picture.picture),
                lambda p: folder / _labels_of(p),
            )
            labels = folder / _labels_of(name)
            labels.parent.mkdir(parents=True, exist_ok=True)
            with labels.open("x", encoding="utf-8") as file:
                for label in picture.labels:
                    values = " ".join(f"{v:.8f}" for v in _centre_and_size(label.box, picture))
                    file.write(f"{numbers[label.name]} {values}\n")
            place_picture(data, picture.picture, folder / name)
            found[part or "train"] = place  # readers take a part without pictures for a mistake
    # ultralytics asks for both parts, also where nothing is held out.
    both = {split: found.get(split) or next(iter(found.values())) for split in found and SPLITS[:2]}
    settings = {**both, "names": dict(enumerate(data.names))}
    with text_file(folder / "data.yaml") as file:
        yaml.safe_dump(settings, file, allow_unicode=True, sort_keys=False)


def _labels_of(picture: PurePosixPath) -> PurePosixPath:
    """YOLO's rule: `labels` in place of the last `images` of the path."""
    parts = list(picture.parts)
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return PurePosixPath(*parts).with_suffix(".txt")


def _centre_and_size(
    box: tuple[float, float, float, float], picture: Labelled
) -> tuple[float, float, float, float]:
    """Pixels xyxy -> centre x, y, width, height in shares of the picture."""
    height, width = picture.image_hw
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
