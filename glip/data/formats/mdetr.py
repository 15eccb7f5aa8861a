"""Captions with boxes for their phrases, in one JSON object: MDETR files and COCO captions.

* MDETR (arXiv 2104.12763; reference J.3), as GoldG and Flickr30k are published: COCO with a
  `caption` in each image and `tokens_positive`, character spans, in each annotation.
* COCO captions: sentences without boxes, for a teacher to label.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one caption, P phrases.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from glip.data.formats.coco import file_name_of, is_box, size_of, xywh_to_xyxy
from glip.data.formats.spans import bad_spans, checked_phrase, grounding_record, sentence_record
from glip.data.packed import Packed
from glip.data.records import GroundingData, GroundingRecord, ImageId
from glip.errors import DataError

logger = logging.getLogger(__name__)


def parse_grounding(content: Any, path: Path) -> GroundingData:
    """MDETR or COCO captions content that is in memory; `path` only names it in messages."""

    def refuse(what: str) -> NoReturn:
        raise DataError(f"{path}: {what}; 'glip doctor {path}' lists all faults")

    if not isinstance(content, Mapping):
        refuse("is not an MDETR or COCO captions file, which is one JSON object")
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            refuse(f"has no list '{key}'")
    places: dict[ImageId, int] = {}
    for place, image in enumerate(content["images"]):
        if not isinstance(image, Mapping) or "id" not in image:
            refuse(f"image number {place} has no 'id'")
        if image["id"] in places:
            refuse(f"image id {image['id']} occurs twice")
        places[image["id"]] = place
    owned: list[list[Mapping[str, Any]]] = [[] for _ in places]
    for number, annotation in enumerate(content["annotations"]):
        owner = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        if owner not in places:
            refuse(f"annotation number {number} belongs to image {owner}, which is not in 'images'")
        owned[places[owner]].append(annotation)

    records: list[GroundingRecord] = []
    without_words = 0
    for image, own in zip(content["images"], owned, strict=True):
        name = file_name_of(image) or refuse(f"image {image['id']} has no 'file_name'")
        size = size_of(image) or refuse(f"image {image['id']} has no positive 'width' and 'height'")
        sentences = [str(a["caption"]) for a in own if "caption" in a]
        if sentences and "caption" not in image:
            records += [sentence_record(image["id"], name, size, text) for text in sentences]
            continue
        caption = image.get("caption")
        if not isinstance(caption, str):
            refuse(f"image {image['id']} has no 'caption', nor do its annotations")
        boxes, phrases = [], []
        for annotation in own:
            where = f"annotation {annotation.get('id', '?')}"
            if not is_box(annotation.get("bbox")):
                refuse(f"{where} has bbox {annotation.get('bbox')}, expected [x, y, width, height]")
            spans = annotation.get("tokens_positive")
            if not spans:
                without_words += 1
                continue
            boxes.append(annotation["bbox"])
            phrases.append(
                checked_phrase(spans, caption) or refuse(bad_spans(where, spans, caption))
            )
        xyxy = xywh_to_xyxy(np.array(boxes, dtype=np.float64).reshape(-1, 4))
        records.append(grounding_record(image["id"], name, size, caption, phrases, xyxy))
    if without_words:
        logger.warning("%s: left out %d boxes that belong to no word", path, without_words)
    return GroundingData(path, Packed(records))
