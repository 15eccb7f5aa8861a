"""ODVG JSON lines, as Open-GroundingDINO and MM-GroundingDINO read them: one picture a line.

A line holds either a `grounding`, one caption and its regions, which is also what pseudo labels are
written to, or a `detection`, boxes with numbers that a label map names. A folder of `*.jsonl` is a
data set in parts.

Knows nothing about prompts, tokens or pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glip.data.formats.coco import file_name_of, is_box, read_json, size_of
from glip.data.formats.layout import DataSet, as_json, place_all, text_file
from glip.data.formats.spans import bad_spans, checked_phrase, grounding_record
from glip.data.packed import Packed
from glip.data.records import DetectionData, DetectionRecord, GroundingRecord, Span
from glip.errors import DataError
from glip.files import whole_file


def read_odvg(path: Path) -> Iterator[GroundingRecord]:
    """The captions of one file, a line each."""
    for line, content in read_lines(path):
        if "grounding" not in content:
            raise DataError(f"{path}:{line}: has no 'grounding'; lines of classes need a label map")
        yield _from_odvg(content, f"{path}:{line}", line)


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
            raise DataError(f"{where}: {bad_spans('a region', spans, caption)}")
        bbox = region.get("bbox")
        several = isinstance(bbox, list) and bool(bbox) and isinstance(bbox[0], list)
        for box in bbox if several else [bbox]:  # a region may list all boxes of its phrase
            if not is_box(box):
                raise DataError(f"{where}: bbox {box} is not [x1, y1, x2, y2]")
            boxes.append(box)
            phrases.append(phrase)
            scores.append(region.get("score"))
    known = None if None in scores or not scores else np.array(scores, dtype=np.float32)
    return grounding_record(
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


def write_odvg(data: DataSet, folder: Path) -> None:
    """Write `annotations.jsonl`, or one for each part, and `label_map.json`."""
    numbers = {name: number for number, name in enumerate(data.names)}
    with text_file(folder / "label_map.json") as file:
        file.write(as_json({str(number): name for name, number in numbers.items()}) + "\n")
    for part in data.parts:
        with text_file(folder / f"{part or 'annotations'}.jsonl") as file:
            for picture in data.of(part):
                instances = []
                for label in picture.labels:
                    instance: dict[str, Any] = {
                        "bbox": list(label.box),
                        "label": numbers[label.name],
                        "category": label.name,
                    }
                    if label.score is not None:
                        instance["score"] = label.score
                    instances.append(instance)
                height, width = picture.image_hw
                line = {
                    "filename": picture.picture,
                    "height": height,
                    "width": width,
                    "detection": {"instances": instances},
                }
                file.write(as_json(line) + "\n")
    place_all(data, folder)
