"""A label file -> the same boxes under the names of their kinds: a dog is an animal.

    python tools/nano_kinds.py --labels datasets/general/train.json --vocabulary coco \
        --kinds configs/nano/kinds.json --output coco_kinds.json

Eighty names say little about words. A kind is one more word for the boxes of many names, and what
separates it from other kinds is its meaning. A kind is absent where all its names are, and where
only a part of its names was looked for, there may be more of it than the boxes show.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nano_join import by_picture, read, write


def main() -> int:
    """Read, rename, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True, help="COCO-style file")
    parser.add_argument("--vocabulary", help="only its pictures, where the file has several")
    parser.add_argument("--kinds", type=Path, required=True, help="JSON of kind -> names")
    parser.add_argument("--output", type=Path, required=True, help="the new .json")
    args = parser.parse_args()
    return write(args.output, lambda: by_kind(read(args.labels), read(args.kinds), args.vocabulary))


def by_kind(
    labels: dict[str, Any], kinds: dict[str, list[str]], vocabulary: str | None = None
) -> dict[str, Any]:
    """The content of a label file whose categories are kinds; pictures without any are left out.

    Args:
        labels: COCO-style; without `neg_category_ids` a picture was looked through for all names.
        kinds: Kind -> names, each in one kind only. Names that the file lacks are passed over.
        vocabulary: Only its pictures and names.
    Raises:
        KeyError: The file has no such vocabulary.
        ValueError: A name belongs to two kinds, where one box would have to be both.
    """
    numbers = {category["name"]: category["id"] for category in labels["categories"]}
    listed = labels["vocabularies"][vocabulary] if vocabulary else list(numbers.values())
    members = {
        kind: {numbers[name] for name in names if numbers.get(name) in listed}
        for kind, names in kinds.items()
    }
    members = {kind: own for kind, own in members.items() if own}
    kind_of = {number: kind for kind, own in members.items() for number in own}
    if len(kind_of) < sum(map(len, members.values())):
        raise ValueError("a name belongs to two kinds; keep each in one of them")
    ids = {kind: row for row, kind in enumerate(members, 1)}
    boxes = by_picture(box for box in labels["annotations"] if box["category_id"] in kind_of)
    pictures = [
        picture
        for picture in labels["images"]
        if picture["id"] in boxes and vocabulary in (None, picture.get("vocabulary"))
    ]
    return {
        "images": [
            _asked_by_kind(picture, {box["category_id"] for box in boxes[picture["id"]]}, members)
            for picture in pictures
        ],
        "annotations": [
            {**box, "category_id": ids[kind_of[box["category_id"]]]}
            for picture in pictures
            for box in boxes[picture["id"]]
        ],
        "categories": [{"id": row, "name": kind} for kind, row in ids.items()],
    }


def _asked_by_kind(
    picture: dict[str, Any], there: set[int], members: dict[str, set[int]]
) -> dict[str, Any]:
    """A picture and what is known of kinds in it; `there` are the numbers of names with a box."""
    names = set().union(*members.values())
    absent = set(picture.get("neg_category_ids", names - there))
    complete = absent | there - set(picture.get("not_exhaustive_category_ids", ()))
    rows = list(enumerate(members.values(), 1))
    return {
        **{key: picture[key] for key in ("id", "file_name", "width", "height")},
        "neg_category_ids": [row for row, own in rows if own <= absent],
        "not_exhaustive_category_ids": [row for row, own in rows if own & there and own - complete],
    }


if __name__ == "__main__":
    sys.exit(main())
