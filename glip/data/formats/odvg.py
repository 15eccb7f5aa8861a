"""ODVG JSON lines, as Open-GroundingDINO and MM-GroundingDINO read them: one picture a line.

A line holds either a `grounding`, one caption and its regions, which is also what pseudo labels are
written to, or a `detection`, boxes with numbers that a label map names. A folder of `*.jsonl` is a
data set in parts.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one picture or caption.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from glip.data.faults import Faults
from glip.data.formats.coco import is_box
from glip.data.formats.content import checked, json_lines, read_json
from glip.data.formats.entries import SAMPLE, Request, picture_size, whole_size
from glip.data.formats.layout import DataSet, as_json, place_all, text_file
from glip.data.formats.spans import bad_spans, checked_phrase, grounding_record
from glip.data.labels import Labelled
from glip.data.matching import match_names, pictures_for
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.data.records import (
    Annotated,
    DetectionData,
    DetectionRecord,
    GroundingData,
    GroundingRecord,
    Phrase,
    Span,
)
from glip.errors import DataError
from glip.files import whole_file
from glip.text.characters import whole_words


class _Instance(msgspec.Struct):
    """A box with a numbered class."""

    bbox: list[float]
    label: int


class _Detection(msgspec.Struct):
    instances: list[_Instance] = msgspec.field(default_factory=list)


class _Region(msgspec.Struct):
    """A phrase and its box, or several."""

    bbox: list[float | list[float]]
    phrase: str | list[str] | None = None
    tokens_positive: Any = None
    score: float | None = None

    @property
    def boxes(self) -> list[list[float]]:
        """One or more, x1, y1, x2, y2 each."""
        several = [box for box in self.bbox if isinstance(box, list)]
        return several or [[value for value in self.bbox if not isinstance(value, list)]]


class _Grounding(msgspec.Struct):
    caption: str
    regions: list[_Region] = msgspec.field(default_factory=list)


class _Line(msgspec.Struct):
    """A picture."""

    filename: str | None = None
    file_name: str | None = None
    height: float | None = None
    width: float | None = None
    image_id: int | str | None = None
    grounding: _Grounding | None = None
    detection: _Detection | None = None

    @property
    def name(self) -> str:
        """Of the picture."""
        return self.filename or self.file_name or ""


def read_odvg(request: Request) -> Annotated:
    """Read lines of captions, or of classes where there is a label map; a file or a folder.

    A label map that was not asked for may be that of a file beside lines that are all captions.
    """
    path, faults = request.path, request.faults
    some = list(_some_lines(path))
    pictures = pictures_for(path, request.images, [line.name for line in some])
    label_map = request.label_map
    if label_map is None and not (some and all(line.grounding for line in some)):
        label_map = label_map_of(path) if os.path.isfile(label_map_of(path)) else None
    if label_map is not None:
        return Annotated(_detections(path, label_map, faults, pictures), pictures, faults)
    return Annotated(
        GroundingData(path, Packed(_captions(path, faults, pictures))), pictures, faults
    )


def read_odvg_detection(path: str | Path, label_map: str | Path) -> DetectionData:
    """Read lines of classes without their pictures.

    Args:
        path: lines with `detection: {"instances": [{"bbox": [x1, y1, x2, y2], "label": 3}]}`, or a
            folder of such files, which are read by name.
        label_map: JSON object from label number, as a string, to class name.
    Raises:
        DataError: a file cannot be read, or too much of it is left out.
    """
    faults = Faults(Path(path))
    data = _detections(Path(path), Path(label_map), faults, None)
    faults.close()
    return data


def read_odvg_captions(path: Path) -> GroundingData:
    """Read lines of captions without their pictures; a file or a folder.

    Raises:
        DataError: a file cannot be read, or too much of it is left out.
    """
    faults = Faults(path)
    data = GroundingData(path, Packed(_captions(path, faults, None)))
    faults.close()
    return data


def label_map_of(path: Path) -> Path:
    """Where the names of the labels of an ODVG file or folder are by habit."""
    return (path if os.path.isdir(path) else path.parent) / "label_map.json"


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


def parts_of(path: Path) -> list[Path]:
    """The files of a data set, in order.

    Raises:
        DataError: a folder without any.
    """
    parts = sorted(path.glob("*.jsonl")) if os.path.isdir(path) else [path]
    if not parts:
        raise DataError(f"{path} holds no part of a grounding data set, *.jsonl")
    return parts


def _some_lines(path: Path) -> Iterator[_Line]:
    """The first ones."""
    return (line for _, line in islice(_lines(path, Faults(path)), SAMPLE))


def _lines(path: Path, faults: Faults) -> Iterator[tuple[str, _Line]]:
    """Where each line stands, and what it says; lines that do not fit are faults."""
    for part in parts_of(path):
        for number, content in json_lines(part, faults):
            where = f"{part}:{number}"
            try:
                line = checked(content, _Line)
            except ValueError as error:
                faults.add("lines", f"{where}: {error}")
                continue
            if line.name:
                yield where, line
            else:
                faults.add("lines", f"{where}: needs 'filename', 'height' and 'width'")


def _placed(
    path: Path, faults: Faults, pictures: Pictures | None
) -> Iterator[tuple[str, _Line, str, tuple[int, int]]]:
    """Lines whose picture is there, with its name, height and width."""
    matched: dict[str, str] | None = None
    for where, line in _lines(path, faults):
        faults.count("images")
        name: str | None = line.name
        size = whole_size(line.width, line.height)
        if pictures is not None:
            if line.name not in pictures:
                if matched is None:  # only now, as it reads the names of all lines
                    every = {other.name: () for _, other in _lines(path, Faults(path))}
                    matched = match_names(pictures, every, faults)
                name = matched.get(line.name)
            if name is None:
                faults.add("missing pictures", f"{where}: {line.name}")
                continue
            size = size or picture_size(name, pictures, faults)
        elif size is None:
            faults.add("lines", f"{where}: needs 'filename', 'height' and 'width'")
        if name is not None and size is not None:
            yield where, line, name, size


def _detections(
    path: Path, label_map: Path, faults: Faults, pictures: Pictures | None
) -> DetectionData:
    names = _label_names(label_map)
    row_of = {label: row for row, label in enumerate(sorted(names))}
    records: list[DetectionRecord] = []
    for where, line, name, size in _placed(path, faults, pictures):
        if line.detection is None and line.grounding is not None:
            faults.add("lines", f"{where}: has a caption, no classes; read it by itself")
            continue
        kept = []
        for instance in line.detection.instances if line.detection else ():
            faults.count("boxes")
            if not is_box(instance.bbox):
                faults.add("no boxes", f"{where}: bbox {instance.bbox} is not [x1, y1, x2, y2]")
            elif instance.label not in row_of:
                where_label = f"{where}: label {instance.label} is not in {label_map}"
                faults.add("unknown categories", where_label)
            else:
                kept.append(instance)
        records.append(
            DetectionRecord(
                image_id=len(records) + 1 if line.image_id is None else line.image_id,
                file_name=name,
                image_hw=size,
                boxes=np.array([i.bbox for i in kept], dtype=np.float64).reshape(-1, 4),
                labels=np.array([row_of[i.label] for i in kept], dtype=np.int64),
                crowd=np.zeros(len(kept), dtype=np.bool_),
            )
        )
    ordered = sorted(names)
    return DetectionData(
        path, tuple(names[label] for label in ordered), tuple(ordered), Packed(records)
    )


def _label_names(label_map: Path) -> dict[int, str]:
    try:
        content = checked(read_json(label_map), dict[str, str | int | float])
        names = {int(label): str(name) for label, name in content.items()}
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{label_map} is no map from label numbers to names: {error}") from error
    if len(names) != len(content):
        raise DataError(f"{label_map} has two names for one number, such as 0 and 00")
    return names


def _captions(path: Path, faults: Faults, pictures: Pictures | None) -> Iterator[GroundingRecord]:
    for number, (where, line, name, size) in enumerate(_placed(path, faults, pictures), start=1):
        if line.grounding is None:
            what = "has no 'grounding'; lines of classes need a label map"
            faults.add("lines", f"{where}: {what}")
        elif (record := _caption(line, line.grounding, where, number, faults)) is not None:
            yield replace(record, file_name=name, image_hw=size)


def _caption(
    line: _Line, grounding: _Grounding, where: str, number: int, faults: Faults
) -> GroundingRecord | None:
    """A record of one line; a phrase without spans is looked for in the caption."""
    caption = grounding.caption
    boxes: list[list[float]] = []
    phrases: list[Phrase] = []
    scores: list[float | None] = []
    for region in grounding.regions:
        faults.count("boxes", len(region.boxes))
        phrase = _phrase(region, caption, where, faults)
        for box in region.boxes if phrase is not None else ():
            if not is_box(box):
                faults.add("no boxes", f"{where}: bbox {box} is not [x1, y1, x2, y2]")
            elif region.score is not None and not 0 <= region.score <= 1:
                faults.add("no boxes", f"{where}: score {region.score} is not in [0, 1]")
            else:
                assert phrase is not None
                boxes.append(box)
                phrases.append(phrase)
                scores.append(region.score)
    known = None if None in scores or not scores else np.array(scores, dtype=np.float32)
    xyxy = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    image_id = number if line.image_id is None else line.image_id
    return grounding_record(image_id, line.name, (1, 1), caption, phrases, xyxy, known)


def _phrase(region: _Region, caption: str, where: str, faults: Faults) -> Phrase | None:
    """The spans of a region, None and a fault if it has none."""
    spans = region.tokens_positive
    if spans is None:
        words = region.phrase
        spans = _found(caption, [words] if isinstance(words, str) else words or [])
        if not spans:
            faults.add(
                "spans",
                f"{where}: phrase {words!r} is not in the caption {caption!r}; write it as it "
                "stands there, or give 'tokens_positive'",
            )
            return None
    phrase = checked_phrase(spans, caption)
    if phrase is None:
        faults.add("spans", f"{where}: {bad_spans('a region', spans, caption)}")
    return phrase


def _found(caption: str, phrases: Sequence[str]) -> list[Span]:
    """The first place of each phrase in a caption; none if one is missing."""
    places = [_first_place(caption, phrase) for phrase in phrases]
    known = [place for place in places if place is not None]
    return known if len(known) == len(places) else []


def _first_place(caption: str, phrase: str) -> Span | None:
    """Whatever the case; inside of a word, as "dog" is in "dogs", if it stands nowhere else."""
    if not phrase:
        return None
    if whole := whole_words(caption, phrase):
        return whole[0]
    inside = re.search(re.escape(phrase), caption, re.IGNORECASE)
    return None if inside is None else inside.span()


def write_odvg(data: DataSet, folder: Path) -> None:
    """Write `annotations.jsonl`, or one for each part, and `label_map.json`."""
    numbers = {name: number for number, name in enumerate(data.names)}
    with text_file(folder / "label_map.json") as file:
        file.write(as_json({str(number): name for name, number in numbers.items()}) + "\n")
    for part in data.parts:
        with text_file(folder / f"{part or 'annotations'}.jsonl") as file:
            file.writelines(as_json(_line(picture, numbers)) + "\n" for picture in data.of(part))
    place_all(data, folder)


def _line(picture: Labelled, numbers: Mapping[str, int]) -> dict[str, Any]:
    """A picture with its boxes."""
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
    return {
        "filename": picture.picture,
        "height": height,
        "width": width,
        "detection": {"instances": instances},
    }
