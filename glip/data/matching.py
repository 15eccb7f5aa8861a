"""Which picture an annotation file means by a name, and where its pictures are.

Files travel: their names hold backslashes, drives, folders of another machine, addresses, blanks as
%20, letters in another Unicode form, suffixes in another case, or none. A name that is no picture
is therefore looked for by what it ends in, longest ending first, and at last by its base name
where only one picture has it. Nothing outside the given folder or tar is ever looked at. Knows
nothing about formats.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from glip.data.faults import Faults
from glip.data.pictures import PICTURE_SUFFIXES, Pictures, open_pictures
from glip.errors import DataError, ImageError

BESIDE = ("images", "Images", "data", "JPEGImages", "img", "imgs", "photos")
"""Folders that hold the pictures of the annotations beside them, by habit."""
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "json", "ann", "xmls")
"""Folders that hold annotations only, by habit; the pictures are beside them."""

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the names of pictures that are uploaded to it."""


def pictures_for(annotations: Path, images: str | Path | None, names: Sequence[str]) -> Pictures:
    """The pictures of an annotation file or folder.

    Args:
        annotations: file or folder; what is not said is looked for beside it or in it.
        images: folder or tar, if the user said one.
        names: of some pictures of the file; the right place holds one of them.
    Raises:
        DataError: no place holds any of them, or `images` does not exist.
    """
    places = list(_places(Path(annotations))) if images is None else [Path(images)]
    opened = [
        open_pictures(place) for place in places if images is not None or os.path.exists(place)
    ]
    for pictures in opened:
        if not names or any(name in pictures for name in names):
            return pictures
    for pictures in opened:
        finder = Finder(pictures)
        if any(finder.find(name) for name in names):
            return pictures
    looked = ", ".join(map(str, dict.fromkeys(pictures.root for pictures in opened)))
    hint = _hint(images, names)
    raise DataError(f"{annotations}: picture {names[0]:.200} is not in {looked}; {hint}")


def _hint(images: str | Path | None, names: Sequence[str]) -> str:
    """What to do where no picture is found."""
    if images is None:
        return "say where the pictures are (--images)"
    above = Path(images).parent
    if any(name in open_pictures(above) for name in names):
        return f"did you mean {above}?"
    return "names in the file are relative to the picture folder"


def match_names(
    pictures: Pictures, names: Mapping[str, Sequence[str]], faults: Faults | None = None
) -> dict[str, str]:
    """The picture that each name means.

    Two names that no picture has, and that could both mean the same one, mean none.

    Args:
        pictures: Where they are.
        names: Each name of a file -> other names that its picture may have.
        faults: Is told of names that were not met as they are written; addresses never are.
    Returns:
        Name -> name of a picture; names without a picture are left out.
    """
    plain = {name: PurePosixPath(name).as_posix() for name in names}
    exact = {name: plain[name] for name in names if name in pictures}
    if len(exact) == len(names):
        return exact
    finder = Finder(pictures)
    loose: dict[str, str] = {}
    claims: dict[str, int] = dict.fromkeys(exact, 1)
    for name, others in names.items():
        if name not in exact and (found := finder.find(name, others)) is not None:
            loose[name] = found
            claims[found] = claims.get(found, 0) + 1
    sure = {name: found for name, found in loose.items() if claims[found] == 1}
    unlike = [name for name in sure if "?d=" not in name and "://" not in name]
    if unlike and faults is not None:
        name, found = unlike[0], sure[unlike[0]]
        faults.note(f"picture names were matched by what they end in, as {name!r} by {found!r}",
                    len(unlike))  # fmt: skip
    return exact | sure


class Finder:
    """Looks up one name after the other in a folder or tar.

    Its names are listed once, and only if a name is met by no ending.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def find(self, name: str, others: Sequence[str] = ()) -> str | None:
        """The only picture that a name can mean, if there is one.

        Args:
            name: as a file has it.
            others: names that the picture may have besides.
        """
        if name in self._pictures:
            return PurePosixPath(name).as_posix()
        variants = [variant for one in (name, *others) for variant in _variants(one)]
        tails = ["/".join(parts[first:]) for parts in variants for first in range(len(parts))]
        for tail in tails:
            if tail in self._pictures:
                return tail
        paths, bases, stems = self._tables
        for tail in tails:
            if found := paths.get(_normal(tail)):
                return found
        for table in (bases, stems):
            for parts in variants:
                base = parts[-1]
                if table is stems and _has_suffix(base):
                    continue
                if found := table.get(_normal(base)):
                    return found
        return None

    @cached_property
    def _tables(self) -> tuple[_Table, _Table, _Table]:
        """Names by the normal form of their path, base and stem; None for what several have."""
        tables: tuple[_Table, _Table, _Table] = ({}, {}, {})
        try:
            known = self._pictures.names()
        except ImageError:  # a folder without pictures
            known = []
        for name in known:
            path = PurePosixPath(name)
            for table, part in zip(tables, (name, path.name, path.stem), strict=True):
                key = _normal(part)
                table[key] = None if key in table else name
        return tables


_Table = dict[str, str | None]


def _variants(name: str) -> Iterator[list[str]]:
    """Ways to read a name, each as its parts."""
    readings = [name.replace("\\", "/")]
    if "://" in name or "?" in name:
        try:
            address = urlsplit(name)
            readings = [*parse_qs(address.query).get("d", []), address.path]
        except ValueError:  # such as a bracket where a host should be
            pass
    plain = [unquote(reading) for reading in readings]
    uploaded = [_without_hash(reading) for reading in (*readings, *plain)]
    spread = [reading.replace("__", "/") for reading in plain]  # as our writers flatten folders
    for reading in dict.fromkeys((*readings, *plain, *uploaded, *spread)):
        parts = [part for part in reading.split("/") if part not in ("", ".", "..")]
        if parts:
            yield parts


def plain_stem(name: str) -> str:
    """What stays of a base name that was uploaded or put into an address."""
    return _normal(PurePosixPath(_without_hash(unquote(name))).stem)


def _without_hash(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{_UPLOADED.sub('', base)}"


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _has_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _places(annotations: Path) -> Iterator[Path]:
    """Where the pictures of annotations may be, likeliest first.

    COCO has `annotations/instances_train2017.json` beside `train2017`, CVAT
    `annotations/instances_default.json` beside `images/default`, FiftyOne `labels.json` beside
    `data`, others `train.json` beside `images.tar`.
    """
    base = annotations if os.path.isdir(annotations) else annotations.parent
    part = "" if os.path.isdir(annotations) else annotations.stem.rsplit("_", 1)[-1]
    bases = [base]
    if base.name.lower() in ANNOTATION_FOLDERS:
        bases.append(base.parent)
    for place in bases:
        yield place
        yield from (place / name for name in BESIDE)
        if part:
            yield from (place / "images" / part, place / part)
        yield place / "images.tar"
        if part:
            yield place / f"{part}.tar"
