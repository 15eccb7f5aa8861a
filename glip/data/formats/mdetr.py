"""Captions with boxes for their phrases, in one JSON object: MDETR files and COCO captions.

* MDETR (arXiv 2104.12763; reference J.3), as GoldG and Flickr30k are published: COCO with a
  `caption` in each image and `tokens_positive`, character spans, in each annotation.
* COCO captions: sentences without boxes, for a teacher to label.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one caption, P phrases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from glip.data.faults import Faults, Kind
from glip.data.formats.coco import (
    ImageEntry,
    check_lists,
    image_entries,
    is_box,
    located,
    same_id,
    some_names,
    xywh_to_xyxy,
)
from glip.data.formats.content import checked
from glip.data.formats.entries import Request
from glip.data.formats.spans import checked_phrase, grounding_record, sentence_record
from glip.data.matching import pictures_for
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.data.records import Annotated, GroundingData, GroundingRecord, ImageId, Phrase


class _Region(msgspec.Struct):
    """An annotation: a box of a phrase, or a sentence."""

    image_id: int | str
    id: int | str | None = None
    bbox: list[float] | None = None
    tokens_positive: Any = None
    caption: str | None = None

    @property
    def called(self) -> str:
        """What a message calls it."""
        return f"annotation {'?' if self.id is None else self.id} (image {self.image_id})"


def has_captions(content: Any) -> bool:
    """Whether the first image or the first annotation of a file has one."""
    if not isinstance(content, Mapping):
        return False
    lists = [content.get(key) for key in ("images", "annotations")]
    firsts = [entries[0] for entries in lists if isinstance(entries, list) and entries]
    return any(isinstance(entry, Mapping) and "caption" in entry for entry in firsts)


def read_mdetr(request: Request) -> Annotated:
    """Read an MDETR or COCO captions file and find its pictures."""
    names = some_names(request.content)
    pictures = pictures_for(request.path, request.images, names)
    data = parse_grounding(request.content, request.path, pictures=pictures, faults=request.faults)
    return Annotated(data, pictures, request.faults)


def parse_grounding(
    content: Any,
    path: Path,
    *,
    pictures: Pictures | None = None,
    faults: Faults | None = None,
) -> GroundingData:
    """An MDETR or COCO captions file that is in memory.

    Boxes that are said to belong to no word are left out, with a note in the log.

    Args:
        content: of the file.
        path: only names it in messages.
        pictures: say sizes where the file does not, and which pictures are there.
        faults: is told what is left out; by default that is judged here.
    Raises:
        DataError: it is no such file, or too much of it is left out.
    """
    own = faults or Faults(path)
    check_lists(content, path, ("images", "annotations"))
    entries = list(image_entries(content["images"], own))
    images = located(entries, pictures, own)
    gone = _ids(content["images"]) - {str(number) for number in images}
    owned = _owned(content["annotations"], images, gone, own)
    records = (
        record
        for number, (image, name, size) in images.items()
        for record in _records(image, name, size, owned[number], own)
    )
    data = GroundingData(path, Packed(records))
    if faults is None:
        own.close()
    return data


def _ids(entries: list[Any]) -> set[str]:
    return {str(entry.get("id")) for entry in entries if isinstance(entry, Mapping)}


def _owned(
    entries: list[Any], images: Mapping[ImageId, object], gone: set[str], faults: Faults
) -> dict[ImageId, list[_Region]]:
    """Image -> its annotations; `gone` are images that are faults themselves."""
    owned: dict[ImageId, list[_Region]] = {number: [] for number in images}
    for number, entry in enumerate(entries):
        if (region := _region(entry, number, faults)) is None:
            continue
        owner = same_id(region.image_id, images)
        if owner is not None:
            owned[owner].append(region)
        elif str(region.image_id) not in gone:
            where = f"{region.called} belongs to image {region.image_id}"
            faults.add("unknown images", where)
    return owned


def _region(entry: Any, number: int, faults: Faults) -> _Region | None:
    """An annotation whose fields have their types; of others it says which has not."""
    faults.count("boxes")
    try:
        return checked(entry, _Region)
    except ValueError as error:
        if not isinstance(entry, Mapping):
            faults.add("annotation fields", f"annotation number {number} is no object")
            return None
        kind: Kind = "annotation fields"
        if "'bbox" in str(error):
            kind = "no boxes"
        elif "'image_id" in str(error):
            kind = "unknown images"
        called = f"annotation {entry.get('id', '?')!s:.40} (image {entry.get('image_id')!s:.40})"
        faults.add(kind, f"{called} has bbox {entry.get('bbox')!s:.80}: {error}")
        return None


def _records(
    image: ImageEntry, name: str, size: tuple[int, int], own: list[_Region], faults: Faults
) -> Iterator[GroundingRecord]:
    """The caption of an image with its boxes, or each sentence of its annotations."""
    sentences = [region.caption for region in own if region.caption is not None]
    if sentences and image.caption is None:
        for text in sentences:
            yield sentence_record(image.id, name, size, text)
        return
    caption = image.caption
    if caption is None or not caption.strip():
        faults.add("captions", f"image {image.id} has the caption {caption!r}")
        return
    boxes: list[list[float]] = []
    phrases: list[Phrase] = []
    for region in own:
        if region.bbox is None or not is_box(region.bbox):
            faults.add("no boxes", f"{region.called} has bbox {region.bbox}")
        elif not region.tokens_positive:
            faults.note("boxes belong to no word and are left out")
        elif (phrase := checked_phrase(region.tokens_positive, caption)) is None:
            spans = str(region.tokens_positive)[:80]
            faults.add("spans", f"{region.called} has {spans} in {len(caption)} characters")
        else:
            boxes.append(region.bbox)
            phrases.append(phrase)
    xyxy = xywh_to_xyxy(np.array(boxes, dtype=np.float64).reshape(-1, 4))
    yield grounding_record(image.id, name, size, caption, phrases, xyxy)
