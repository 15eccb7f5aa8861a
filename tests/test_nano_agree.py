"""What a teacher left open is decided where its student is sure, and only there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from nano_agree import agree, main

from glip.data.formats.coco import read_detection
from glip.evaluation.predictions import Prediction, PredictionWriter, prediction

CAT, DOG, COUCH, KEY = 1, 2, 3, 4
LEVELS = {"found": 0.5, "nothing": 0.3, "same_place": 0.5}


def labels(*boxes: tuple[int, int], absent: tuple[int, ...] = (KEY,)) -> dict[str, Any]:
    """One picture; boxes of 20x20 as (name, left edge); all names but `absent` are open."""
    names = ("cat", "dog", "couch", "key")
    picture = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 50}
    return {
        "images": [{**picture, "neg_category_ids": list(absent)}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": name, "bbox": [x, 0, 20, 20], "score": 0.7}
            for n, (name, x) in enumerate(boxes, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def student(*boxes: tuple[int, int, float]) -> Prediction:
    """Boxes of 20x20 as (name, left edge, score)."""
    edges = [[x, 0, x + 20, 20] for _, x, _ in boxes]
    return prediction(7, edges, [s for *_, s in boxes], [name for name, *_ in boxes])


def decided(content: dict[str, Any], said: Prediction, **more: Any) -> tuple[Any, ...]:
    """New boxes as (name, left edge), absent names, names of which there may be more."""
    found = agree(content, [said], **LEVELS, **more)
    (picture,) = found["images"]
    new = found["annotations"][len(content["annotations"]) :]
    assert [box["id"] for box in found["annotations"]] == list(
        range(1, len(found["annotations"]) + 1)
    )
    return (
        [(box["category_id"], box["bbox"][0]) for box in new],
        picture["neg_category_ids"],
        picture["not_exhaustive_category_ids"],
    )


@pytest.mark.parametrize(
    ("said", "new", "absent", "partly"),
    [
        pytest.param([(DOG, 40, 0.5)], [(DOG, 40)], [COUCH, KEY], [DOG], id="sure of an open name"),
        pytest.param([(DOG, 40, 0.4)], [], [COUCH, KEY], [], id="not sure: stays open"),
        pytest.param([(DOG, 40, 0.2)], [], [DOG, COUCH, KEY], [], id="next to nothing: absent"),
        pytest.param(
            [(DOG, 2, 0.9)], [], [DOG, COUCH, KEY], [], id="only where the cat is: absent"
        ),
        pytest.param([(CAT, 60, 0.9)], [], [DOG, COUCH, KEY], [], id="all cats were found"),
        pytest.param([(KEY, 60, 0.9)], [], [DOG, COUCH, KEY], [], id="the teacher sees no key"),
        pytest.param(
            [(DOG, 40, 0.6), (COUCH, 42, 0.7), (DOG, 70, 0.55)],
            [(COUCH, 42), (DOG, 70)],
            [KEY],
            [DOG, COUCH],
            id="one name a place",
        ),
    ],
)
def test_open_names(said: list[Any], new: list[Any], absent: list[int], partly: list[int]) -> None:
    assert decided(labels((CAT, 0)), student(*said)) == (new, absent, partly)


def test_more_of_a_kind_that_may_have_more() -> None:
    content = labels((CAT, 0), absent=(DOG, COUCH, KEY))
    content["images"][0]["not_exhaustive_category_ids"] = [CAT]
    said = student((CAT, 2, 0.9), (CAT, 40, 0.8))
    assert decided(content, said) == ([(CAT, 40)], [DOG, COUCH, KEY], [CAT])


def test_what_people_named_otherwise_stays_open() -> None:
    people = labels((KEY, 40))
    people["images"][0]["id"] = 1
    people["annotations"][0]["image_id"] = 1
    said = student((DOG, 41, 0.9))
    assert decided(labels((CAT, 0)), said, beside=people) == ([], [COUCH, KEY], [])


def test_a_picture_that_was_not_asked_stays_as_it_is() -> None:
    found = agree(labels((CAT, 0)), [], **LEVELS)
    assert found["images"][0]["neg_category_ids"] == [KEY]
    assert len(found["annotations"]) == 1


def test_from_files_to_a_file_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher.json").write_text(json.dumps(labels((CAT, 0))))
    with PredictionWriter(tmp_path / "said.jsonl", {}) as writer:
        writer.write(student((DOG, 40, 0.75)))
    output = tmp_path / "agreed.json"
    inputs = ["--labels", tmp_path / "teacher.json", "--predictions", tmp_path / "said.jsonl"]
    monkeypatch.setattr(sys, "argv", ["nano_agree", *map(str, inputs), "--output", str(output)])
    assert main() == 0
    data = read_detection(output)
    (record,) = data.records
    assert [data.names[row] for row in record.labels] == ["cat", "dog"]
    assert record.boxes.tolist() == [[0, 0, 20, 20], [40, 0, 60, 20]]
    assert [box["score"] for box in json.loads(output.read_text())["annotations"]] == [0.7, 0.75]
    assert [data.names[row] for row in data.absent(record)] == ["couch", "key"]
    assert [data.names[row] for row in record.not_exhaustive] == ["dog"]
