"""Label files of the same pictures become one, and nothing unknown becomes absent."""

import json
import sys

import pytest

from glip.data.formats.coco import read_detection


@pytest.fixture(scope="module")
def tool():
    import nano_join

    return nano_join


def picture(number: int, name: str = "a.jpg", **more) -> dict:
    return {"id": number, "file_name": name, "width": 40, "height": 30, **more}


def box(image: int, category: int, x: float = 0) -> dict:
    return {"id": 1, "image_id": image, "category_id": category, "bbox": [x, 0, 9, 9]}


PEOPLE = {
    "categories": [{"id": 1, "name": "door"}, {"id": 2, "name": "cup"}, {"id": 3, "name": "key"}],
    "vocabularies": {"doors": [1, 2, 3]},
    "images": [picture(7, vocabulary="doors", neg_category_ids=[3])],
    "annotations": [box(7, 1)],
}
TEACHER = {
    "categories": [{"id": 5, "name": "cup"}, {"id": 6, "name": "door"}, {"id": 9, "name": "cat"}],
    "vocabularies": {"coco": [5, 6, 9]},
    "images": [
        picture(1, vocabulary="coco", neg_category_ids=[9], not_exhaustive_category_ids=[5]),
        picture(2, "b.jpg", vocabulary="coco", neg_category_ids=[5]),
    ],
    "annotations": [box(1, 5, 4), box(1, 6, 5), box(2, 9)],
}


def test_the_first_that_knows_a_name_is_believed(tool, tmp_path, monkeypatch):
    paths = [tmp_path / "people.json", tmp_path / "teacher.json"]
    for path, content in zip(paths, (PEOPLE, TEACHER), strict=True):
        path.write_text(json.dumps(content))
    output = tmp_path / "joined.json"
    arguments = ["nano_join", "--labels", *map(str, paths), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert tool.main() == 0
    data = read_detection(output)
    assert data.names == ("cat", "cup", "door", "key")
    first, second = data.records
    assert [data.names[row] for row in first.labels] == ["door", "cup"]  # the teacher's door is not
    assert first.boxes[:, 0].tolist() == [0, 4]
    assert [data.names[row] for row in data.absent(first)] == ["cat", "key"]
    assert [data.names[row] for row in first.not_exhaustive] == ["cup"]
    assert [data.names[row] for row in second.labels] == ["cat"]
    assert [data.names[row] for row in data.absent(second)] == ["cup"]  # "door" and "key": unknown


def test_of_a_long_list_some_names_are_absent(tool):
    long = {
        "categories": [{"id": n, "name": f"thing {n}"} for n in range(1, 51)]
        + [{"id": 60, "name": "cat"}],
        "images": [picture(1)],
        "annotations": [box(1, 4)],
    }
    joined = tool.join([TEACHER, long], 10)
    names = {row["id"]: row["name"] for row in joined["categories"]}
    absent = [names[number] for number in joined["images"][0]["neg_category_ids"]]
    assert len(absent) == 11 and absent.count("cat") == 1 and "thing 4" not in absent
    assert tool.join([TEACHER, long], 10) == joined


def test_a_missing_file_is_told(tool, tmp_path, monkeypatch, capsys):
    arguments = ["nano_join", "--labels", "no.json", "--output", str(tmp_path / "o.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert tool.main() == 2
    assert "no.json" in capsys.readouterr().err
