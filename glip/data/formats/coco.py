"""COCO and LVIS: one JSON object with images, annotations and categories.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from glip.data.formats.layout import DataSet, as_json, place_all, text_file, write_list
from glip.data.labels import Part
from glip.data.packed import Packed
from glip.data.records import DetectionData, DetectionRecord, ImageId
from glip.errors import DataError


def read_detection(path: str | Path) -> DetectionData:
    """Read a COCO "instances" or LVIS file.

    A category without a box is no class if its name is blank, as the first of ODinW's chess pieces,
    or that of another one, as where an export lists a group of one class beside it.

    Beside the fields of COCO it understands those of LVIS (`neg_category_ids`,
    `not_exhaustive_category_ids`, `frequency`, `coco_url`) and of files with several vocabularies
    (`vocabularies` at the top, `vocabulary` of each image).

    Raises:
        DataError: the file cannot be read, lacks a field, or its ids do not fit together. The first
            fault is named; `glip.data.doctor.examine` lists them all.
    """
    path = Path(path)
    return parse_detection(read_json(path), path)


def parse_detection(content: Any, path: Path) -> DetectionData:
    """`read_detection` of content that is in memory; `path` only names it in messages."""

    def refuse(what: str) -> NoReturn:
        raise DataError(f"{path}: {what}; 'glip doctor {path}' lists all faults")

    if not isinstance(content, Mapping):
        refuse("is not a COCO file, which is one JSON object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            refuse(f"has no list '{key}'")
    try:
        categories = sorted(content["categories"], key=lambda category: int(category["id"]))
        names = {int(category["id"]): str(category["name"]) for category in categories}
    except (TypeError, KeyError, ValueError) as error:
        refuse(f"a category lacks a whole 'id' or a 'name' ({error!r})")
    if len(names) != len(categories):
        refuse("two categories share an id")
    empty = empty_categories(
        names,
        (a.get("category_id") for a in content["annotations"] if isinstance(a, Mapping)),
        groups_of(categories),
        several=bool(content.get("vocabularies")),
    )
    categories = [category for category in categories if int(category["id"]) not in empty]
    if not categories:
        refuse("has no categories")
    row_of = {int(category["id"]): row for row, category in enumerate(categories)}

    def rows(ids: Any, where: str) -> tuple[int, ...]:
        if unknown := [number for number in ids if number not in row_of and number not in empty]:
            refuse(f"{where} names the category {unknown[0]}, which is not in 'categories'")
        return tuple(sorted({row_of[number] for number in ids if number in row_of}))

    places: dict[ImageId, int] = {}
    for place, image in enumerate(content["images"]):
        if not isinstance(image, Mapping) or "id" not in image:
            refuse(f"image number {place} has no 'id'")
        if image["id"] in places:
            refuse(f"image id {image['id']} occurs twice")
        places[image["id"]] = place
    owned: list[list[Mapping[str, Any]]] = [[] for _ in places]
    for number, annotation in enumerate(content["annotations"]):
        try:
            owner, category = annotation["image_id"], annotation["category_id"]
        except (TypeError, KeyError):
            refuse(f"annotation number {number} lacks 'image_id' or 'category_id'")
        where = f"annotation {annotation.get('id', f'number {number}')}"
        if owner not in places:
            refuse(f"{where} belongs to image {owner}, which is not in 'images'")
        if category not in row_of:
            refuse(f"{where} has category {category}, which is not in 'categories'")
        if not is_box(annotation.get("bbox")):
            refuse(f"{where} has bbox {annotation.get('bbox')}, expected [x, y, width, height]")
        owned[places[owner]].append(annotation)

    records = []
    for image, own in zip(content["images"], owned, strict=True):
        where = f"image {image['id']}"
        xywh = np.array([a["bbox"] for a in own], dtype=np.float64).reshape(-1, 4)
        negatives = image.get("neg_category_ids")
        records.append(
            DetectionRecord(
                image_id=image["id"],
                file_name=file_name_of(image) or refuse(f"{where} has no 'file_name'"),
                image_hw=size_of(image) or refuse(f"{where} has no positive 'width' and 'height'"),
                boxes=xywh_to_xyxy(xywh),
                labels=np.array([row_of[a["category_id"]] for a in own], dtype=np.int64),
                crowd=np.array([bool(a.get("iscrowd", 0)) for a in own], dtype=np.bool_),
                absent=None if negatives is None else rows(negatives, where),
                not_exhaustive=rows(image.get("not_exhaustive_category_ids", ()), where),
                areas=areas_of(own, xywh),
                vocabulary=image.get("vocabulary"),
            )
        )
    vocabularies = {
        name: rows(ids, f"vocabulary '{name}'")
        for name, ids in content.get("vocabularies", {}).items()
    }
    for name, rows_of_it in vocabularies.items():
        if not rows_of_it:
            refuse(f"vocabulary '{name}' has no category")
    for record in records:
        if vocabularies and record.vocabulary not in vocabularies:
            refuse(f"image {record.image_id} has the unknown vocabulary {record.vocabulary!r}")
    frequencies = tuple(str(category.get("frequency", "")) for category in categories)
    return DetectionData(
        path=path,
        names=tuple(names[number] for number in row_of),
        category_ids=tuple(row_of),
        records=Packed(records),
        vocabularies=vocabularies,
        frequencies=frequencies if all(frequencies) else None,
    )


def groups_of(categories: Iterable[Mapping[str, Any]]) -> dict[Any, str]:
    """Category id -> the supercategory that a file names for it, if it names one."""
    return {
        category["id"]: category["supercategory"].strip()
        for category in categories
        if isinstance(category.get("supercategory"), str)
    }


def empty_categories(
    names: Mapping[int, str],
    labelled: Iterable[Any],
    groups: Mapping[int, str],
    *,
    several: bool,
) -> frozenset[int]:
    """Categories that are no classes.

    They have no box, and a blank name, that of another one, or that of the group which all the
    others are in, as Roboflow's exports list it.

    Args:
        names: Category id -> name; of two without a box, the first stays.
        labelled: Category id of each box; only looked at where a name makes it necessary.
        groups: Category id -> its supercategory.
        several: Whether there are several vocabularies: a name in two of them is two classes, so
            all categories are classes.
    """
    plain = {number: name.strip() for number, name in names.items()}
    roofs = {
        number
        for number, name in plain.items()
        if len(plain) > 1 and all(groups.get(other) == name for other in plain if other != number)
    }
    distinct = all(plain.values()) and len(set(plain.values())) == len(plain)
    if several or (distinct and not roofs):
        return frozenset()
    boxed = set(labelled)
    taken = {"", *(name for number, name in plain.items() if number in boxed)}
    taken |= {plain[number] for number in roofs}
    empty = set()
    for number, name in plain.items():
        if number not in boxed:
            if name in taken:
                empty.add(number)
            taken.add(name)
    return frozenset(empty)


def to_coco(data: DetectionData) -> dict[str, Any]:
    """A data set as the content of a COCO file; `parse_detection` gives it back.

    With `json.dump` a converter from every format that can be read, such as YOLO and VOC.
    """
    ids = data.category_ids
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in data.records:
        image: dict[str, Any] = {
            "id": record.image_id,
            "file_name": record.file_name,
            "height": record.image_hw[0],
            "width": record.image_hw[1],
        }
        if record.absent is not None:
            image["neg_category_ids"] = [ids[row] for row in record.absent]
        if record.absent is not None or record.not_exhaustive:
            image["not_exhaustive_category_ids"] = [ids[row] for row in record.not_exhaustive]
        if record.vocabulary is not None:
            image["vocabulary"] = record.vocabulary
        images.append(image)
        for row, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
            area = (x2 - x1) * (y2 - y1) if record.areas is None else float(record.areas[row])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": ids[int(record.labels[row])],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": int(record.crowd[row]),
                }
            )
    categories = [
        {"id": number, "name": name} for number, name in zip(ids, data.names, strict=True)
    ]
    for category, frequency in zip(categories, data.frequencies or (), strict=False):
        category["frequency"] = frequency
    content: dict[str, Any] = {
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    if data.vocabularies:
        content["vocabularies"] = {
            name: [ids[row] for row in rows] for name, rows in data.vocabularies.items()
        }
    return content


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is missing or no JSON; the message names the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def is_box(value: Any) -> bool:
    """Whether a value is four finite numbers."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 4
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        and bool(np.isfinite(value).all())
    )


def xywh_to_xyxy(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 4) x, y, width, height -> x1, y1, x1 + width, y1 + height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def areas_of(
    annotations: Sequence[Mapping[str, Any]], xywh: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) the `area` of each annotation, or else of its (N, 4) box; null counts as none."""
    areas = [a.get("area") for a in annotations]
    boxes = xywh[:, 2] * xywh[:, 3]
    both = zip(areas, boxes.tolist(), strict=True)
    return np.array([box if area is None else area for area, box in both], dtype=np.float64)


def file_name_of(image: Mapping[str, Any]) -> str | None:
    """The picture's name; LVIS says it as the last two parts of `coco_url` (reference H.2)."""
    if name := image.get("file_name"):
        return str(name)
    if url := image.get("coco_url"):
        return "/".join(str(url).split("/")[-2:])
    return None


def size_of(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of an image entry, if it has them."""
    try:
        height, width = int(image["height"]), int(image["width"])
    except (KeyError, TypeError, ValueError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def write_coco(data: DataSet, folder: Path) -> None:
    """Write `annotations.json`, or `train.json` and `val.json`."""
    numbers = {name: number for number, name in enumerate(data.names, start=1)}
    for part in data.parts:
        with text_file(folder / f"{part or 'annotations'}.json") as file:
            file.write(f'{{"info": {as_json({"description": f"labelled by {data.source}"})},\n')
            write_list(file, "categories", _categories(data, numbers))
            write_list(file, "images", _images(data, part))
            write_list(file, "annotations", _annotations(data, part, numbers), last=True)
            file.write("}\n")
    place_all(data, folder)


def _categories(data: DataSet, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for name, number in numbers.items():
        parent = data.parents.get(name)
        above = {"supercategory": parent} if parent else {}
        yield {"id": number, "name": name, **above}


def _images(data: DataSet, part: Part | None) -> Iterator[dict[str, Any]]:
    for number, picture in enumerate(data.of(part), start=1):
        height, width = picture.image_hw
        yield {"id": number, "file_name": picture.picture, "width": width, "height": height}


def _annotations(
    data: DataSet, part: Part | None, numbers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, picture in enumerate(data.of(part), start=1):
        for label in picture.labels:
            number += 1
            width, height = label.sides
            annotation = {
                "id": number,
                "image_id": image_id,
                "category_id": numbers[label.name],
                "bbox": [label.box[0], label.box[1], round(width, 3), round(height, 3)],
                "area": round(width * height, 3),
                "iscrowd": 0,
            }
            if label.score is not None:
                annotation["score"] = label.score
            yield annotation
