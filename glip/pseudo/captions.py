"""Captioned pictures from wherever they are, one after the other in constant memory.

* COCO captions, MDETR, Karpathy's splits, lists of objects and objects from picture to caption in
  JSON, which is read as a whole.
* Tables of picture and caption: `.tsv`, `.csv`, token files, JSON lines (also ODVG lines).
* A folder with a `.txt` beside each picture, a caption a line.
* Shards of a web data set: uncompressed tars with `a.jpg` and `a.txt` or `a.json` side by side.

What is wrong with a single entry is said in the entry, so that a run of days outlives it; a file
that is wrong from its first line on is refused. Knows nothing about phrases or models.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from glip.data.faults import Faults
from glip.data.formats.coco import image_entries, same_id
from glip.data.formats.content import read_json
from glip.data.matching import Finder, pictures_for
from glip.data.pictures import (
    PICTURE_SUFFIXES,
    TAR_ERRORS,
    Bounded,
    PictureFolder,
    Pictures,
    decode,
)
from glip.data.records import ImageId
from glip.errors import DataError
from glip.files import check_regular, file_sha256, parsed_json, read_text, why_missing
from glip.images import list_images
from glip.jobs.pipeline import file_mark
from glip.pseudo.caption_tables import (
    MOST_CAPTIONS,
    SUFFIXES,
    Row,
    captions_in,
    clean,
    picture_in,
    rows_of,
)

_LARGEST_TEXT = 1 << 24
"""Bytes of the captions of one picture in a shard."""


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

    @cached_property
    def fingerprint(self) -> list[list[str | int]]:
        """What tells this input from another one: name of each file and digest of its content, of
        a shard, which may be long, its size; of a folder `state` tells. Files are read once.
        """
        return [[path.name, self._content(path)] for path in self.paths]

    def state(self, picture: str) -> str | None:
        """What is another one when the file of a picture is, or that of its captions; None where
        neither is a file of its own.
        """
        if not picture or not os.path.isdir(self.root):
            return None
        state = file_mark(self.root / picture)
        if os.path.isdir(self.paths[0]):
            state += f" {file_mark((self.root / picture).with_suffix('.txt'))}"
        return state

    def _content(self, path: Path) -> str | int:
        if os.path.isdir(path):
            return 0
        return path.stat().st_size if path.suffix == ".tar" else file_sha256(path)

    def _entries(
        self, path: Path, wanted: Callable[[int | str], bool]
    ) -> Iterator[tuple[int | str, _Entry]]:
        """Entries of a file by row; of a folder, to which pictures may come, by name."""
        if os.path.isdir(path):
            return _from_folder(path, wanted)
        if path.suffix == ".tar":
            name = path.absolute().relative_to(self.root).as_posix()
            return _from_shard(path, name, wanted)
        if path.suffix == ".json":
            return _from_json(path, wanted)
        return _grouped(rows_of(path), wanted)

    def _find_pictures(self, images: str | Path | None) -> Pictures:
        if os.path.isdir(self.paths[0]):
            if len(self.paths) > 1:
                raise DataError(f"{self.paths[0]} is a folder; run folders one after the other")
            if images is not None:
                raise DataError(f"{self.paths[0]} holds its pictures; leave out images {images}")
            return PictureFolder(self.paths[0])
        some: list[str] = []
        fault = ""
        for entry in self:
            some += [] if entry.fault else [entry.picture]
            fault = fault or entry.fault or ""
            if len(some) == 10:
                break
        if not some:
            why = f"; {fault}" if fault else ""
            raise DataError(f"{', '.join(map(str, self.paths))}: there is no caption in it{why}")
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
    if os.path.isdir(path):
        tars = sorted(path.glob("*.tar"))
        return tars or [path]
    if not os.path.exists(path):
        raise DataError(f"captions: {path} {why_missing(path)}")
    if path.suffix not in (".json", ".tar", *SUFFIXES):
        hint = "; unpack it, or pack it again as .tar" if ".tar" in path.suffixes else ""
        hint = "; save it as CSV" if path.suffix in (".xlsx", ".xls", ".ods") else hint
        raise DataError(
            f"captions {path} are of no known kind: .json (COCO), .jsonl, .tsv, .csv, .tar (a web "
            f"data set) or a folder with .txt beside the pictures{hint}"
        )
    return [path]


def _from_folder(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, _Entry]]:
    for path in list_images(folder):
        name, text = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        if not wanted(name):
            continue
        try:
            captions = clean(read_text(text).splitlines())
            fault = None if captions else f"{text} is empty"
        except OSError as error:
            captions, fault = (), f"{text} cannot be read: {error.strerror}"
        except UnicodeDecodeError as error:
            captions, fault = (), f"{text} is not UTF-8: {error.reason}"
        yield name, _Entry(name, captions, fault=fault)


def _from_json(path: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, _Entry]]:
    """Each picture once with all its captions, in order of the first."""
    captions: dict[str, list[str]] = {}
    for name, own in _captioned(path):
        captions.setdefault(name, []).extend(own)
    for number, (name, texts) in enumerate(captions.items()):
        if wanted(number) and texts:
            yield number, _Entry(name, tuple(texts))


def _captioned(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Pictures and captions of COCO and MDETR files, of Karpathy's splits, of lists of objects and
    of objects from picture to caption; their sizes do not matter here.

    Raises:
        DataError: it is none of them, or too much of it has no picture or caption.
    """
    content = read_json(path)
    faults = Faults(path)
    if isinstance(content, Mapping) and not {"images", "annotations"} & content.keys():
        pairs = [(str(name), captions_in({"caption": own})) for name, own in content.items()]
    elif isinstance(content, Mapping) and "sentences" in str(content.get("images"))[:10_000]:
        pairs = [(picture_in(entry), captions_in(entry)) for entry in content["images"]]
    elif isinstance(content, Mapping):
        pairs = list(_coco_captions(content, path, faults))
    elif isinstance(content, list):
        pairs = [(picture_in(entry), captions_in(entry)) for entry in content]
    else:
        raise DataError(f"{path} holds no captions, but one JSON {type(content).__name__}")
    faults.count("lines", len(pairs))
    for number, (name, own) in enumerate(pairs):
        if name and own:
            yield name, own
        else:
            faults.add("lines", f"entry {number} has no picture or no caption")
    faults.close()


def _coco_captions(
    content: Mapping[str, Any], path: Path, faults: Faults
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}'")
    images = {image.id: image for image in image_entries(content["images"], faults)}
    spoken: dict[ImageId, list[str]] = {}
    for number, entry in enumerate(content["annotations"]):
        owner = entry.get("image_id") if isinstance(entry, Mapping) else None
        known = same_id(owner, images) if isinstance(owner, (int, str)) else None
        faults.count("boxes")
        if known is None:
            faults.add(
                "unknown images", f"annotation number {number} belongs to image {owner!s:.40}"
            )
        else:
            spoken.setdefault(known, []).extend(clean([entry.get("caption")]))
    for number_of_image, image in images.items():
        own = (*clean([image.caption]), *spoken.get(number_of_image, ()))
        if own:
            yield image.name or "", own


def _from_shard(
    path: Path, name: str, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, _Entry]]:
    """Files that follow one another and share a name up to its first period are one entry."""
    row = -1
    try:
        check_regular(path)
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
    # Python 3.10 would seek before the beginning of an empty one.
    if archive.firstmember is None:  # type: ignore[attr-defined]
        return
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
        if member.size > _LARGEST_TEXT:
            raise ValueError(f"{member.size:,} bytes are too many")
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode("utf-8-sig")

    try:
        if "txt" in members:
            captions = clean(content(members["txt"]).splitlines())
        elif "json" in members:
            captions = captions_in(parsed_json(content(members["json"])))
        else:
            captions = ()
    except ValueError as error:  # not UTF-8, or not JSON
        return _Entry(full_name, fault=f"{path}: captions of {full_name}: {error}")
    if not captions:
        return _Entry(full_name, fault=f"{path}: {full_name} has no caption (.txt or .json)")
    return _Entry(full_name, captions, Place(path, picture.offset_data, picture.size))


def _grouped(rows: Iterator[Row], wanted: Callable[[int], bool]) -> Iterator[tuple[int, _Entry]]:
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
