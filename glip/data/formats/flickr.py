"""Flickr30k Entities (arXiv 1505.04870): sentences whose phrases point at boxes, from its own
files.

`Sentences/1000092795.txt` holds a sentence a line, "[/EN#1/people Two young guys] stand …";
`Annotations/1000092795.xml` the boxes of each number. Knows nothing about prompts, tokens or
pixels. Letters: N boxes of one phrase.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glip.data.faults import Faults
from glip.data.formats.content import is_coordinate, read_text, read_xml
from glip.data.formats.entries import SAMPLE, Request, whole_size
from glip.data.matching import match_names, pictures_for
from glip.data.packed import Packed
from glip.data.pictures import is_inside
from glip.data.records import Annotated, GroundingData, GroundingRecord
from glip.errors import DataError
from glip.files import why_missing

_MARKUP = re.compile(r"\[/EN#(?P<number>\d+)(?P<kinds>(?:/[\w-]+)+) (?P<words>[^\]]*)\]")


@dataclass(frozen=True, eq=False)
class FlickrPhrase:
    """A marked phrase of a sentence and the boxes of what it names."""

    span: tuple[int, int]
    """[start, end) characters of the plain sentence."""
    entity: int
    """Number of the thing; the five sentences of a picture share numbers."""
    kinds: tuple[str, ...]
    """Such as "people" or "clothing"; a few phrases have two."""
    boxes: npt.NDArray[np.float64]
    """(N, 4) xyxy, pixels, as in the file; N is 0 for what cannot be boxed."""


@dataclass(frozen=True, eq=False)
class FlickrSentence:
    """A sentence of a picture."""

    image_id: str
    number: int
    """From 0 to 4."""
    file_name: str
    image_hw: tuple[int, int]
    text: str
    """Without markup."""
    phrases: tuple[FlickrPhrase, ...]


@dataclass(frozen=True, eq=False)
class FlickrData:
    """Sentences of Flickr30k Entities, all those of a picture in a row."""

    path: Path
    sentences: Packed[FlickrSentence]

    def __len__(self) -> int:
        return len(self.sentences)

    def grounding(self) -> GroundingData:
        """The sentences as grounding records, for training."""
        records = []
        for sentence in self.sentences:
            boxed = [phrase for phrase in sentence.phrases if len(phrase.boxes)]
            owners = [row for row, phrase in enumerate(boxed) for _ in phrase.boxes]
            boxes = [phrase.boxes for phrase in boxed] or [np.zeros((0, 4))]
            records.append(
                GroundingRecord(
                    image_id=f"{sentence.image_id}#{sentence.number}",
                    file_name=sentence.file_name,
                    image_hw=sentence.image_hw,
                    caption=sentence.text,
                    phrases=tuple((phrase.span,) for phrase in boxed),
                    boxes=np.concatenate(boxes),
                    owners=np.array(owners, dtype=np.int64),
                )
            )
        return GroundingData(self.path, Packed(records))


def read_flickr_captions(request: Request) -> Annotated:
    """Read them as captions with boxes, with their pictures."""
    data = read_flickr(request.path, split=request.split, faults=request.faults).grounding()
    some = [data.records[row].file_name for row in range(min(SAMPLE, len(data)))]
    pictures = pictures_for(request.path, request.images, some)
    names = {record.file_name: () for record in data.records}
    matched = match_names(pictures, names, request.faults)
    for name in names:
        if name not in matched:
            request.faults.add("missing pictures", name)
    there = (r for r in data.records if r.file_name in matched)
    records = (replace(record, file_name=matched[record.file_name]) for record in there)
    return Annotated(GroundingData(data.path, Packed(records)), pictures, request.faults)


def read_flickr(
    folder: str | Path, *, split: str | None = None, faults: Faults | None = None
) -> FlickrData:
    """Read `Sentences` and `Annotations` of Flickr30k Entities.

    Args:
        folder: with both of them and, for a split, `train.txt`, `val.txt` and `test.txt`.
        split: "train", "val" or "test"; by default every picture that has sentences.
        faults: is told of pictures whose files cannot be read; by default that is judged here.
    Raises:
        DataError: there is nothing, or too much of it cannot be read.
    """
    folder = Path(folder)
    own = faults or Faults(folder)
    if split is None:
        sentences_of = folder / "Sentences"
        if not os.path.isdir(sentences_of):
            raise DataError(f"{sentences_of} {why_missing(sentences_of)}")
        ids = sorted(file.stem for file in sentences_of.glob("*.txt"))
        if not ids:
            raise DataError(f"{sentences_of} holds no sentences (*.txt)")
    else:
        ids = read_text(folder / f"{split}.txt").split()
    sentences = Packed(s for image_id in ids for s in _picture(folder, image_id, own))
    if faults is None:
        own.close()
    return FlickrData(folder, sentences)


def parse_sentence(line: str) -> tuple[str, list[tuple[tuple[int, int], int, tuple[str, ...]]]]:
    """A line with markup -> the plain sentence, and (span, entity, kinds) of each marked phrase."""
    pieces: list[str] = []
    marked = []
    last = length = 0
    for match in _MARKUP.finditer(line):
        between, words = line[last : match.start()], match["words"]
        start = length + len(between)
        kinds = tuple(match["kinds"].strip("/").split("/"))
        marked.append(((start, start + len(words)), int(match["number"]), kinds))
        pieces += [between, words]
        last, length = match.end(), start + len(words)
    return "".join([*pieces, line[last:]]), marked


def _picture(folder: Path, image_id: str, faults: Faults) -> list[FlickrSentence]:
    faults.count("images")
    faults.count("files")
    try:
        if not is_inside(image_id):
            raise DataError(f"{image_id} leads out of {folder}")
        return _sentences(folder, image_id)
    except DataError as error:
        faults.add("files", str(error))
        return []


def _sentences(folder: Path, image_id: str) -> list[FlickrSentence]:
    image_hw, boxes = _boxes(folder / "Annotations" / f"{image_id}.xml")
    none = np.zeros((0, 4))
    sentences = []
    lines = read_text(folder / "Sentences" / f"{image_id}.txt").splitlines()
    for number, line in enumerate(line for line in lines if line.strip()):
        text, marked = parse_sentence(line.strip())
        phrases = tuple(
            FlickrPhrase(span, entity, kinds, boxes.get(entity, none))
            for span, entity, kinds in marked
        )
        sentences.append(
            FlickrSentence(image_id, number, f"{image_id}.jpg", image_hw, text, phrases)
        )
    return sentences


def _boxes(path: Path) -> tuple[tuple[int, int], dict[int, npt.NDArray[np.float64]]]:
    """Height and width of a picture, and the boxes of each entity of it.

    Raises:
        DataError: it is no such file.
    """
    found: dict[int, list[list[float]]] = {}
    tree = read_xml(path)
    size = whole_size(tree.findtext("size/width"), tree.findtext("size/height"))
    if size is None:
        raise DataError(f"{path} is no Flickr30k Entities annotation: it has no size")
    try:
        for entry in tree.iter("object"):
            corners = entry.find("bndbox")
            if corners is None:  # a scene, or something that is not shown
                continue
            box = [float(corners.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
            if not all(map(is_coordinate, box)):
                raise ValueError(f"a box has the corners {box}")
            for name in entry.findall("name"):
                found.setdefault(int(name.text or ""), []).append(box)
    except ValueError as error:
        raise DataError(f"{path} is no Flickr30k Entities annotation: {error}") from error
    return size, {key: np.array(rows, dtype=np.float64) for key, rows in found.items()}
