"""Captioned pictures from wherever they are, one after the other in constant memory.

* COCO captions and MDETR JSON, which are read as a whole.
* Tables of picture and caption: `.tsv`, `.csv`, JSON lines (also ODVG lines).
* A folder with a `.txt` beside each picture, a caption a line.
* Shards of a web data set: uncompressed tars with `a.jpg` and `a.txt` or `a.json` side by side.

What is wrong with a single entry is said in the entry, so that a run of days outlives it; a file
that is wrong from its first line on is refused. Knows nothing about phrases or models.
"""

from __future__ import annotations

import csv
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image

from glip.data.formats.recognise import read_grounding
from glip.data.matching import Finder, pictures_for
from glip.data.pictures import (
    PICTURE_SUFFIXES,
    TAR_ERRORS,
    Bounded,
    PictureFolder,
    Pictures,
    decode,
)
from glip.errors import DataError
from glip.images import list_images

PICTURE_FIELDS = (
    "path", "file_path", "filepath", "file_name", "filename", "image", "image_path", "image_name",
    "img", "picture",
)  # fmt: skip
"""Names of the column with the picture, the first one that is there counts."""
CAPTION_FIELDS = ("caption", "captions", "text", "sentence", "sentences", "alt_text", "alt", "raw")
"""Names of the column with the caption, or with a list of them."""
MOST_CAPTIONS = 1000
"""Captions of one entry; a picture with more comes in several, to keep memory in bounds."""
_LONGEST_FIELD = 1 << 24  # characters of a cell; the csv module stops at 2 ** 17 by itself


class Place(NamedTuple):
    """Where the file of a picture lies inside a tar."""

    tar: Path
    start: int
    size: int


@dataclass(frozen=True)
class Captioned:
    """A picture and its captions."""

    key: str
    """Unlike any other of the same input; keys sort in the order of the input."""
    picture: str
    """Its name, as in an annotation file."""
    captions: tuple[str, ...]
    """As they are written, without blanks around them; blank ones are left out."""
    place: Place | None = None
    """For a picture that comes in a shard."""
    fault: str | None = None
    """Why this entry cannot be used; it has no captions then."""


class CaptionSet:
    """The captioned pictures of one or several files.

    Attributes:
        paths: the files, shards one by one.
        root: folder or tar that the names of the pictures are relative to.
    """

    def __init__(
        self, captions: Sequence[str | Path] | str | Path, images: str | Path | None = None
    ) -> None:
        """Look at the files, without reading more than the first entries.

        Args:
            captions: files of the kinds above; a folder of tars counts as its tars.
            images: folder or tar with the pictures; by default beside the captions. Not for
                shards, which bring theirs.
        Raises:
            DataError: a file is missing, of no known kind, or wrong from its first entry on, or
                there are no pictures of these names.
        """
        given = [captions] if isinstance(captions, (str, os.PathLike)) else captions
        self.paths = [file for path in given for file in _files(Path(path))]
        if not self.paths:
            raise DataError("no captions are given; name a file or folder")
        self._shards = [path for path in self.paths if path.suffix == ".tar"]
        if self._shards and len(self._shards) < len(self.paths):
            other = next(path for path in self.paths if path.suffix != ".tar")
            raise DataError(
                f"{self._shards[0]} is a shard and {other} is none; run them one after the other"
            )
        self._pictures: Pictures | None = None
        self._finder: Finder | None = None
        if self._shards:
            if images is not None:
                raise DataError(f"{self._shards[0]} brings its pictures; leave out images {images}")
            self.root = Path(os.path.commonpath([path.absolute().parent for path in self._shards]))
            next(iter(self), None)
        else:
            self._pictures = self._find_pictures(images)
            self._finder = Finder(self._pictures)
            self.root = self._pictures.root

    def __iter__(self) -> Iterator[Captioned]:
        return self.read()

    def read(self, wanted: Callable[[str], bool] = lambda key: True) -> Iterator[Captioned]:
        """The entries in order.

        Args:
            wanted: whether an entry is, by its key; others are passed over as fast as can be.
        """
        for number, path in enumerate(self.paths):
            for row, entry in self._entries(path, lambda row, n=number: wanted(_key(n, row))):  # type: ignore[misc]
                name = entry.picture
                if self._finder is not None and entry.fault is None:
                    name = self._finder.find(name) or name
                yield Captioned(_key(number, row), name, *entry[1:])

    def load(self, entry: Captioned) -> Image.Image:
        """The picture of an entry, upright and RGB; from any thread.

        Raises:
            ImageError: it is missing or damaged.
        """
        if entry.place is not None:
            tar, start, size = entry.place
            with tar.open("rb") as file:
                file.seek(start)
                return decode(file.read(size), f"{tar}: {entry.picture}")
        return self.picture(entry.picture)

    def picture(self, name: str) -> Image.Image:
        """A picture by its name alone; of shards slower than `load`.

        Raises:
            ImageError: it is missing or damaged.
        """
        if self._pictures is None:
            self._pictures = PictureFolder(self.root)
        return self._pictures.read(name)

    def fingerprint(self) -> list[list[str | int]]:
        """Name and size of each file: what tells this input from another one."""
        return [[path.name, path.stat().st_size if path.is_file() else 0] for path in self.paths]

    def _entries(
        self, path: Path, wanted: Callable[[int | str], bool]
    ) -> Iterator[tuple[int | str, _Entry]]:
        """Entries of a file by row; of a folder, to which pictures may come, by name."""
        if path.is_dir():
            return _from_folder(path, wanted)
        if path.suffix == ".tar":
            name = path.absolute().relative_to(self.root).as_posix()
            return _from_shard(path, name, wanted)
        if path.suffix == ".json":
            return _from_json(path, wanted)
        return _grouped(_rows(path), wanted)

    def _find_pictures(self, images: str | Path | None) -> Pictures:
        if self.paths[0].is_dir():
            if len(self.paths) > 1:
                raise DataError(f"{self.paths[0]} is a folder; run folders one after the other")
            if images is not None:
                raise DataError(f"{self.paths[0]} holds its pictures; leave out images {images}")
            return PictureFolder(self.paths[0])
        some: list[str] = []
        for entry in self:
            some += [] if entry.fault else [entry.picture]
            if len(some) == 10:
                break
        if not some:
            raise DataError(f"{', '.join(map(str, self.paths))}: there is no caption in it")
        return pictures_for(self.paths[0], images, some)


class _Entry(NamedTuple):
    """A `Captioned` without its key."""

    picture: str
    captions: tuple[str, ...] = ()
    place: Place | None = None
    fault: str | None = None


def _key(file: int, row: int | str) -> str:
    return f"{file:05d}-{row:010d}" if isinstance(row, int) else f"{file:05d}-{row}"


def _files(path: Path) -> list[Path]:
    """The path itself, or the tars of a folder that has any."""
    if path.is_dir():
        tars = sorted(path.glob("*.tar"))
        return tars or [path]
    if not path.exists():
        raise DataError(f"captions {path} do not exist")
    if path.suffix not in (".json", ".jsonl", ".tsv", ".csv", ".tar"):
        hint = "; unpack it, or pack it again as .tar" if ".tar" in path.suffixes else ""
        raise DataError(
            f"captions {path} are of no known kind: .json (COCO), .jsonl, .tsv, .csv, .tar (a web "
            f"data set) or a folder with .txt beside the pictures{hint}"
        )
    return [path]


def _clean(texts: Iterable[object]) -> tuple[str, ...]:
    return tuple(text for text in (str(text).strip() for text in texts) if text)


def _from_folder(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, _Entry]]:
    for path in list_images(folder):
        name, text = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        if not wanted(name):
            continue
        try:
            captions = _clean(text.read_text(encoding="utf-8-sig").splitlines())
            fault = None if captions else f"{text} is empty"
        except OSError as error:
            captions, fault = (), f"{text} cannot be read: {error.strerror}"
        except UnicodeDecodeError as error:
            captions, fault = (), f"{text} is not UTF-8: {error.reason}"
        yield name, _Entry(name, captions, fault=fault)


def _from_json(path: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, _Entry]]:
    """Each picture once with all its captions, in order of the first."""
    data = read_grounding(path)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(data.file_names()):
        rows.setdefault(name, []).append(row)
    for number, (name, own) in enumerate(rows.items()):
        if wanted(number):
            yield number, _Entry(name, _clean(data.records[row].caption for row in own))


def _from_shard(
    path: Path, name: str, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, _Entry]]:
    """Files that follow one another and share a name up to its first period are one entry."""
    row = -1
    try:
        with (
            path.open("rb") as file,
            tarfile.open(fileobj=Bounded(file, path.stat().st_size), mode="r:") as archive,
        ):
            for stem, members in _samples(archive):
                row += 1
                if wanted(row):
                    yield row, _from_sample(path, name, stem, members, archive)
    except TAR_ERRORS as error:
        if row < 0:
            raise DataError(
                f"{path} cannot be read as an uncompressed tar ({error}); unpack it, or pack it "
                "again without compression"
            ) from error
        yield row + 1, _Entry(name, fault=f"{path} is damaged after {row + 1} pictures: {error}")


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Stem and files, by suffix, of each sample."""
    stem, members = "", dict[str, tarfile.TarInfo]()
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would remember all it has seen
        if not member.isfile():
            continue
        folder, _, file = member.name.rpartition("/")
        own, _, suffix = file.partition(".")
        if (f"{folder}/{own}" != stem or suffix.lower() in members) and members:
            yield stem, members
            members = {}
        stem = f"{folder}/{own}"
        members[suffix.lower()] = member
    if members:
        yield stem, members


def _from_sample(
    path: Path,
    name: str,
    stem: str,
    members: Mapping[str, tarfile.TarInfo],
    archive: tarfile.TarFile,
) -> _Entry:
    picture = next((m for s, m in members.items() if f".{s}" in PICTURE_SUFFIXES), None)
    if picture is None:
        return _Entry(f"{name}/{stem.lstrip('./')}", fault=f"{path}: {stem} has no picture")
    full_name = f"{name}/{picture.name.removeprefix('./')}"

    def content(member: tarfile.TarInfo) -> str:
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode("utf-8-sig")

    try:
        if "txt" in members:
            captions = _clean(content(members["txt"]).splitlines())
        elif "json" in members:
            captions = _captions_in(json.loads(content(members["json"])))
        else:
            captions = ()
    except ValueError as error:  # not UTF-8, or not JSON
        return _Entry(full_name, fault=f"{path}: captions of {full_name}: {error}")
    if not captions:
        return _Entry(full_name, fault=f"{path}: {full_name} has no caption (.txt or .json)")
    return _Entry(full_name, captions, Place(path, picture.offset_data, picture.size))


def _captions_in(content: Any) -> tuple[str, ...]:
    """The captions of a JSON object, none if it has none."""
    if not isinstance(content, Mapping):
        return ()
    found = next((content[key] for key in CAPTION_FIELDS if content.get(key)), ())
    return _clean([found] if isinstance(found, str) else found if isinstance(found, list) else ())


class _Row(NamedTuple):
    """A line of a table."""

    number: int
    picture: str
    captions: tuple[str, ...]
    fault: str | None = None


def _rows(path: Path) -> Iterator[_Row]:
    try:
        # Bytes that are no UTF-8 become U+FFFD and a fault of their line alone.
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from _json_rows(path, file) if path.suffix == ".jsonl" else _cells(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _json_rows(path: Path, file: IO[str]) -> Iterator[_Row]:
    first = True
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        name, captions = "", tuple[str, ...]()
        try:
            content = json.loads(line)
            if isinstance(content, Mapping):
                own = content.get("grounding")
                captions = _captions_in(own if isinstance(own, Mapping) else content)
                name = next((str(content[key]) for key in PICTURE_FIELDS if content.get(key)), "")
            fault = None if name and captions else "has no picture or no caption"
        except json.JSONDecodeError as error:
            fault = f"is no JSON: {error.msg}"
        if fault is not None and first:
            raise DataError(
                f"{path}:{number} {fault}; each line is an object with a picture (one of "
                f"{', '.join(PICTURE_FIELDS)}) and a caption (one of {', '.join(CAPTION_FIELDS)})"
            )
        first = False
        yield _checked(path, number, name, captions, fault)


def _cells(path: Path, file: IO[str]) -> Iterator[_Row]:
    """The rows of a table; without a line of names, picture and caption are the first two cells."""
    csv.field_size_limit(_LONGEST_FIELD)
    if path.suffix == ".tsv":  # where a quotation mark is one; in a CSV it keeps commas together
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(file)
    columns: tuple[int, int] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if columns is None:
                raise DataError(f"{path}:{reader.line_num} cannot be read: {error}") from error
            yield _Row(reader.line_num, "", (), f"{path}:{reader.line_num}: {error}")
            continue
        if not cells:
            continue
        if columns is None:
            columns, named = _columns(path, reader.line_num, cells)
            if named:
                continue
        if len(cells) <= max(columns):
            fault: str | None = f"has {len(cells)} cells, needs {max(columns) + 1}"
            yield _checked(path, reader.line_num, "", (), fault)
            continue
        name, captions = cells[columns[0]].strip(), _clean([cells[columns[1]]])
        fault = None if name and captions else "has no picture or no caption"
        yield _checked(path, reader.line_num, name, captions, fault)


def _columns(path: Path, line: int, cells: Sequence[str]) -> tuple[tuple[int, int], bool]:
    """Where picture and caption stand, by the first line; and whether that holds names."""
    if len(cells) < 2:
        raise DataError(
            f"{path}:{line} has one cell, {cells[0][:60]!r}; a line is a picture, "
            f"{'a tab' if path.suffix == '.tsv' else 'a comma'} and a caption"
        )
    names = [cell.strip().lower() for cell in cells]
    found = [
        next((names.index(field) for field in fields if field in names), None)
        for fields in (PICTURE_FIELDS, CAPTION_FIELDS)
    ]
    if found[0] is not None and found[1] is not None:
        return (found[0], found[1]), True
    return (0, 1), False


def _checked(
    path: Path, number: int, name: str, captions: tuple[str, ...], fault: str | None
) -> _Row:
    if fault is None and "\ufffd" in name + "".join(captions):
        fault = "is not UTF-8"
    if fault is not None:
        return _Row(number, name, (), f"{path}:{number} {fault}")
    return _Row(number, name, captions)


def _grouped(rows: Iterator[_Row], wanted: Callable[[int], bool]) -> Iterator[tuple[int, _Entry]]:
    """Lines of one picture that follow one another as one entry, numbered by its first line."""
    begun: tuple[int, str, list[str]] | None = None
    for number, name, captions, fault in rows:
        joins = begun is not None and fault is None and begun[1] == name
        if begun is not None and joins and len(begun[2]) < MOST_CAPTIONS:
            begun[2].extend(captions)
            continue
        if begun is not None and wanted(begun[0]):
            yield begun[0], _Entry(begun[1], tuple(begun[2]))
        begun = None
        if fault is None:
            begun = (number, name, list(captions))
        elif wanted(number):
            yield number, _Entry(name, fault=fault)
    if begun is not None and wanted(begun[0]):
        yield begun[0], _Entry(begun[1], tuple(begun[2]))
