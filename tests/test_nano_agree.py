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
    """New boxes as (name, left edge), and absent names."""
    found = agree(content, [said], **LEVELS, **more)
    (picture,) = found["images"]
    new = found["annotations"][len(content["annotations"]) :]
    assert [box["id"] for box in found["annotations"]] == list(
        range(1, len(found["annotations"]) + 1)
    )
    return (
        [(box["category_id"], box["bbox"][0]) for box in new],
        picture["neg_category_ids"],
    )


@pytest.mark.parametrize(
    ("said", "absent"),
    [
        pytest.param([(DOG, 40, 0.2)], [DOG, COUCH, KEY], id="next to nothing: absent"),
        pytest.param([(DOG, 40, 0.4)], [COUCH, KEY], id="something: stays open"),
        pytest.param([(DOG, 40, 0.9)], [COUCH, KEY], id="sure: stays open too"),
        pytest.param([(DOG, 2, 0.9)], [DOG, COUCH, KEY], id="only where the cat is: absent"),
        pytest.param([(DOG, 2, 0.9), (DOG, 40, 0.3)], [COUCH, KEY], id="elsewhere too"),
        pytest.param([(CAT, 60, 0.9)], [DOG, COUCH, KEY], id="all cats were found"),
        pytest.param([(KEY, 60, 0.9)], [DOG, COUCH, KEY], id="the teacher sees no key"),
    ],
)
def test_doubted_names(said: list[Any], absent: list[int]) -> None:
    assert decided(labels((CAT, 0)), student(*said)) == ([], absent)


@pytest.mark.parametrize(
    ("said", "new"),
    [
        pytest.param([(CAT, 40, 0.5)], [(CAT, 40)], id="sure of another one"),
        pytest.param([(CAT, 40, 0.4)], [], id="not sure"),
        pytest.param([(CAT, 2, 0.9)], [], id="the same cat"),
        pytest.param([(CAT, 70, 0.9)], [], id="the dog by another name"),
        pytest.param([(CAT, 30, 0.6), (CAT, 33, 0.8)], [(CAT, 33)], id="one box a thing"),
        pytest.param([(DOG, 40, 0.9)], [], id="all dogs were found"),
    ],
)
def test_more_of_a_kind_that_may_have_more(said: list[Any], new: list[Any]) -> None:
    content = labels((CAT, 0), (DOG, 70), absent=(COUCH, KEY))
    content["images"][0]["not_exhaustive_category_ids"] = [CAT]
    assert decided(content, student(*said)) == (new, [COUCH, KEY])


def test_where_people_wrote_another_name_there_is_no_new_box() -> None:
    content, people = labels((CAT, 0), absent=(DOG, COUCH, KEY)), labels((KEY, 40))
    content["images"][0]["not_exhaustive_category_ids"] = [CAT]
    people["images"][0]["id"] = 1
    people["annotations"][0]["image_id"] = 1
    assert decided(content, student((CAT, 41, 0.9)), beside=people) == ([], [DOG, COUCH, KEY])


@pytest.mark.parametrize("said", [[], [prediction(7, [], [], [], "it is damaged")]])
def test_a_picture_that_was_not_looked_at_stays_as_it_is(said: list[Prediction]) -> None:
    found = agree(labels((CAT, 0)), said, **LEVELS)
    assert found["images"][0]["neg_category_ids"] == [KEY]
    assert len(found["annotations"]) == 1


def test_from_files_to_a_file_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = labels((CAT, 0))
    content["images"][0]["not_exhaustive_category_ids"] = [CAT]
    (tmp_path / "teacher.json").write_text(json.dumps(content))
    with PredictionWriter(tmp_path / "said.jsonl", {}) as writer:
        writer.write(student((CAT, 40, 0.75), (DOG, 70, 0.2)))
    output = tmp_path / "agreed.json"
    inputs = ["--labels", tmp_path / "teacher.json", "--predictions", tmp_path / "said.jsonl"]
    monkeypatch.setattr(sys, "argv", ["nano_agree", *map(str, inputs), "--output", str(output)])
    assert main() == 0
    data = read_detection(output)
    (record,) = data.records
    assert [data.names[row] for row in record.labels] == ["cat", "cat"]
    assert record.boxes.tolist() == [[0, 0, 20, 20], [40, 0, 60, 20]]
    assert [box["score"] for box in json.loads(output.read_text())["annotations"]] == [0.7, 0.75]
    assert [data.names[row] for row in data.absent(record)] == ["dog", "couch", "key"]
    assert [data.names[row] for row in record.not_exhaustive] == ["cat"]
