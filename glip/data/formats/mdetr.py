"""Captions with boxes for their phrases -> records: MDETR and ODVG files, COCO captions.

* MDETR JSON (arXiv 2104.12763; reference J.3), as GoldG and Flickr30k are published: COCO with a
  `caption` in each image and `tokens_positive`, character spans, in each annotation.
* ODVG JSON lines (as Open-GroundingDINO and MM-GroundingDINO read them): one picture a line, with a
  `grounding` of one caption and its regions. Also what pseudo labels are written to.
* COCO captions: sentences without boxes, for a teacher to label.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one caption, P phrases.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from glip.data.formats.coco import (
    DetectionData,
    DetectionRecord,
    ImageId,
    file_name_of,
    is_box,
    read_json,
    size_of,
    xywh_to_xyxy,
)
from glip.data.packed import Packed
from glip.errors import DataError
from glip.files import whole_file

logger = logging.getLogger(__name__)

Span = tuple[int, int]
Phrase = tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class GroundingRecord:
    """One caption of one picture, and the boxes of its phrases."""

    image_id: ImageId
    """Of the entry: a picture with five captions is five entries in MDETR files."""
    file_name: str
    image_hw: tuple[int, int]
    caption: str
    phrases: tuple[Phrase, ...]
    """P phrases, each its [start, end) characters; spans of one phrase are in order and do not
    meet."""
    boxes: npt.NDArray[np.float64]
    """(N, 4) xyxy, pixels, exactly as in the file."""
    owners: npt.NDArray[np.int64]
    """(N,) row of `phrases`."""
    scores: npt.NDArray[np.float32] | None = None
    """(N,) in [0, 1], how sure a teacher was of each box; None for boxes drawn by people."""


@dataclass(frozen=True, eq=False)
class GroundingData:
    """A grounding data set: a record for each caption."""

    path: Path
    records: Packed[GroundingRecord]

    def __len__(self) -> int:
        return len(self.records)

    def file_names(self) -> list[str]:
        """The pictures' names, in order of the records."""
        return [record.file_name for record in self.records]


def read_grounding(path: str | Path) -> GroundingData:
    """Read MDETR or COCO caption JSON, ODVG JSON lines with captions (`.jsonl`), or a folder of the
    latter, whose parts are read by name.

    Boxes that are said to belong to no word are left out, with a note in the log.

    Raises:
        DataError: the file cannot be read, lacks a field, or a span lies outside its caption.
    """
    path = Path(path)
    if path.is_dir():
        parts = sorted(path.glob("*.jsonl"))
        if not parts:
            raise DataError(f"{path} holds no part of a grounding data set, *.jsonl")
        return GroundingData(path, Packed(chain.from_iterable(map(_read_odvg, parts))))
    if path.suffix == ".jsonl":
        return GroundingData(path, Packed(_read_odvg(path)))
    return parse_grounding(read_json(path), path)


def _read_odvg(path: Path) -> Iterator[GroundingRecord]:
    for line, content in read_lines(path):
        if "grounding" not in content:
            raise DataError(f"{path}:{line}: has no 'grounding'; lines of classes need a label map")
        yield _from_odvg(content, f"{path}:{line}", line)


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
            records += [_without_boxes(image["id"], name, size, text) for text in sentences]
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
                checked_phrase(spans, caption) or refuse(_bad_spans(where, spans, caption))
            )
        xyxy = xywh_to_xyxy(np.array(boxes, dtype=np.float64).reshape(-1, 4))
        records.append(_record(image["id"], name, size, caption, phrases, xyxy))
    if without_words:
        logger.warning("%s: left out %d boxes that belong to no word", path, without_words)
    return GroundingData(path, Packed(records))


def read_odvg_detection(path: str | Path, label_map: str | Path) -> DetectionData:
    """Read ODVG JSON lines with class labels.

    Args:
        path: lines with `detection: {"instances": [{"bbox": [x1, y1, x2, y2], "label": 3}]}`, or a
            folder of such files, which are read by name.
        label_map: JSON object from label number, as a string, to class name.
    Raises:
        DataError: a file cannot be read, or a label is not in the map.
    """
    path, label_map = Path(path), Path(label_map)
    try:
        names = {int(label): str(name) for label, name in read_json(label_map).items()}
    except (AttributeError, ValueError) as error:
        raise DataError(f"{label_map} is no map from label numbers to names") from error
    labels = sorted(names)
    row_of = {label: row for row, label in enumerate(labels)}
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    records: list[DetectionRecord] = []
    lines = ((f"{file}:{line}", item) for file in files for line, item in read_lines(file))
    for where, content in lines:
        name, size = _picture_of(content, where)
        instances = content.get("detection", {}).get("instances", [])
        for instance in instances:
            if not is_box(instance.get("bbox")):
                raise DataError(f"{where}: bbox {instance.get('bbox')} is not [x1, y1, x2, y2]")
            if instance.get("label") not in row_of:
                raise DataError(f"{where}: label {instance.get('label')} is not in {label_map}")
        records.append(
            DetectionRecord(
                image_id=content.get("image_id", len(records) + 1),
                file_name=name,
                image_hw=size,
                boxes=np.array([i["bbox"] for i in instances], dtype=np.float64).reshape(-1, 4),
                labels=np.array([row_of[i["label"]] for i in instances], dtype=np.int64),
                crowd=np.zeros(len(instances), dtype=np.bool_),
            )
        )
    return DetectionData(
        path, tuple(names[label] for label in labels), tuple(labels), Packed(records)
    )


def to_odvg(record: GroundingRecord) -> dict[str, Any]:
    """A record as one line of an ODVG file; `read_grounding` gives it back.

    Beside the usual fields each region has its spans (`tokens_positive`) and, if known, its
    `score`.
    """
    regions: list[dict[str, Any]] = []
    for row, (box, owner) in enumerate(
        zip(record.boxes.tolist(), record.owners.tolist(), strict=True)
    ):
        spans = record.phrases[owner]
        region = {
            "bbox": box,
            "phrase": " ".join(record.caption[a:b] for a, b in spans),
            "tokens_positive": [list(span) for span in spans],
        }
        if record.scores is not None:
            region["score"] = round(float(record.scores[row]), 6)
        regions.append(region)
    return {
        "filename": record.file_name,
        "height": record.image_hw[0],
        "width": record.image_hw[1],
        "image_id": record.image_id,
        "grounding": {"caption": record.caption, "regions": regions},
    }


def write_grounding(records: Iterable[GroundingRecord], path: str | Path) -> Path:
    """Write records as ODVG JSON lines, whole or not at all.

    Raises:
        DataError: the suffix is not `.jsonl`, which is how the file is recognised when read.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        raise DataError(
            f"{path}: grounding files are JSON lines; name it {path.with_suffix('.jsonl')}"
        )
    with whole_file(path) as file:
        for record in records:
            file.write(json.dumps(to_odvg(record), ensure_ascii=False) + "\n")
    return path


def checked_phrase(spans: Any, caption: str) -> Phrase | None:
    """Spans of one phrase in order, overlapping and touching ones joined; None if one is no
    span.
    """
    try:
        pairs = sorted((int(start), int(end)) for start, end in spans)
    except (TypeError, ValueError):
        return None
    if any(not 0 <= start < end <= len(caption) for start, end in pairs):
        return None
    if not "".join(caption[start:end] for start, end in pairs).strip():
        return None
    joined: list[Span] = []
    for start, end in pairs:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The JSON objects of a file of JSON lines, each with its line number from 1; blank lines go.

    Raises:
        DataError: the file is missing, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    content = json.loads(line)
                    if not isinstance(content, Mapping):
                        raise DataError(f"{path}:{number} is not a JSON object")
                    yield number, content
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not valid JSON lines: {error}") from error


def _bad_spans(where: str, spans: Any, caption: str) -> str:
    return (
        f"{where} has tokens_positive {spans}, expected [[start, end], …] inside the "
        f"{len(caption)} characters of its caption"
    )


def _without_boxes(
    image_id: ImageId, name: str, size: tuple[int, int], caption: str
) -> GroundingRecord:
    return _record(image_id, name, size, caption, [], np.zeros((0, 4)))


def _record(
    image_id: ImageId,
    name: str,
    size: tuple[int, int],
    caption: str,
    phrases: Sequence[Phrase],
    boxes: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float32] | None = None,
) -> GroundingRecord:
    """A record from one phrase for each box: boxes of equal spans share a phrase."""
    rows: dict[Phrase, int] = {}
    owners = [rows.setdefault(phrase, len(rows)) for phrase in phrases]
    return GroundingRecord(
        image_id, name, size, caption, tuple(rows), boxes, np.array(owners, dtype=np.int64), scores
    )


def _picture_of(content: Mapping[str, Any], where: str) -> tuple[str, tuple[int, int]]:
    name, size = content.get("filename") or file_name_of(content), size_of(content)
    if not name or size is None:
        raise DataError(f"{where}: needs 'filename', 'height' and 'width'")
    return str(name), size


def _from_odvg(content: Mapping[str, Any], where: str, line: int) -> GroundingRecord:
    """A record of one ODVG line; a phrase without spans is looked for in the caption."""
    name, size = _picture_of(content, where)
    caption = content["grounding"].get("caption")
    if not isinstance(caption, str):
        raise DataError(f"{where}: has no 'caption'")
    boxes, phrases, scores = [], [], []
    for region in content["grounding"].get("regions", []):
        spans = region.get("tokens_positive")
        if spans is None:
            words = region.get("phrase")
            spans = _found(caption, [words] if isinstance(words, str) else words or [])
            if not spans:
                raise DataError(
                    f"{where}: phrase {words!r} is not in the caption {caption!r}; write it as it "
                    "stands there, or give 'tokens_positive'"
                )
        phrase = checked_phrase(spans, caption)
        if phrase is None:
            raise DataError(f"{where}: {_bad_spans('a region', spans, caption)}")
        bbox = region.get("bbox")
        several = isinstance(bbox, list) and bool(bbox) and isinstance(bbox[0], list)
        for box in bbox if several else [bbox]:  # a region may list all boxes of its phrase
            if not is_box(box):
                raise DataError(f"{where}: bbox {box} is not [x1, y1, x2, y2]")
            boxes.append(box)
            phrases.append(phrase)
            scores.append(region.get("score"))
    known = None if None in scores or not scores else np.array(scores, dtype=np.float32)
    return _record(
        content.get("image_id", line),
        name,
        size,
        caption,
        phrases,
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        known,
    )


def _found(caption: str, words: Sequence[str]) -> list[Span]:
    """The first place of each wording in a caption, whatever its case; none if one is missing."""
    places = [(caption.lower().find(word.lower()), len(word)) for word in words]
    if any(start < 0 or not length for start, length in places):
        return []
    return [(start, start + length) for start, length in places]
