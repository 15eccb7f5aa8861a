"""COCO- and LVIS-style annotation files -> records of boxes and class rows.

Three kinds of class stand beside the boxes of a picture (LVIS, arXiv 1908.03195): those known to be
absent, those of which only some instances have a box, and those nobody looked for. Unknown is not
negative: nothing here ever turns one into the other. A plain COCO file has all its classes looked
for in all its pictures.

Knows nothing about prompts, tokens or pixels. Letters: N boxes of one picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from glip.data.packed import Packed
from glip.errors import DataError

ImageId = int | str


@dataclass(frozen=True, eq=False)
class DetectionRecord:
    """What a file says of one picture. Class rows count the names of its `DetectionData` from 0."""

    image_id: ImageId
    file_name: str
    """As `glip.data.pictures` finds it."""
    image_hw: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    """(N, 4) xyxy, pixels, exactly as in the file: x2 is x + width, nothing is clipped or
    dropped."""
    labels: npt.NDArray[np.int64]
    """(N,) class rows."""
    crowd: npt.NDArray[np.bool_]
    """(N,), True for a region of many instances: never a target, and ignored in evaluation."""
    absent: tuple[int, ...] | None = None
    """Class rows known not to be in the picture; None: all classes of its vocabulary without a
    box."""
    not_exhaustive: tuple[int, ...] = ()
    """Class rows of which some instances may lack a box."""
    areas: npt.NDArray[np.float64] | None = None
    """(N,) square pixels by which evaluation sorts sizes, such as those of masks; None: of the
    boxes."""
    vocabulary: str | None = None
    """Name of the list of classes the picture was labelled for, if the file has several."""


@dataclass(frozen=True, eq=False)
class DetectionData:
    """A detection data set: class names, and a record for each picture."""

    path: Path
    names: tuple[str, ...]
    """In the order of rising category id (official: so that prompts read the same)."""
    category_ids: tuple[int, ...]
    """Of each name, its id in the file."""
    records: Packed[DetectionRecord]
    vocabularies: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each named vocabulary, its class rows; empty if all pictures share one."""
    frequencies: tuple[str, ...] | None = None
    """Of each name "r", "c" or "f" (rare, common, frequent), as LVIS has them."""

    def __len__(self) -> int:
        return len(self.records)

    def vocabulary(self, record: DetectionRecord) -> tuple[int, ...]:
        """The class rows somebody may ask for in a picture: those of its vocabulary, or else
        all.
        """
        if record.vocabulary is not None and record.vocabulary in self.vocabularies:
            return self.vocabularies[record.vocabulary]
        return tuple(range(len(self.names)))

    def absent(self, record: DetectionRecord) -> tuple[int, ...]:
        """The class rows that are surely not in a picture, rising; the only ones fit as
        negatives.
        """
        rows = self.vocabulary(record) if record.absent is None else record.absent
        doubtful = {*record.labels.tolist(), *record.not_exhaustive}
        return tuple(sorted(row for row in rows if row not in doubtful))

    def only(self, vocabulary: str) -> DetectionData:
        """The pictures that were labelled for one vocabulary of several.

        Raises:
            DataError: There are none.
        """
        records = Packed(r for r in self.records if r.vocabulary == vocabulary)
        if not len(records):
            known = ", ".join(self.vocabularies) or "none"
            raise DataError(
                f"{self.path} has no picture of the vocabulary {vocabulary!r}; it has {known}"
            )
        return replace(self, records=records)

    def file_names(self) -> list[str]:
        """The pictures' names, in order."""
        return [record.file_name for record in self.records]


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
