"""Fetch a public data set from its official address, and lay it out as the commands read it.

    python tools/prepare_data.py --list
    python tools/prepare_data.py odinw-13 --out datasets
    python tools/prepare_data.py coco-val2017 --out datasets --limit 200

goes on where it was stopped. Sizes and digests that are known are checked; where none is, the
SHA-256 of the first download is written to `downloads.json`, and later ones must have it. Nothing
in an archive is written outside its folder.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import http.client
import os
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from glip.cli.terminal import DONE, guarded, note
from glip.data.pictures import is_inside
from glip.errors import DataError, StorageError
from glip.files import failing_disk, make_folder, read_json, whole_path, write_json

RECORD = "downloads.json"
TRIES = 5
PAUSE_S = 2.0
_BLOCK = 1 << 20

ODINW = "https://huggingface.co/GLIPModel/GLIP/resolve/main/odinw_35"
COCO = "http://images.cocodataset.org"
FLICKR = "https://github.com/BryanPlummer/flickr30k_entities/raw/master"
LVIS = "https://huggingface.co/GLIPModel/GLIP/resolve/main/lvis_v1_minival_inserted_image_name.json"

ODINW_13 = [
    "AerialMaritimeDrone",
    "Aquarium",
    "CottontailRabbits",
    "EgoHands",
    "NorthAmericaMushrooms",
    "Packages",
    "PascalVOC",
    "Raccoon",
    "ShellfishOpenImages",
    "VehiclesOpenImages",
    "pistols",
    "pothole",
    "thermalDogsAndPeople",
]
ODINW_35 = sorted(
    [
        *ODINW_13,
        "AmericanSignLanguageLetters",
        "BCCD",
        "ChessPieces",
        "DroneControl",
        "HardHatWorkers",
        "MaskWearing",
        "MountainDewCommercial",
        "OxfordPets",
        "PKLot",
        "ThermalCheetah",
        "UnoCards",
        "WildfireSmoke",
        "boggleBoards",
        "brackishUnderwater",
        "dice",
        "openPoetryVision",
        "plantdoc",
        "selfdrivingCar",
        "syntheticFruit",
        "vector",
        "websiteScreenshots",
    ]
)


@dataclass(frozen=True)
class Piece:
    """One file of a data set.

    Args:
        url: Where from.
        folder: Where to, below the folder of all data; archives are unpacked there.
        size: In bytes, where it is known.
        md5: As it is known; None: nobody publishes one.
    """

    url: str
    folder: str
    size: int | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class DataSet:
    """What has a name here.

    Args:
        pieces: Its files.
        words: What it is, and what else is needed.
        photos: Address of its single pictures, for `limit`; those in `boxes` are taken.
        boxes: COCO file with boxes, below the folder of all data.
    """

    pieces: tuple[Piece, ...]
    words: str
    photos: str | None = None
    boxes: str | None = None


_COCO_BOXES = Piece(
    f"{COCO}/annotations/annotations_trainval2017.zip",
    "coco",
    252907541,
    "f4bbac642086de4f52a3fdda2de5fa2c",
)
_COCO_VAL = Piece(f"{COCO}/zips/val2017.zip", "coco", 815585330, "442b8da7639aecaf257c1dceb8ba8c80")
_COCO_TRAIN = Piece(
    f"{COCO}/zips/train2017.zip", "coco", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"
)


def _odinw(names: Sequence[str]) -> tuple[Piece, ...]:
    return tuple(Piece(f"{ODINW}/{name}.zip", "odinw") for name in names)


DATA_SETS = {
    "coco-val2017": DataSet(
        (_COCO_BOXES, _COCO_VAL),
        "COCO 2017, 5,000 pictures to evaluate on",
        f"{COCO}/val2017",
        "coco/annotations/instances_val2017.json",
    ),
    "coco-train2017": DataSet(
        (_COCO_BOXES, _COCO_TRAIN),
        "COCO 2017, 118,287 pictures to train on",
        f"{COCO}/train2017",
        "coco/annotations/instances_train2017.json",
    ),
    "lvis-minival": DataSet(
        (Piece(LVIS, "coco/annotations"), _COCO_VAL),
        "LVIS on the 5,000 pictures of COCO val2017, as GLIP evaluates on it",
    ),
    "flickr30k-entities": DataSet(
        (
            Piece(f"{FLICKR}/annotations.zip", "flickr30k"),
            *(Piece(f"{FLICKR}/{part}.txt", "flickr30k") for part in ("train", "val", "test")),
        ),
        "phrases and boxes; ask for the photos at https://shannon.cs.illinois.edu/DenotationGraph "
        "and put them into flickr30k/flickr30k-images",
    ),
    "odinw-13": DataSet(_odinw(ODINW_13), "Object Detection in the Wild, the 13 of the paper"),
    "odinw-35": DataSet(_odinw(ODINW_35), "all of it; OxfordPets holds two of the 35"),
    **{f"odinw-{name}": DataSet(_odinw([name]), f"{name} of ODinW") for name in ODINW_35},
}


def main() -> int:
    """Fetch what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=sorted(DATA_SETS), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show all names, and what they are")
    parser.add_argument("--out", type=Path, default=Path("datasets"), metavar="DIR")
    parser.add_argument("--limit", type=int, metavar="N", help="of COCO only the first N pictures")
    parser.add_argument("--keep-archives", action="store_true", help="do not remove them")
    args = parser.parse_args()
    if args.list or args.name is None:
        print("\n".join(f"{name:28} {known.words}" for name, known in DATA_SETS.items()))
        return DONE

    def work() -> int:
        prepare(DATA_SETS[args.name], args.out, limit=args.limit, keep=args.keep_archives)
        note(f"{args.name} is in {args.out}: {DATA_SETS[args.name].words}")
        return DONE

    return guarded(work)


def prepare(known: DataSet, out: Path, *, limit: int | None = None, keep: bool = False) -> None:
    """Fetch and unpack what is not there yet.

    Args:
        known: What to fetch.
        out: Folder of all data.
        limit: Of a set whose pictures can be had one by one only the first.
        keep: Archives stay when they are unpacked.
    Raises:
        DataError: A server does not answer, a file is not what it was, or an archive is unsafe.
        StorageError: No room, or no right to write.
    """
    if limit is not None and (known.photos is None or limit < 1):
        raise DataError(f"--limit {limit}: 1 or more, and for sets of COCO only; leave it off")
    make_folder(out)
    pieces = known.pieces[:1] if limit is not None else known.pieces
    for piece in pieces:
        fetch(piece, out, keep=keep)
    if limit is not None:
        assert known.photos is not None and known.boxes is not None
        _subset(known.photos, out / known.boxes, out, limit)


def fetch(piece: Piece, out: Path, *, keep: bool = False) -> None:
    """One file, unpacked if it is an archive, unless the record says that it is there."""
    record = _read_record(out)
    entry = record.get(piece.url, {})
    folder = out / piece.folder
    if entry.get("unpacked") or (entry and (folder / piece.name).is_file()):
        return
    path = folder / piece.name
    if not path.is_file():
        download(piece.url, path, size=piece.size)
    found = _digests(path)
    for what, expected in (("md5", piece.md5), ("sha256", entry.get("sha256"))):
        if expected is not None and found[what] != expected:
            path.unlink()
            raise DataError(
                f"{piece.url} has {what} {found[what]} and not {expected}: it is damaged or was "
                f"changed; it was removed, try again (or take its entry out of {out / RECORD})"
            )
    entry = {"sha256": found["sha256"], "size": path.stat().st_size, "known": piece.md5 is not None}
    if piece.md5 is None and piece.url not in record:
        note(f"{piece.name}: no digest is published; sha256 {found['sha256']} is recorded")
    if path.suffix == ".zip":
        unpack(path, folder)
        entry["unpacked"] = True
    _write_record(out, piece.url, entry)
    if path.suffix == ".zip" and not keep:
        path.unlink()


def download(url: str, path: Path, *, size: int | None = None) -> None:
    """A file, whole or not at all; what an earlier call has left of it is gone on with.

    Raises:
        DataError: No answer after some tries, or another size.
    """
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    for attempt in range(TRIES):
        try:
            _rest_of(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == TRIES - 1:
                raise DataError(f"{url} answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            # A full disk is no network.
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise StorageError(f"{part}: no space left; what is there is kept") from error
            if attempt == TRIES - 1:
                raise DataError(
                    f"{url} cannot be fetched: {error}; try again, it goes on from "
                    f"{part.stat().st_size if part.exists() else 0} bytes"
                ) from error
        time.sleep(PAUSE_S * 2**attempt)
    if size is not None and part.stat().st_size != size:
        found = part.stat().st_size
        part.unlink()
        raise DataError(f"{url} has {found} bytes and not {size}; it was removed, try again")
    _tag_of(part).unlink(missing_ok=True)
    part.replace(path)


def _tag_of(part: Path) -> Path:
    """Where it stands which version of a file a part is of."""
    return part.with_name(f"{part.name}.version")


def _rest_of(url: str, part: Path) -> None:
    """What is missing of a part; all of it where the server has another version."""
    there = part.stat().st_size if part.exists() else 0
    tag = _tag_of(part)
    version = tag.read_text(encoding="utf-8") if tag.exists() else ""
    headers = {"User-Agent": "glip-prepare-data", "Accept-Encoding": "identity"}
    if there and version:
        headers |= {"Range": f"bytes={there}-", "If-Range": version}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "").endswith(f"/{there}"):
            return  # nothing was missing
        raise
    with closing(answer):
        goes_on = answer.status == 206
        etag = answer.headers.get("ETag") or ""
        strong = etag if not etag.startswith("W/") else ""
        tag.write_text(strong or answer.headers.get("Last-Modified") or "", encoding="utf-8")
        length = answer.headers.get("Content-Length")
        start = there if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            shutil.copyfileobj(answer, file, _BLOCK)
    if length is not None and part.stat().st_size != start + int(length):
        raise http.client.IncompleteRead(b"", start + int(length) - part.stat().st_size)


def unpack(archive: Path, folder: Path) -> None:
    """A zip into a folder: each file whole, and none outside.

    Raises:
        DataError: Damaged, or with names that lead out, links, or devices; nothing is written then.
        StorageError: The disk has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [one for one in content.infolist() if not one.is_dir()]
            for member in members:
                _check_member(archive, member)
            needed = sum(member.file_size for member in members)
            if needed > shutil.disk_usage(folder).free:
                raise StorageError(f"{archive} unpacks to {needed} bytes, and {folder} has less")
            for member in members:
                target = folder / member.filename
                if not target.parent.resolve().is_relative_to(folder.resolve()):
                    raise DataError(f"{target} leads out of {folder} through a link; remove it")
                with failing_disk(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with (
                        content.open(member) as source,
                        whole_path(target) as part,
                        part.open("wb") as file,
                    ):
                        shutil.copyfileobj(source, file, _BLOCK)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        archive.unlink()
        raise DataError(f"{archive} is damaged ({error}); it was removed, try again") from error


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    kind = stat.S_IFMT(member.external_attr >> 16)
    outside = not is_inside(name) or ":" in parts[0]
    if outside or "\\" in name or kind not in (0, stat.S_IFREG):
        raise DataError(f"{archive} holds {name!r}, which leads out of its folder; it is not used")


def _subset(photos: str, boxes: Path, out: Path, limit: int) -> None:
    """The first pictures of a COCO file, one by one, and a file with their boxes."""
    content = read_json(boxes)
    images = sorted(content["images"], key=lambda image: int(image["id"]))[:limit]
    folder = boxes.parent.parent / PurePosixPath(photos).name
    for image in images:
        name = PurePosixPath(image["file_name"]).name
        if not (folder / name).is_file():
            download(f"{photos}/{name}", folder / name)
    kept = {image["id"] for image in images}
    own = [box for box in content["annotations"] if box["image_id"] in kept]
    target = boxes.with_name(f"{boxes.stem}_first{len(images)}.json")
    write_json(target, {**content, "images": images, "annotations": own})
    note(f"boxes of {len(images)} pictures: {target.relative_to(out)}")


def _digests(path: Path) -> dict[str, str]:
    """MD5, as publishers give it, and SHA-256, of a file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for block in _blocks(path):
        md5.update(block)
        sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _read_record(out: Path) -> dict[str, Any]:
    path = out / RECORD
    content = read_json(path) if os.path.lexists(path) else {}
    if not isinstance(content, dict) or not all(isinstance(x, dict) for x in content.values()):
        raise DataError(f"{path} is no record of downloads; move it away")
    return content


def _write_record(out: Path, url: str, entry: dict[str, Any]) -> None:
    write_json(out / RECORD, {**_read_record(out), url: entry})


if __name__ == "__main__":
    sys.exit(main())
