"""What may be wrong with a data set: a table of checks, read by `doctor.py`.

Every check is one row of `CHECKS`: what it is called, what it says, how much of it is tolerated,
and a function that yields one line for each case it finds. Checks read the raw content of a COCO or
MDETR file, any part of which may be missing or of another type; each looks at what is sound enough
for it and leaves the rest to the others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glip.data.formats.coco import empty_categories, file_name_of, groups_of, is_box, size_of
from glip.data.formats.spans import checked_phrase
from glip.data.pictures import Pictures
from glip.errors import ImageError, PromptError
from glip.text.prompt import Prompt, clean_name
from glip.text.tokenizer import Tokenizer

Level = Literal["error", "warning", "note"]
Kind = Literal["detection", "grounding"]
Population = Literal["images", "boxes", "classes"]

HEADERS = 200
"""Pictures whose size the quick part compares; the whole part decodes all of them."""

FEW_BOXES = 5
"""A class with fewer is called rare."""

OUTSIDE = 2.0
"""Pixels that a box may reach beyond its picture: rounding and other conventions stay below."""


class Check(NamedTuple):
    """One thing that may be wrong."""

    name: str
    message: str
    """What is wrong, as the name of what is then counted."""
    way_out: str
    find: Callable[[Subject], Iterable[str]]
    """A line for each case."""
    kinds: tuple[Kind, ...] = ("detection", "grounding")
    of: Population = "boxes"
    """What cases are counted against."""
    tolerated: float = 0.0
    """Share up to which this is a warning and no error; 1 is never an error."""
    level: Level = "error"
    """"note" for what is good to know and no fault."""
    quick: bool = True
    """Whether it looks at annotations only, so that training can run it first."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A data set under examination: its raw content, which may be anything, and views of it."""

    path: Path
    kind: Kind
    content: Mapping[str, Any]
    pictures: Pictures | None
    tokenizer: Tokenizer
    max_tokens: int
    quick: bool
    progress: Callable[[int], object]

    @cached_property
    def images(self) -> dict[Any, Mapping[str, Any]]:
        """By id, those that have one."""
        return {i["id"]: i for i in _entries(self.content, "images") if _hashable(i.get("id"))}

    @cached_property
    def names(self) -> dict[Any, str]:
        """Of each category id."""
        categories = _entries(self.content, "categories")
        return {c["id"]: str(c.get("name", "")) for c in categories if _hashable(c.get("id"))}

    @cached_property
    def empty(self) -> frozenset[Any]:
        """Ids of the categories that the reader takes for no classes."""
        return empty_categories(
            self.names,
            (_key(annotation.get("category_id")) for annotation in self.annotations),
            groups_of(c for c in _entries(self.content, "categories") if _hashable(c.get("id"))),
            several=bool(self.content.get("vocabularies")),
        )

    @cached_property
    def annotations(self) -> list[Mapping[str, Any]]:
        """Those that are objects; sentences without boxes are none."""
        every = _entries(self.content, "annotations")
        return [a for a in every if "bbox" in a or "caption" not in a]

    @cached_property
    def boxed(self) -> list[tuple[str, Mapping[str, Any], tuple[float, ...], tuple[int, int]]]:
        """What to call it, annotation, x1 y1 x2 y2 and (height, width), of all sound boxes."""
        found: list[tuple[str, Mapping[str, Any], tuple[float, ...], tuple[int, int]]] = []
        for annotation in self.annotations:
            image = self.images.get(_key(annotation.get("image_id")))
            size = None if image is None else size_of(image)
            if size is not None and is_box(annotation.get("bbox")):
                x, y, w, h = annotation["bbox"]
                found.append((_called(annotation), annotation, (x, y, x + w, y + h), size))
        return found

    @cached_property
    def files(self) -> dict[str, tuple[int, int]]:
        """File name -> (height, width), each once."""
        return {
            name: size
            for image in self.images.values()
            if (name := file_name_of(image)) and (size := size_of(image))
        }

    @cached_property
    def counts(self) -> Counter[str]:
        """Boxes of each class name."""
        counts = Counter(dict.fromkeys(self.names.values(), 0))
        for annotation in self.annotations:
            name = self.names.get(_key(annotation.get("category_id")))
            if name is not None:
                counts[name] += 1
        return counts

    def population(self, of: Population) -> int:
        """How many there are of what cases are counted against."""
        sizes = {
            "images": len(self.images),
            "boxes": len(self.annotations),
            "classes": len(self.names),
        }
        return max(1, sizes[of])


# The file itself.


def _images_without_fields(subject: Subject) -> Iterator[str]:
    for place, image in enumerate(subject.content["images"]):
        if not isinstance(image, Mapping) or not isinstance(image.get("id"), (int, str)):
            yield f"image number {place} has no id"
        elif file_name_of(image) is None:
            yield f"image {image['id']} has no file_name"
        elif size_of(image) is None:
            yield f"image {image['id']} has no positive width and height"


def _image_ids_twice(subject: Subject) -> Iterator[str]:
    ids = Counter(i["id"] for i in _entries(subject, "images") if _hashable(i.get("id")))
    yield from (f"id {number}" for number, count in ids.items() if count > 1)


def _file_names_twice(subject: Subject) -> Iterator[str]:
    names = Counter(map(file_name_of, subject.images.values()))
    yield from (f"{name}" for name, count in names.items() if name and count > 1)


def _annotation_ids_twice(subject: Subject) -> Iterator[str]:
    ids = Counter(a["id"] for a in subject.annotations if _hashable(a.get("id")))
    yield from (f"id {number}" for number, count in ids.items() if count > 1)


def _unknown_images(subject: Subject) -> Iterator[str]:
    for annotation in subject.annotations:
        if _key(annotation.get("image_id")) not in subject.images:
            yield f"{_called(annotation)} belongs to image {annotation.get('image_id')}"


def _nothing_to_learn(subject: Subject) -> Iterator[str]:
    if not subject.annotations:
        yield "the list of annotations is empty"


# Classes.


def _categories_without_fields(subject: Subject) -> Iterator[str]:
    for place, category in enumerate(subject.content["categories"]):
        if not isinstance(category, Mapping) or not isinstance(category.get("id"), int):
            yield f"category number {place} has no whole id"
        elif not isinstance(name := category.get("name"), str) or (
            not name.strip() and category["id"] not in subject.empty
        ):
            yield f"category {category['id']} has the name {name!r}"


def _category_ids_twice(subject: Subject) -> Iterator[str]:
    ids = Counter(c["id"] for c in _entries(subject, "categories") if _hashable(c.get("id")))
    yield from (f"id {number}" for number, count in ids.items() if count > 1)


def _unknown_categories(subject: Subject) -> Iterator[str]:
    for annotation in subject.annotations:
        if _key(annotation.get("category_id")) not in subject.names:
            yield f"{_called(annotation)} has category {annotation.get('category_id')}"


def _names_twice(subject: Subject) -> Iterator[str]:
    names = Counter(name for number, name in subject.names.items() if number not in subject.empty)
    yield from (f"{name!r}, {count} times" for name, count in names.items() if count > 1)


def _colliding_names(subject: Subject) -> Iterator[str]:
    """Different names that the text encoder reads as the same words."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(subject.names.values()):
        groups.setdefault(" ".join(clean_name(name).casefold().split()), []).append(name)
    yield from (" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1)


def _names_without_words(subject: Subject) -> Iterator[str]:
    """Single letters and numbers, or "class" and the like with a number."""
    for name in subject.names.values():
        words = "".join(c if c.isalpha() else " " for c in name).casefold().split()
        numbered = any(c.isdigit() for c in name)
        single = all(len(word) == 1 and word.isascii() for word in words)
        if name.strip() and (single or (numbered and set(words) <= _PLACEHOLDERS)):
            yield repr(name)


_PLACEHOLDERS = frozenset(["class", "category", "label", "object", "cls", "cat", "id", "obj"])


def _classes_without_boxes(subject: Subject) -> Iterator[str]:
    yield from (repr(name) for name, count in subject.counts.items() if count == 0)


def _rare_classes(subject: Subject) -> Iterator[str]:
    for name, count in subject.counts.items():
        if 0 < count < FEW_BOXES:
            yield f"{name!r} ({count})"


def _long_names(subject: Subject) -> Iterator[str]:
    room = subject.max_tokens - 2
    for name in subject.names.values():
        if name.strip() and (count := len(subject.tokenizer.encode(clean_name(name))) - 2) > room:
            yield f"{name[:40]!r} needs {count} tokens, there is room for {room}"


def _long_prompt(subject: Subject) -> Iterator[str]:
    names = [name for name in subject.names.values() if name.strip()]
    try:
        passes = Prompt.from_classes(names).passes(subject.tokenizer, subject.max_tokens)
    except PromptError:  # other checks name the reason
        return
    if len(passes) > 1:
        yield f"{len(names)} names need {len(passes)} passes"


# What is known of each picture.


def _absent_with_box(subject: Subject) -> Iterator[str]:
    labels: dict[Any, set[Any]] = {}
    for annotation in subject.annotations:
        owner = _key(annotation.get("image_id"))
        labels.setdefault(owner, set()).add(_key(annotation.get("category_id")))
    for number, image in subject.images.items():
        for category in _listed(image, "neg_category_ids"):
            if category in labels.get(number, ()):
                yield f"image {number}: {subject.names.get(category, category)!r}"


def _unknown_listed(subject: Subject) -> Iterator[str]:
    for number, image in subject.images.items():
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            unknown = [c for c in _listed(image, key) if c not in subject.names]
            if unknown:
                yield f"image {number}: {key} has {unknown[0]}"
    for name, ids in _vocabularies(subject).items():
        if unknown := [c for c in ids if c not in subject.names]:
            yield f"vocabulary {name!r} has {unknown[0]}"


def _outside_vocabulary(subject: Subject) -> Iterator[str]:
    vocabularies = {name: set(ids) for name, ids in _vocabularies(subject).items()}
    if not vocabularies:
        return
    for number, image in subject.images.items():
        if _key(image.get("vocabulary")) not in vocabularies:
            yield f"image {number} has the vocabulary {image.get('vocabulary')!r}"
    for annotation in subject.annotations:
        image = subject.images.get(_key(annotation.get("image_id")), {})
        own = vocabularies.get(str(image.get("vocabulary")))
        if own is not None and _key(annotation.get("category_id")) not in own:
            yield f"{_called(annotation)} is not in {image['vocabulary']!r}"


# Boxes.


def _no_boxes(subject: Subject) -> Iterator[str]:
    for annotation in subject.annotations:
        if not is_box(annotation.get("bbox")):
            yield f"{_called(annotation)} has bbox {annotation.get('bbox')}"


def _fractions(subject: Subject) -> Iterator[str]:
    corners = [max(box) for _, _, box, _ in subject.boxed]
    if corners and max(corners) <= 2:
        yield f"no coordinate is above {max(corners):g}"


def _empty_boxes(subject: Subject) -> Iterator[str]:
    for called, annotation, (x1, y1, x2, y2), _ in subject.boxed:
        if x2 <= x1 or y2 <= y1:
            yield f"{called} has bbox {annotation['bbox']}"


def _boxes_elsewhere(subject: Subject) -> Iterator[str]:
    for called, annotation, (x1, y1, x2, y2), (height, width) in subject.boxed:
        if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            yield f"{called} has bbox {annotation['bbox']} in {width} x {height} pixels"


def _boxes_beyond(subject: Subject) -> Iterator[str]:
    for called, annotation, (x1, y1, x2, y2), (height, width) in subject.boxed:
        inside = x1 < width and y1 < height and x2 > 0 and y2 > 0
        beyond = max(-x1, -y1, x2 - width, y2 - height)
        if inside and beyond > OUTSIDE:
            yield f"{called} has bbox {annotation['bbox']} in {width} x {height} pixels"


def _tiny_boxes(subject: Subject) -> Iterator[str]:
    for called, annotation, (x1, y1, x2, y2), _ in subject.boxed:
        if 0 < min(x2 - x1, y2 - y1) <= 2:
            yield f"{called} has bbox {annotation['bbox']}"


def _boxes_twice(subject: Subject) -> Iterator[str]:
    seen: set[Hashable] = set()
    for called, annotation, box, _ in subject.boxed:
        what = annotation.get("category_id"), str(annotation.get("tokens_positive"))
        if (key := (_key(annotation.get("image_id")), what, box)) in seen:
            yield called
        seen.add(key)


def _images_without_boxes(subject: Subject) -> Iterator[str]:
    owners = {_key(annotation.get("image_id")) for annotation in subject.annotations}
    yield from (f"image {number}" for number in subject.images if number not in owners)


def _crowds(subject: Subject) -> Iterator[str]:
    yield from (_called(a) for a in subject.annotations if a.get("iscrowd"))


# Captions.


def _images_without_caption(subject: Subject) -> Iterator[str]:
    spoken = {_key(a.get("image_id")) for a in _entries(subject, "annotations") if a.get("caption")}
    for number, image in subject.images.items():
        caption = image.get("caption")
        if number not in spoken and not (isinstance(caption, str) and caption.strip()):
            yield f"image {number} has the caption {caption!r}"


def _bad_spans(subject: Subject) -> Iterator[str]:
    for annotation, caption in _captioned(subject):
        spans = annotation.get("tokens_positive")
        if spans and checked_phrase(spans, caption) is None:
            yield f"{_called(annotation)} has {spans} in {len(caption)} characters"


def _without_words(subject: Subject) -> Iterator[str]:
    for annotation, _ in _captioned(subject):
        if not annotation.get("tokens_positive"):
            yield _called(annotation)


def _long_captions(subject: Subject) -> Iterator[str]:
    for number, image in subject.images.items():
        caption = image.get("caption")
        # No token is shorter than a character, so most captions need no look.
        if isinstance(caption, str) and len(caption) > subject.max_tokens - 2:
            count = len(subject.tokenizer.encode(caption))
            if count > subject.max_tokens:
                yield f"image {number} needs {count} tokens"


# Pictures.


def _missing_pictures(subject: Subject) -> Iterator[str]:
    if subject.pictures is not None:
        yield from (name for name in subject.files if name not in subject.pictures)


def _other_sizes(subject: Subject) -> Iterator[str]:
    """Pictures of another size than their boxes were drawn on, by their headers."""
    names = list(subject.files)
    if subject.quick:
        names = names[:: max(1, math.ceil(len(names) / HEADERS))]
    pictures = subject.pictures
    for name in names if pictures is not None else ():
        assert pictures is not None
        if name not in pictures:
            continue
        try:
            size = pictures.size_hw(name)
        except ImageError:  # what is unreadable is found by the check of that name
            continue
        height, width = subject.files[name]
        if size != (height, width):
            turned = ", as if it had been turned" if size == (width, height) else ""
            yield f"{name} has {size[1]} x {size[0]}, the file says {width} x {height}{turned}"


def _unreadable_pictures(subject: Subject) -> Iterator[str]:
    pictures = subject.pictures
    if pictures is None:
        return

    def problem(name: str) -> str | None:
        try:
            pictures.read(name)
        except ImageError as error:
            return str(error)
        return None

    present = [name for name in subject.files if name in pictures]
    with ThreadPoolExecutor() as pool:
        for found in pool.map(problem, present):
            subject.progress(1)
            if found is not None:
                yield found


def _unused_pictures(subject: Subject) -> Iterator[str]:
    if subject.pictures is not None:
        yield from (name for name in subject.pictures.names() if name not in subject.files)


CHECKS: tuple[Check, ...] = (
    Check(
        "nothing",
        "reason why there is nothing to learn",
        "Label some pictures, or pass another file.",
        _nothing_to_learn,
        kinds=("detection",),
    ),
    Check(
        "sentences only",
        "reason why only a teacher can use it",
        "Let one find boxes for its phrases; training needs them.",
        _nothing_to_learn,
        kinds=("grounding",),
        level="note",
    ),
    Check(
        "image fields",
        "images without a needed field",
        "Each needs id, file_name, width and height.",
        _images_without_fields,
        of="images",
    ),
    Check(
        "image ids",
        "image ids that occur more than once",
        "Number the images anew, and their annotations with them.",
        _image_ids_twice,
    ),
    Check(
        "pictures twice",
        "pictures listed more than once",
        "Join their entries, or each says that the boxes of the other are not there.",
        _file_names_twice,
        kinds=("detection",),
        tolerated=1,
    ),
    Check(
        "annotation ids",
        "annotation ids that occur more than once",
        "Training does not mind; other tools will.",
        _annotation_ids_twice,
        tolerated=1,
    ),
    Check(
        "unknown images",
        "annotations of no image",
        "Remove them, or add the images.",
        _unknown_images,
    ),
    Check(
        "category fields",
        "categories without id or name",
        "A name is what the model looks for, so it has to be there.",
        _categories_without_fields,
        kinds=("detection",),
    ),
    Check(
        "category ids",
        "category ids that occur more than once",
        "Number the categories anew, and their annotations with them.",
        _category_ids_twice,
        kinds=("detection",),
    ),
    Check(
        "unknown categories",
        "annotations of an unknown category",
        "Add it to categories, or remove them.",
        _unknown_categories,
        kinds=("detection",),
    ),
    Check(
        "names twice",
        "class names that occur more than once",
        "Give them one category, or words that tell them apart.",
        _names_twice,
        kinds=("detection",),
    ),
    Check(
        "names alike",
        "class names that are the same words to the model",
        "They are trained as one class; use other words if they are not.",
        _colliding_names,
        kinds=("detection",),
        tolerated=1,
    ),
    Check(
        "names without words",
        "class names that are codes rather than words",
        "The model knows words: call things what they are.",
        _names_without_words,
        kinds=("detection",),
        tolerated=1,
    ),
    Check(
        "long names",
        "class names longer than the text encoder takes",
        "Shorten them.",
        _long_names,
        kinds=("detection",),
    ),
    Check(
        "long prompt",
        "prompt longer than the text encoder takes",
        "Training samples names and prediction takes several passes, so this only costs time.",
        _long_prompt,
        kinds=("detection",),
        level="note",
    ),
    Check(
        "classes without boxes",
        "classes without a box",
        "They are only ever trained as absent; leave them out unless that is meant.",
        _classes_without_boxes,
        kinds=("detection",),
        of="classes",
        tolerated=1,
    ),
    Check(
        "rare classes",
        f"classes with fewer than {FEW_BOXES} boxes",
        "Expect little of them.",
        _rare_classes,
        kinds=("detection",),
        level="note",
    ),
    Check(
        "contradictions",
        "classes listed as absent where they have a box",
        "The box is believed; correct neg_category_ids.",
        _absent_with_box,
        kinds=("detection",),
        tolerated=0.01,
    ),
    Check(
        "unknown in lists",
        "lists with a category that is not in the file",
        "Correct neg_category_ids, not_exhaustive_category_ids or vocabularies.",
        _unknown_listed,
        kinds=("detection",),
    ),
    Check(
        "vocabularies",
        "images or boxes that do not fit their vocabulary",
        "Each image names one of the vocabularies, and its boxes are of that one.",
        _outside_vocabulary,
        kinds=("detection",),
    ),
    Check(
        "no boxes",
        "annotations whose bbox is not [x, y, width, height]",
        "Write four finite numbers in pixels.",
        _no_boxes,
    ),
    Check(
        "fractions",
        "sign that boxes are fractions of the picture",
        "COCO boxes are pixels: multiply by width and height.",
        _fractions,
    ),
    Check(
        "empty boxes",
        "boxes without width or height",
        "They are left out of training.",
        _empty_boxes,
        tolerated=0.01,
    ),
    Check(
        "boxes elsewhere",
        "boxes outside their picture",
        "They are left out of training; were the pictures resized or cut?",
        _boxes_elsewhere,
        tolerated=0.01,
    ),
    Check(
        "boxes beyond",
        f"boxes that reach more than {OUTSIDE:g} pixels beyond their picture",
        "They are cut; if many do, bbox may hold two corners instead of a size.",
        _boxes_beyond,
        tolerated=0.1,
    ),
    Check(
        "tiny boxes",
        "boxes at most 2 pixels wide or high",
        "Hardly anything to be seen in them.",
        _tiny_boxes,
        level="note",
    ),
    Check(
        "boxes twice",
        "boxes that occur twice in their picture",
        "Remove the second one.",
        _boxes_twice,
        tolerated=0.05,
    ),
    Check(
        "images without boxes",
        "images without a box",
        "They are not trained on unless asked for (keep_empty).",
        _images_without_boxes,
        of="images",
        level="note",
    ),
    Check(
        "crowds",
        "crowds",
        "They are no targets, and ignored in evaluation.",
        _crowds,
        kinds=("detection",),
        level="note",
    ),
    Check(
        "captions",
        "images without a caption",
        "Remove them, or write one.",
        _images_without_caption,
        kinds=("grounding",),
        of="images",
    ),
    Check(
        "spans",
        "annotations with spans that are not in their caption",
        "tokens_positive is [[start, end], …] in characters, the end not counted in.",
        _bad_spans,
        kinds=("grounding",),
    ),
    Check(
        "without words",
        "boxes of no word",
        "They are left out of training.",
        _without_words,
        kinds=("grounding",),
        tolerated=0.2,
    ),
    Check(
        "long captions",
        "captions longer than the text encoder takes",
        "They are trained in parts.",
        _long_captions,
        kinds=("grounding",),
        level="note",
    ),
    Check(
        "missing pictures",
        "missing pictures",
        "Say where they are (--images), or remove their entries.",
        _missing_pictures,
        of="images",
    ),
    Check(
        "sizes",
        "pictures of another size than the file says",
        "Boxes would miss: use the pictures that were labelled, or scale the boxes.",
        _other_sizes,
        of="images",
    ),
    Check(
        "unreadable pictures",
        "pictures that cannot be read",
        "Fetch them again, or remove their entries.",
        _unreadable_pictures,
        of="images",
        quick=False,
    ),
    Check(
        "unused pictures",
        "pictures that the file does not name",
        "Nothing is learnt from them.",
        _unused_pictures,
        of="images",
        level="note",
        quick=False,
    ),
)


def _entries(subject: Subject | Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list of the file."""
    content = subject.content if isinstance(subject, Subject) else subject
    entries = content.get(key)
    return [e for e in entries if isinstance(e, Mapping)] if isinstance(entries, list) else []


def _vocabularies(subject: Subject) -> dict[str, list[Any]]:
    vocabularies = subject.content.get("vocabularies")
    if not isinstance(vocabularies, Mapping):
        return {}
    return {str(name): _listed(vocabularies, name) for name in vocabularies}


def _listed(entry: Mapping[str, Any], key: str) -> list[Any]:
    values = entry.get(key)
    return [_key(value) for value in values] if isinstance(values, list) else []


def _captioned(subject: Subject) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Annotations with the caption of their image."""
    for annotation in subject.annotations:
        caption = subject.images.get(_key(annotation.get("image_id")), {}).get("caption")
        if isinstance(caption, str):
            yield annotation, caption


def _called(annotation: Mapping[str, Any]) -> str:
    image = annotation.get("image_id")
    return f"annotation {annotation.get('id', '?')} (image {image})"


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, str))


def _key(value: Any) -> Any:
    """A value that may be looked up, whatever the file has in its place."""
    return value if isinstance(value, Hashable) else None
