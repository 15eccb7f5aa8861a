"""Several label files of the same pictures -> one: the names of all of them in one prompt.

    python tools/nano_join.py --output everyday_joined.json \
        --labels datasets/everyday/train.json datasets/everyday/teacher_coco.json

People wrote some names, a teacher found others. A picture of the output has the boxes of all files,
and what each of them looked for in vain is absent; what no file says anything about stays unknown.
Where files speak of one name, the first that knows something is believed. A file without
`neg_category_ids` has looked for all its names, of which `--sample` keeps some for each picture, so
that a thousand of them leave room for the eighty of another file; none of those is a name that a
file before it was asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from glip.files import whole_file


def main() -> int:
    """Read, join, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, nargs="+", required=True, help="COCO-style files")
    parser.add_argument("--sample", type=int, default=80, help="absent names where all are absent")
    parser.add_argument("--output", type=Path, required=True, help="the new .json")
    args = parser.parse_args()

    def joined() -> dict[str, Any]:
        return join([read(path) for path in args.labels], args.sample)

    return write(args.output, joined)


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(output: Path, made: Callable[[], dict[str, Any]]) -> int:
    """Make a label file, write it whole and say what is in it; returns the exit code."""
    try:
        content = made()
    except (OSError, KeyError, ValueError) as error:
        print(f"error: {error if isinstance(error, OSError) else repr(error)}", file=sys.stderr)
        return 2
    with whole_file(output) as file:
        json.dump(content, file)
    counts = f"{len(content['images'])} pictures, {len(content['annotations'])} boxes"
    print(f"written: {output}, {counts}", file=sys.stderr)
    return 0


def by_picture(annotations: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    """Id of each picture that has boxes -> its annotations, in their order."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        found.setdefault(annotation["image_id"], []).append(annotation)
    return found


def join(files: list[dict[str, Any]], sample: int) -> dict[str, Any]:
    """One content of several, pictures matched by `file_name`."""
    names = sorted({category["name"] for content in files for category in content["categories"]})
    ids = {name: number for number, name in enumerate(names, 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for content in files:
        own_ids = {category["id"]: ids[category["name"]] for category in content["categories"]}
        boxes = by_picture(content["annotations"])
        for picture in content["images"]:
            row = images.setdefault(
                picture["file_name"],
                {
                    "id": len(images) + 1,
                    **{key: picture[key] for key in ("file_name", "width", "height")},
                    "neg_category_ids": [],
                    "not_exhaustive_category_ids": [],
                    "known": set(),
                    "asked": set(),
                },
            )
            present = [
                {**annotation, "category_id": own_ids[annotation["category_id"]]}
                for annotation in boxes.get(picture["id"], ())
            ]
            known, asked = row["known"], row["asked"]
            present = [box for box in present if box["category_id"] not in known]
            absent = _absent(picture, own_ids, present, asked, sample)
            row["neg_category_ids"] += [number for number in absent if number not in known]
            partly = [own_ids[number] for number in picture.get("not_exhaustive_category_ids", ())]
            row["not_exhaustive_category_ids"] += [n for n in partly if n not in known]
            known |= {*absent, *(box["category_id"] for box in present)}
            vocabulary = content.get("vocabularies", {}).get(picture.get("vocabulary"), own_ids)
            asked |= {own_ids[number] for number in vocabulary}
            annotations += [{**box, "image_id": row["id"]} for box in present]
    for row in images.values():
        del row["known"], row["asked"]
    return {
        "images": list(images.values()),
        "annotations": [{**row, "id": number} for number, row in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


def _absent(
    picture: dict[str, Any],
    own_ids: dict[int, int],
    present: list[dict[str, Any]],
    asked: set[int],
    sample: int,
) -> list[int]:
    """New ids of what was looked for and is not there."""
    if "neg_category_ids" in picture:
        return [own_ids[number] for number in picture["neg_category_ids"]]
    there = {box["category_id"] for box in present}
    rest = sorted(set(own_ids.values()) - there - asked)
    return Random(picture["file_name"]).sample(rest, min(sample, len(rest)))


if __name__ == "__main__":
    sys.exit(main())
