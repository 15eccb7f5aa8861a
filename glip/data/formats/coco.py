"""COCO and LVIS: one JSON object with images, annotations and categories.

Beside the fields of COCO those of LVIS are understood (`neg_category_ids`,
`not_exhaustive_category_ids`, `frequency`, `coco_url`) and of files with several vocabularies
(`vocabularies` at the top, `vocabulary` of each image). Every entry is checked against a declared
record; what does not fit is left out and counted. Knows nothing about prompts, tokens or pixels.
Letters: N boxes of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from glip.data.faults import Faults, Kind
from glip.data.formats.content import checked, is_coordinate, read_json
from glip.data.formats.entries import SAMPLE, Request, picture_size, whole_size
from glip.data.formats.layout import DataSet, as_json, place_all, text_file, write_list
from glip.data.labels import Part
from glip.data.matching import match_names, pictures_for
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.data.records import Annotated, DetectionData, DetectionRecord, ImageId
from glip.errors import DataError

NO_CLASSES = frozenset(("__background__", "_background_"))
"""Names that stand for the absence of a class."""


class ImageEntry(msgspec.Struct):
    """An image as COCO, LVIS and MDETR files have it."""

    id: int | str
    file_name: str | None = None
    coco_url: str | None = None
    width: float | None = None
    height: float | None = None
    caption: str | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None
    vocabulary: str | None = None

    @property
    def name(self) -> str | None:
        """Of the picture; LVIS says it as the last two parts of `coco_url` (reference H.2)."""
        if self.file_name or not self.coco_url:
            return self.file_name
        return "/".join(self.coco_url.split("/")[-2:])


class Annotation(msgspec.Struct):
    """An annotation of a COCO or LVIS file."""

    image_id: int | str
    category_id: int
    id: int | str | None = None
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: bool | None = None
    segmentation: Any = None
    score: Any = None

    @property
    def called(self) -> str:
        """What a message calls it."""
        return f"annotation {'?' if self.id is None else self.id} (image {self.image_id})"


class Category(msgspec.Struct):
    """A category of a COCO or LVIS file."""

    id: int
    name: str | int | float
    supercategory: Any = None
    frequency: Any = None


def read_coco(request: Request) -> Annotated:
    """Read a COCO or LVIS file and find its pictures."""
    names = some_names(request.content)
    pictures = pictures_for(request.path, request.images, names)
    data = parse_detection(request.content, request.path, pictures=pictures, faults=request.faults)
    return Annotated(data, pictures, request.faults)


def read_detection(path: str | Path) -> DetectionData:
    """Read a COCO "instances" or LVIS file without its pictures.

    Raises:
        DataError: as `parse_detection`, or the file cannot be read.
    """
    path = Path(path)
    return parse_detection(read_json(path), path)


def parse_detection(
    content: Any,
    path: Path,
    *,
    pictures: Pictures | None = None,
    faults: Faults | None = None,
) -> DetectionData:
    """A COCO or LVIS file that is in memory.

    A category without a box is no class if its name is blank, as the first of ODinW's chess pieces,
    or that of another one, as where an export lists a group of one class beside it.

    Args:
        content: of the file.
        path: only names it in messages.
        pictures: say sizes where the file does not, and which pictures are there.
        faults: is told what is left out; by default that is judged here.
    Raises:
        DataError: it is no such file, or too much of it is left out.
    """
    own = faults or Faults(path)
    check_lists(content, path, ("images", "annotations", "categories"))
    reader = _Reader(content, path, pictures, own)
    data = reader.data()
    if faults is None:
        own.close()
    return data


def check_lists(content: Any, path: Path, keys: Sequence[str]) -> None:
    """Whether content has the lists that a file of this kind has.

    Raises:
        DataError: it has not.
    """
    if not isinstance(content, Mapping):
        raise DataError(f"{path} is one JSON {type(content).__name__}, expected an object")
    for key in keys:
        if not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}'")


class _Reader:
    """The steps from content to records; each leaves out what it cannot use."""

    def __init__(
        self, content: Mapping[str, Any], path: Path, pictures: Pictures | None, faults: Faults
    ) -> None:
        self.content = content
        self.path = path
        self.pictures = pictures
        self.faults = faults
        self.several = bool(content.get("vocabularies"))

    def data(self) -> DetectionData:
        """All of it."""
        categories = self._categories()
        images = self._images()
        annotations = list(self._annotations(images, {category.id for category in categories}))
        empty = empty_categories(
            {category.id: str(category.name) for category in categories},
            (annotation.category_id for annotation, _ in annotations),
            _groups(categories),
            several=self.several,
        )
        categories = [category for category in categories if category.id not in empty]
        if not categories:
            raise DataError(f"{self.path} has no categories")
        self.row_of = {category.id: row for row, category in enumerate(categories)}
        self.empty = empty
        vocabularies = self._vocabularies()
        frequencies = tuple(str(category.frequency or "") for category in categories)
        return DetectionData(
            path=self.path,
            names=tuple(str(category.name) for category in categories),
            category_ids=tuple(self.row_of),
            records=Packed(self._records(images, annotations, vocabularies)),
            vocabularies=vocabularies,
            frequencies=frequencies if all(frequencies) else None,
        )

    def _categories(self) -> list[Category]:
        """By rising id (official: so that prompts read the same)."""
        found: dict[int, Category] = {}
        self.faults.count("classes", len(self.content["categories"]))
        for place, entry in enumerate(self.content["categories"]):
            try:
                category = checked(entry, Category)
            except ValueError as error:
                self.faults.add(
                    "category fields", f"category number {place} has no whole id or name: {error}"
                )
                continue
            if category.id in found:
                self.faults.add("category ids", f"id {category.id}")
            else:
                found[category.id] = category
        return sorted(found.values(), key=lambda category: category.id)

    def _images(self) -> dict[ImageId, tuple[ImageEntry, str, tuple[int, int]]]:
        """By id: the entry, the name of its picture, height and width."""
        entries = list(image_entries(self.content["images"], self.faults))
        return located(entries, self.pictures, self.faults)

    def _annotations(
        self, images: Mapping[ImageId, object], categories: set[int]
    ) -> Iterator[tuple[Annotation, list[float]]]:
        """With their boxes x, y, width, height."""
        entries = self.content["annotations"]
        self.faults.count("boxes", len(entries))
        listed = (e.get("id") for e in self.content["images"] if isinstance(e, Mapping))
        gone = {str(number) for number in listed} - {str(number) for number in images}
        seen: set[ImageId] = set()
        for number, entry in enumerate(entries):
            annotation = self._annotation(entry, number)
            if annotation is None:
                continue
            if annotation.id is not None and annotation.id in seen:
                self.faults.note("annotation ids that occur more than once")
            seen.add(annotation.id or 0)
            owner = same_id(annotation.image_id, images)
            xywh = box_of(annotation)
            if owner is None:
                if str(annotation.image_id) not in gone:  # else the image is a fault already
                    where = f"{annotation.called} belongs to image {annotation.image_id}"
                    self.faults.add("unknown images", where)
            elif annotation.category_id not in categories:
                where = f"{annotation.called} has category {annotation.category_id}"
                self.faults.add("unknown categories", where)
            elif xywh is None:
                self.faults.add("no boxes", f"{annotation.called} has bbox {annotation.bbox}")
            else:
                if xywh != annotation.bbox:
                    self.faults.note("boxes were taken from segmentations")
                annotation.image_id = owner
                yield annotation, xywh

    def _annotation(self, entry: Any, number: int) -> Annotation | None:
        """An annotation whose fields have their types; of others it says which has not."""
        try:
            return checked(entry, Annotation)
        except ValueError as error:
            if not isinstance(entry, Mapping):
                self.faults.add("annotation fields", f"annotation number {number} is no object")
                return None
            field = next((name for name in _BLAMED if f"'{name}" in str(error)), "")
            called = (
                f"annotation {str(entry.get('id', '?'))[:40]} (image {entry.get('image_id')!s:.40})"
            )
            value = f"{called} has {field or 'a wrong field'} {entry.get(field)!s:.80}"
            self.faults.add(_BLAMED.get(field, "annotation fields"), f"{value}: {error}")
            return None

    def _vocabularies(self) -> dict[str, tuple[int, ...]]:
        """Name -> class rows."""
        try:
            listed = checked(self.content.get("vocabularies") or {}, dict[str, list[int]])
        except ValueError as error:
            raise DataError(
                f"{self.path}: vocabularies hold lists of category ids: {error}"
            ) from error
        vocabularies = {
            name: self._rows(ids, f"vocabulary {name!r} has") for name, ids in listed.items()
        }
        for name, rows in vocabularies.items():
            if not rows:
                raise DataError(f"{self.path}: vocabulary {name!r} has no category")
        return vocabularies

    def _records(
        self,
        images: Mapping[ImageId, tuple[ImageEntry, str, tuple[int, int]]],
        annotations: Iterable[tuple[Annotation, list[float]]],
        vocabularies: Mapping[str, tuple[int, ...]],
    ) -> Iterator[DetectionRecord]:
        owned: dict[ImageId, list[tuple[Annotation, list[float]]]] = {key: [] for key in images}
        for annotation, xywh in annotations:
            owned[annotation.image_id].append((annotation, xywh))
        for number, (image, name, size) in images.items():
            if vocabularies and image.vocabulary not in vocabularies:
                where = f"image {number} has the vocabulary {image.vocabulary!r}"
                self.faults.add("vocabularies", where)
                continue
            own = [annotation for annotation, _ in owned[number]]
            boxes = np.array([xywh for _, xywh in owned[number]], dtype=np.float64).reshape(-1, 4)
            where = f"image {number}: neg_category_ids has"
            negative = image.neg_category_ids
            partly = image.not_exhaustive_category_ids or ()
            yield DetectionRecord(
                image_id=number,
                file_name=name,
                image_hw=size,
                boxes=xywh_to_xyxy(boxes),
                labels=np.array([self.row_of[a.category_id] for a in own], dtype=np.int64),
                crowd=np.array([bool(a.iscrowd) for a in own], dtype=np.bool_),
                absent=None if negative is None else self._rows(negative, where),
                not_exhaustive=self._rows(partly, where.replace("neg", "not_exhaustive")),
                areas=_areas(own, boxes),
                vocabulary=image.vocabulary,
                scores=_scores(own, self.faults),
            )

    def _rows(self, ids: Iterable[int], where: str) -> tuple[int, ...]:
        """Class rows of category ids, rising; unknown ids are faults, empty categories no class."""
        unknown = [
            number for number in ids if number not in self.row_of and number not in self.empty
        ]
        if unknown:
            self.faults.add("unknown in lists", f"{where} {unknown[0]}")
        return tuple(sorted({self.row_of[number] for number in ids if number in self.row_of}))


_BLAMED: Mapping[str, Kind] = {
    "bbox": "no boxes",
    "image_id": "unknown images",
    "category_id": "unknown categories",
    "iscrowd": "annotation fields",
    "area": "annotation fields",
    "id": "annotation fields",
}
"""Fields of an annotation -> what a wrong one makes of it."""


def image_entries(entries: Sequence[Any], faults: Faults) -> Iterator[ImageEntry]:
    """The images of a COCO, LVIS or MDETR file that have an id and a name, each id once."""
    faults.count("images", len(entries))
    seen: set[ImageId] = set()
    for place, entry in enumerate(entries):
        try:
            image = checked(entry, ImageEntry)
        except ValueError as error:
            number = entry.get("id") if isinstance(entry, Mapping) else None
            called = (
                f"image number {place} has no id" if number is None else f"image {number!s:.40}"
            )
            faults.add("image fields", f"{called}: {error}")
            continue
        if image.id in seen:
            faults.add("image ids", f"id {image.id}")
        elif not image.name:
            faults.add("image fields", f"image {image.id} has no file_name")
        else:
            seen.add(image.id)
            yield image


def located(
    images: Sequence[ImageEntry], pictures: Pictures | None, faults: Faults
) -> dict[ImageId, tuple[ImageEntry, str, tuple[int, int]]]:
    """Of each image the entry, the name of its picture, height and width.

    Args:
        images: of a file.
        pictures: where they are; None takes names as they are.
        faults: is told of images without a picture or a size.
    """
    found: dict[ImageId, tuple[ImageEntry, str, tuple[int, int]]] = {}
    names = {image.name: () for image in images if image.name}
    matched = dict.fromkeys(names) if pictures is None else match_names(pictures, names, faults)
    for image in images:
        assert image.name
        if image.name not in matched:
            faults.add("missing pictures", image.name)
            continue
        name = matched[image.name] or image.name
        size = whole_size(image.width, image.height)
        if size is None and pictures is not None:
            size = picture_size(name, pictures, faults)
        elif size is None:
            faults.add("image fields", f"image {image.id} has no positive width and height")
        if size is not None:
            found[image.id] = image, name, size
    return found


def some_names(content: Any) -> list[str]:
    """Names of the first pictures, by which their folder is found."""
    images = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(images, list):
        return []
    found = list(image_entries(images[:SAMPLE], Faults(Path())))
    return [image.name for image in found if image.name]


def same_id(number: ImageId, known: Mapping[ImageId, object]) -> ImageId | None:
    """An id as the images have it: some tools write 7 there and "7" here."""
    if number in known:
        return number
    other = str(number) if isinstance(number, int) else _whole(number)
    return other if other is not None and other in known else None


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _groups(categories: Iterable[Category]) -> dict[int, str]:
    """Category id -> the supercategory that a file names for it, if it names one."""
    return {
        category.id: category.supercategory.strip()
        for category in categories
        if isinstance(category.supercategory, str)
    }


def box_of(annotation: Annotation) -> list[float] | None:
    """x, y, width and height of an annotation, or else of its mask; None if it has neither."""
    if is_box(annotation.bbox):
        return annotation.bbox
    return segmentation_box(annotation.segmentation)


def segmentation_box(mask: Any) -> list[float] | None:
    """x, y, width and height around polygons or a run-length mask; None if it is neither."""
    if isinstance(mask, Mapping):
        return _mask_box(mask)
    if not isinstance(mask, list) or not mask:
        return None
    polygons = mask if isinstance(mask[0], list) else [mask]
    try:
        values = checked(polygons, list[list[float]])
    except ValueError:
        return None
    xs = [x for polygon in values for x in polygon[::2]]
    ys = [y for polygon in values for y in polygon[1::2]]
    if not ys or not all(map(is_coordinate, (*xs, *ys))):
        return None
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _mask_box(mask: Mapping[str, Any]) -> list[float] | None:
    """The box of a mask whose `counts` are runs down its columns, by turns outside and inside."""
    try:
        height, width = checked(mask.get("size"), tuple[int, int])
        counts = mask.get("counts")
        runs = _unpacked(counts) if isinstance(counts, str) else checked(counts, list[int])
    except ValueError:
        return None
    left, top, right, bottom, place = math.inf, math.inf, -1, -1, 0
    for number, run in enumerate(runs):
        if run < 0 or height <= 0 or place + run > height * width:
            return None
        if number % 2 and run:
            first, last = place, place + run - 1
            one_column = first // height == last // height
            left, right = min(left, first // height), max(right, last // height)
            top = min(top, first % height if one_column else 0)
            bottom = max(bottom, last % height if one_column else height - 1)
        place += run
    return None if right < 0 else [left, top, right + 1 - left, bottom + 1 - top]


def _unpacked(counts: str) -> list[int]:
    """The runs of COCO's compressed masks: five bits a letter, from the third on differences.

    Raises:
        ValueError: a letter is none of theirs.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{letter!r} in a compressed mask")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _areas(own: Sequence[Annotation], xywh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) the `area` of each annotation, or else of its (N, 4) box."""
    both = zip((a.area for a in own), (xywh[:, 2] * xywh[:, 3]).tolist(), strict=True)
    return np.array(
        [box if area is None or not math.isfinite(area) else area for area, box in both],
        dtype=np.float64,
    )


def _scores(own: Sequence[Annotation], faults: Faults) -> npt.NDArray[np.float32] | None:
    """(N,) the `score` of each annotation, if one has any; what is no share of 1 is no score."""
    known = [_share(a.score) for a in own]
    if strange := sum(
        a.score is not None and score is None for a, score in zip(own, known, strict=True)
    ):
        faults.note("scores that are no number from 0 to 1 were passed over", strange)
    if all(score is None for score in known):
        return None
    return np.array([1 if score is None else score for score in known], dtype=np.float32)


def _share(value: object) -> float | None:
    """A number from 0 to 1, which may stand in quotes; None for anything else."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= 1 else None


def empty_categories(
    names: Mapping[int, str],
    labelled: Iterable[Any],
    groups: Mapping[int, str],
    *,
    several: bool,
) -> frozenset[int]:
    """Categories that are no classes.

    They have no box, and a blank name, that of another one, or that of the group which all the
    others are in, as Roboflow's exports list it, or one that stands for the background.

    Args:
        names: Category id -> name; of two without a box, the first stays.
        labelled: Category id of each box; only looked at where a name makes it necessary.
        groups: Category id -> its supercategory.
        several: Whether there are several vocabularies: a name in two of them is two classes, so
            all categories are classes.
    """
    plain = {number: name.strip() for number, name in names.items()}
    roofs = _roofs(plain, groups)
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


def _roofs(names: Mapping[int, str], groups: Mapping[int, str]) -> set[int]:
    """Categories that name the group of all others, or the background."""
    return {
        number
        for number, name in names.items()
        if name.casefold() in NO_CLASSES
        or (len(names) > 1 and all(groups.get(n) == name for n in names if n != number))
    }


def to_coco(data: DetectionData) -> dict[str, Any]:
    """A data set as the content of a COCO file; `parse_detection` gives it back.

    With `json.dump` a converter from every format that can be read, such as YOLO and VOC.
    """
    ids = data.category_ids
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in data.records:
        images.append(_image(record, ids))
        for row, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
            area = (x2 - x1) * (y2 - y1) if record.areas is None else float(record.areas[row])
            annotation = {
                "id": len(annotations) + 1,
                "image_id": record.image_id,
                "category_id": ids[int(record.labels[row])],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(record.crowd[row]),
            }
            if record.scores is not None:
                annotation["score"] = float(record.scores[row])
            annotations.append(annotation)
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


def _image(record: DetectionRecord, ids: Sequence[int]) -> dict[str, Any]:
    """The entry of a picture."""
    height, width = record.image_hw
    image: dict[str, Any] = {
        "id": record.image_id,
        "file_name": record.file_name,
        "height": height,
        "width": width,
    }
    if record.absent is not None:
        image["neg_category_ids"] = [ids[row] for row in record.absent]
    if record.absent is not None or record.not_exhaustive:
        image["not_exhaustive_category_ids"] = [ids[row] for row in record.not_exhaustive]
    if record.vocabulary is not None:
        image["vocabulary"] = record.vocabulary
    return image


def is_box(value: Any) -> bool:
    """Whether a value is four numbers that can be those of a box."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 4
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        and all(map(is_coordinate, value))
    )


def xywh_to_xyxy(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 4) x, y, width, height -> x1, y1, x1 + width, y1 + height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


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
