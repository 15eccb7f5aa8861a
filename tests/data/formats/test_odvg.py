"""ODVG lines of captions and of classes."""

import json

import numpy as np
import pytest

from glip.data.formats.odvg import read_odvg_detection, to_odvg, write_grounding
from glip.data.formats.recognise import read_annotated, read_grounding
from glip.data.records import DetectionData, GroundingData, GroundingRecord
from glip.errors import DataError
from tests.data.formats.trees import grow

CAPTION = "a red box left of a blue box"


def test_odvg_lines_come_back_as_written(tmp_path):
    record = GroundingRecord(
        image_id=7,
        file_name="ä.png",
        image_hw=(40, 60),
        caption=CAPTION,
        phrases=(((0, 9),), ((2, 5), (25, 28))),
        boxes=np.array([[1, 2, 3, 4], [5, 6, 7, 8.5], [0, 0, 1, 1]]),
        owners=np.array([0, 1, 0]),
        scores=np.array([0.5, 0.75, 1], dtype=np.float32),
    )
    [back] = read_grounding(write_grounding([record], tmp_path / "out.jsonl")).records
    assert to_odvg(back) == to_odvg(record)
    assert to_odvg(record)["grounding"]["regions"][1]["phrase"] == "red box"
    assert not list(tmp_path.glob(".*"))


def test_parts_of_an_odvg_folder_are_read_by_name(tmp_path, draw):
    def record(number):
        return GroundingRecord(
            number, "a.png", (40, 60), "a box", (((0, 5),),), np.ones((1, 4)), np.array([0])
        )

    write_grounding([record(3)], tmp_path / "part-2.jsonl")
    write_grounding([record(1), record(2)], tmp_path / "part-1.jsonl")
    draw(60, 40).save(tmp_path / "a.png")
    assert [record.image_id for record in read_grounding(tmp_path).records] == [1, 2, 3]
    annotated = read_annotated(tmp_path)
    assert len(annotated.data) == 3 and "a.png" in annotated.pictures
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no part of a grounding data set"):
        read_grounding(tmp_path / "empty")


def test_odvg_phrase_without_spans_is_looked_for(tmp_path):
    line = {
        "filename": "a.png",
        "height": 40,
        "width": 60,
        "grounding": {
            "caption": "A red box",
            "regions": [{"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "phrase": "red box"}],
        },
    }
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line) + "\n\n")
    [record] = read_grounding(path).records
    assert record.phrases == (((2, 9),),)
    assert record.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    line["grounding"]["regions"][0]["phrase"] = "green box"
    path.write_text(json.dumps(line))
    with pytest.raises(DataError, match=r"x.jsonl:1: phrase 'green box' is not in the caption"):
        read_grounding(path)


@pytest.mark.parametrize(
    ("caption", "phrase", "there"),
    [
        ("A woman and a man", "man", (14, 17)),  # and not in "woman"
        ("Two dogs", "dog", (4, 7)),  # or else inside of a word
        ("\u0130zmir and a cat", "cat", (12, 15)),  # a letter that is two in lower case
        ("A red  hat", "Red hat", (2, 10)),
    ],
)
def test_odvg_phrases_are_whole_words_if_they_can(tmp_path, caption, phrase, there):
    regions = [{"bbox": [1, 2, 3, 4], "phrase": phrase}]
    grounding = {"caption": caption, "regions": regions}
    line = {"filename": "a.png", "height": 40, "width": 60, "grounding": grounding}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line))
    [record] = read_grounding(path).records
    assert record.phrases == ((there,),)


def test_odvg_captions_beside_the_label_map_of_others(tmp_path, draw):
    draw(60, 40).save(tmp_path / "a.png")
    picture = {"filename": "a.png", "height": 40, "width": 60}
    regions = [{"bbox": [1, 2, 3, 4], "phrase": "box"}]
    captions = {**picture, "grounding": {"caption": "A red box", "regions": regions}}
    classes = {**picture, "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 0}]}}
    (tmp_path / "label_map.json").write_text('{"0": "box"}')
    for name, line in (("captions", captions), ("classes", classes)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line))
    assert isinstance(read_annotated(tmp_path / "captions.jsonl").data, GroundingData)
    assert isinstance(read_annotated(tmp_path / "classes.jsonl").data, DetectionData)
    with pytest.raises(DataError, match=r"captions.jsonl:1: has a caption, no classes"):
        read_annotated(tmp_path)


def test_odvg_with_labels_needs_a_label_map(tmp_path):
    path, label_map = tmp_path / "x.jsonl", tmp_path / "labels.json"
    line = {
        "filename": "a.png",
        "height": 40,
        "width": 60,
        "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 5, "category": "box"}]},
    }
    path.write_text(json.dumps(line))
    label_map.write_text(json.dumps({"5": "box", "2": "disc"}))
    data = read_odvg_detection(path, label_map)
    assert data.names == ("disc", "box")
    assert data.records[0].labels.tolist() == [1]
    with pytest.raises(DataError, match="has no 'grounding'"):
        read_grounding(path)
    label_map.write_text(json.dumps({"2": "disc"}))
    with pytest.raises(DataError, match="label 5 is not in"):
        read_odvg_detection(path, label_map)


def test_grounding_files_are_named_jsonl(tmp_path):
    with pytest.raises(DataError, match=r"name it .*x.jsonl"):
        write_grounding([], tmp_path / "x.json")


NAN = float("nan")
REGION = {"bbox": [1, 2, 3, 4], "phrase": "box"}
LINE = {
    "filename": "a.png",
    "height": 40,
    "width": 60,
    "grounding": {"caption": "a box", "regions": [REGION]},
}


@pytest.mark.parametrize(
    "line",
    [
        LINE | {"grounding": None},
        LINE | {"grounding": {"caption": None}},
        LINE | {"grounding": {"caption": "a box", "regions": [REGION | {"bbox": [1, 2, NAN, 4]}]}},
        LINE | {"grounding": {"caption": "a box", "regions": [REGION | {"score": NAN}]}},
        LINE | {"filename": None},
        LINE | {"filename": "../a.png"},
    ],
)  # fmt: skip
def test_one_bad_line_of_many_is_left_out(line, tmp_path):
    grow(tmp_path, {"a.png": None})
    lines = [json.dumps(entry) for entry in [*[LINE] * 40, line]]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    records = list(read_annotated(tmp_path / "x.jsonl").data.records)
    assert sum(len(record.boxes) for record in records) == 40
    with pytest.raises(DataError, match=r"x.jsonl:41"):
        read_annotated(tmp_path / "x.jsonl", max_bad=0)


def test_label_map_has_one_name_for_a_number(tmp_path):
    grow(tmp_path, {"x.jsonl": "", "labels.json": {"0": "cat", "00": "dog"}})
    with pytest.raises(DataError, match="two names for one number, such as 0 and 00"):
        read_odvg_detection(tmp_path / "x.jsonl", tmp_path / "labels.json")
