"""Flickr30k Entities (arXiv 1505.04870): sentences whose phrases point at boxes, from its own
files.

`Sentences/1000092795.txt` holds a sentence a line, "[/EN#1/people Two young guys] stand …";
`Annotations/1000092795.xml` the boxes of each number. Knows nothing about prompts, tokens or
pixels. Letters: N boxes of one phrase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from glip.data.packed import Packed
from glip.data.records import GroundingData, GroundingRecord
from glip.errors import DataError

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


def read_flickr(folder: str | Path, *, split: str | None = None) -> FlickrData:
    """Read `Sentences` and `Annotations` of Flickr30k Entities.

    Args:
        folder: with both of them and, for a split, `train.txt`, `val.txt` and `test.txt`.
        split: "train", "val" or "test"; by default every picture that has sentences.
    Raises:
        DataError: a file is missing or not as expected.
    """
    folder = Path(folder)
    if split is None:
        ids = sorted(file.stem for file in (folder / "Sentences").glob("*.txt"))
        if not ids:
            raise DataError(f"{folder / 'Sentences'} holds no sentences (*.txt)")
    else:
        ids = _text(folder / f"{split}.txt").split()
    return FlickrData(folder, Packed(s for image_id in ids for s in _sentences(folder, image_id)))


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


def _sentences(folder: Path, image_id: str) -> list[FlickrSentence]:
    image_hw, boxes = _boxes(folder / "Annotations" / f"{image_id}.xml")
    none = np.zeros((0, 4))
    sentences = []
    lines = _text(folder / "Sentences" / f"{image_id}.txt").splitlines()
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
    """Height and width of a picture, and the boxes of each entity of it."""
    found: dict[int, list[list[float]]] = {}
    try:
        tree = ElementTree.fromstring(_text(path))
        image_hw = int(tree.findtext("size/height", "")), int(tree.findtext("size/width", ""))
        for entry in tree.iter("object"):
            corners = entry.find("bndbox")
            if corners is None:  # a scene, or something that is not shown
                continue
            box = [float(corners.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")]
            for name in entry.findall("name"):
                found.setdefault(int(name.text or ""), []).append(box)
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no Flickr30k Entities annotation: {error}") from error
    return image_hw, {key: np.array(rows, dtype=np.float64) for key, rows in found.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
