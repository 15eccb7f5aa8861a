"""Names become kinds, and what is known of them stays true."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from nano_kinds import by_kind, main

KINDS = {"animal": ["cat", "dog", "yak"], "vehicle": ["car", "bus"], "plant": ["rose"]}


def labels(*pictures: dict[str, Any]) -> dict[str, Any]:
    """Cat 1, dog 2, car 3, bus 4, person 5; a picture brings the numbers of its boxes as `own`."""
    names = ("cat", "dog", "car", "bus", "person")
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 8, **picture}
            for n, picture in enumerate(pictures, 1)
        ],
        "annotations": [
            {"id": 10 * n + k, "image_id": n, "category_id": number, "bbox": [k, 0, 2, 3]}
            for n, picture in enumerate(pictures, 1)
            for k, number in enumerate(picture.pop("own"))
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def test_boxes_keep_their_place_and_change_their_name() -> None:
    found = by_kind(labels({"own": [2, 5, 3, 1]}), KINDS)
    assert [row["name"] for row in found["categories"]] == ["animal", "vehicle"]
    assert [(box["category_id"], box["bbox"][0]) for box in found["annotations"]] == [
        (1, 0),
        (2, 2),
        (1, 3),
    ]


@pytest.mark.parametrize(
    ("known", "absent", "partly"),
    [
        ({}, [2], []),  # looked through for all names
        ({"neg_category_ids": [2, 3, 4]}, [2], []),
        ({"neg_category_ids": [2, 3]}, [], []),  # there may be a bus
        ({"neg_category_ids": [3, 4]}, [2], [1]),  # there may be a dog besides
        ({"neg_category_ids": [2, 3, 4], "not_exhaustive_category_ids": [1]}, [2], [1]),
    ],
)
def test_what_is_known_of_a_kind(
    known: dict[str, list[int]], absent: list[int], partly: list[int]
) -> None:
    (picture,) = by_kind(labels({"own": [1], **known}), KINDS)["images"]
    assert picture["neg_category_ids"] == absent
    assert picture["not_exhaustive_category_ids"] == partly


def test_pictures_without_a_kind_and_other_vocabularies_are_left_out() -> None:
    content = labels(
        {"own": [5], "vocabulary": "a"}, {"own": [1, 3], "vocabulary": "a"}, {"own": [1]}
    )
    content["vocabularies"] = {"a": [1, 2]}
    found = by_kind(content, KINDS, "a")
    assert [row["id"] for row in found["images"]] == [2]
    assert [(box["image_id"], box["category_id"]) for box in found["annotations"]] == [(2, 1)]


def test_a_name_of_two_kinds_is_refused() -> None:
    with pytest.raises(ValueError, match="two kinds"):
        by_kind(labels(), {"animal": ["cat"], "pet": ["cat"]})


def test_reads_and_writes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"labels": labels({"own": [1]}), "kinds": KINDS}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    words = "nano_kinds --labels labels.json --kinds kinds.json --output new.json"
    monkeypatch.setattr(sys, "argv", words.split())
    assert main() == 0
    assert json.loads((tmp_path / "new.json").read_text())["annotations"][0]["category_id"] == 1
    monkeypatch.setattr(sys, "argv", [*words.split(), "--vocabulary", "other"])
    assert main() == 2
