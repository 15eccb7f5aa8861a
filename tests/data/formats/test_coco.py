"""COCO- and LVIS-style files."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_tools

from glip.data.doctor.examine import examine
from glip.data.faults import Faults
from glip.data.formats.coco import parse_detection, read_detection, segmentation_box, to_coco
from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import CAT, boxes_of, grow
from tests.data.formats.trees import coco as coco_file


def test_classes_are_rows_in_the_order_of_their_ids(coco):
    data = read_detection(coco)
    assert data.names == ("blue box", "red_box", "disc (round)")
    assert data.category_ids == (3, 7, 9)
    first = data.records[0]
    assert first.image_id == 10 and first.file_name == "a.png" and first.image_hw == (40, 60)
    assert first.boxes.tolist() == [[10, 5, 30, 15], [30, 20, 40, 30]]
    assert first.labels.tolist() == [1, 0]
    assert data.records[2].boxes.shape == (0, 4)


def test_blank_name_without_a_box_is_no_class(coco_content, tmp_path):
    """ODinW's chess pieces have one."""
    coco_content["categories"].append({"id": 1, "name": "  "})
    coco_content["images"][0]["neg_category_ids"] = [1, 9]
    data = parse_detection(coco_content, tmp_path / "chess.json")
    assert data.names == ("blue box", "red_box", "disc (round)")
    assert data.category_ids == (3, 7, 9)
    assert data.records[0].absent == (2,)
    assert data.records[0].labels.tolist() == [1, 0]
    coco_content["annotations"][0]["category_id"] = 1
    assert parse_detection(coco_content, tmp_path / "chess.json").names[0] == "  "


def test_group_of_the_name_of_its_only_class_is_no_class(coco_content, tmp_path):
    """Exports list groups as categories; "disc (round)" has no box and is one, but once."""
    for number, name in ((0, "red_box"), (10, "disc (round)"), (11, "thing")):
        coco_content["categories"].append({"id": number, "name": name})
    data = parse_detection(coco_content, tmp_path / "groups.json")
    assert data.names == ("blue box", "red_box", "disc (round)", "thing")
    assert data.category_ids == (3, 7, 9, 11)
    coco_content["annotations"][1]["category_id"] = 0  # now both have boxes
    names = parse_detection(coco_content, tmp_path / "groups.json").names
    assert names.count("red_box") == 2


def test_group_above_all_classes_is_no_class(coco_content, tmp_path):
    for category in coco_content["categories"]:
        category["supercategory"] = "things"
    roof = {"id": 0, "name": "things", "supercategory": "none"}
    coco_content["categories"].insert(0, roof)
    names = parse_detection(coco_content, tmp_path / "roboflow.json").names
    assert names == ("blue box", "red_box", "disc (round)")
    coco_content["annotations"][0]["category_id"] = 0
    assert len(parse_detection(coco_content, tmp_path / "boxes.json").names) == 4


def test_same_name_in_two_vocabularies_is_two_classes(coco_content, tmp_path):
    coco_content["categories"].append({"id": 12, "name": "red_box"})
    coco_content["vocabularies"] = {"a": [3, 7, 9], "b": [12]}
    for image in coco_content["images"]:
        image["vocabulary"] = "a"
    data = parse_detection(coco_content, tmp_path / "two.json")
    assert data.names == ("blue box", "red_box", "disc (round)", "red_box")


def test_plain_coco_knows_every_class_without_a_box_to_be_absent(coco):
    data = read_detection(coco)
    assert [data.absent(record) for record in data.records] == [(2,), (1, 2), (0, 1, 2)]


def test_unknown_is_not_absent(coco_content, tmp_path):
    image = coco_content["images"][1]
    image["neg_category_ids"] = [9]
    assert parse_detection(coco_content, tmp_path).absent(
        parse_detection(coco_content, tmp_path).records[1]
    ) == (2,)


def test_not_exhaustive_class_is_never_absent(coco_content, tmp_path):
    coco_content["images"][1] |= {"neg_category_ids": [7, 9], "not_exhaustive_category_ids": [9]}
    data = parse_detection(coco_content, tmp_path)
    assert data.absent(data.records[1]) == (1,)


def test_absent_class_with_a_box_or_crowd_is_not_absent(coco_content, tmp_path):
    coco_content["images"][1]["neg_category_ids"] = [3, 7]
    coco_content["annotations"][2]["iscrowd"] = 1
    data = parse_detection(coco_content, tmp_path)
    assert data.records[1].crowd.tolist() == [True]
    assert data.absent(data.records[1]) == (1,)


def test_vocabulary_limits_what_is_asked_and_absent(coco_content, tmp_path):
    coco_content["vocabularies"] = {"boxes": [3, 7], "discs": [9]}
    for image, name in zip(coco_content["images"], ("boxes", "boxes", "discs"), strict=True):
        image["vocabulary"] = name
    data = parse_detection(coco_content, tmp_path)
    assert [data.vocabulary(record) for record in data.records] == [(0, 1), (0, 1), (2,)]
    assert [data.absent(record) for record in data.records] == [(), (1,), (2,)]


def test_one_vocabulary_alone(coco_content, tmp_path):
    coco_content["vocabularies"] = {"boxes": [3, 7], "discs": [9]}
    for image, name in zip(coco_content["images"], ("boxes", "boxes", "discs"), strict=True):
        image["vocabulary"] = name
    data = parse_detection(coco_content, tmp_path)
    discs = data.only("discs")
    assert [record.image_id for record in discs.records] == [coco_content["images"][2]["id"]]
    assert (discs.names, discs.vocabularies) == (data.names, data.vocabularies)
    with pytest.raises(DataError, match=r"vocabulary 'rings'; it has boxes, discs"):
        data.only("rings")


def test_lvis_names_pictures_by_url_and_has_frequencies(coco_content, tmp_path):
    del coco_content["images"][0]["file_name"]
    coco_content["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/000000000001.jpg"
    for category, frequency in zip(coco_content["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    data = parse_detection(coco_content, tmp_path)
    assert data.records[0].file_name == "val2017/000000000001.jpg"
    assert data.frequencies == ("c", "r", "f")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("annotations"), "has no list 'annotations'"),
        (lambda c: c["categories"].clear(), "has no categories"),
        (
            lambda c: c["categories"].append({"id": 3, "name": "x"}),
            "id 3; 1 of 4 classes cannot be used",
        ),
        (
            lambda c: c["categories"].append({"name": "x"}),
            "category number 3 has no whole id or name",
        ),
        (lambda c: c["images"].append({"id": 10}), "id 10; 1 of 4 images cannot"),
        (lambda c: c["images"][0].pop("file_name"), "image 10 has no file_name"),
        (lambda c: c["images"][0].pop("width"), "image 10 has no positive width"),
        (
            lambda c: c["annotations"][0].update(image_id=5),
            r"annotation 1 \(image 5\) belongs to image 5",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=5),
            r"annotation 1 \(image 10\) has category 5",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"has bbox \[1.0, 2.0, 3.0\]"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "has bbox"),
        (lambda c: c["images"][0].update(neg_category_ids=[77]), "neg_category_ids has 77"),
    ],
)
def test_broken_file_names_its_first_fault(coco_content, tmp_path, spoil, message):
    spoil(coco_content)
    with pytest.raises(DataError, match=message) as caught:
        parse_detection(coco_content, tmp_path / "broken.json")
    assert "broken.json" in str(caught.value)


def test_file_that_is_no_json(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match="does not exist"):
        read_detection(path)
    path.write_text('{"images": [')
    with pytest.raises(DataError, match=r"x.json is not valid JSON: .* line 1"):
        read_detection(path)
    path.write_text(json.dumps([1]))
    with pytest.raises(DataError, match="is one JSON list, expected an object"):
        read_detection(path)


def test_boxes_are_kept_as_the_file_has_them(coco_content, tmp_path):
    coco_content["annotations"][0]["bbox"] = [-5.5, 3, 100, 0]
    boxes = parse_detection(coco_content, tmp_path).records[0].boxes
    np.testing.assert_array_equal(boxes[0], [-5.5, 3, 94.5, 3])


def test_data_become_a_coco_file_and_come_back(coco_content, tmp_path):
    coco_content["vocabularies"] = {"boxes": [3, 7], "discs": [9]}
    for image, name in zip(coco_content["images"], ("boxes", "boxes", "discs"), strict=True):
        image |= {"vocabulary": name, "neg_category_ids": [], "not_exhaustive_category_ids": [3]}
    for category in coco_content["categories"]:
        category["frequency"] = "r"
    coco_content["annotations"][0]["area"] = 5.5
    coco_content["images"][0]["not_exhaustive_category_ids"] = [9]
    once = to_coco(parse_detection(coco_content, tmp_path))
    assert once["images"][0]["not_exhaustive_category_ids"] == [9]
    assert to_coco(parse_detection(json.loads(json.dumps(once)), tmp_path)) == once
    assert once["vocabularies"] == coco_content["vocabularies"]
    assert once["annotations"][0] == coco_content["annotations"][0] | {"area": 5.5}


@pytest.mark.parametrize(
    ("scores", "read", "strange"),
    [
        ([], None, 0),
        ([None, None], None, 0),
        # None of these is a share of 1.
        ([None, "high", -0.1, 1.1, 10**400, "87", float("nan"), [0.5]], None, 7),
        ([0.25, None, "0.5", 1, 87], [0.25, 1, 0.5, 1, 1], 1),
    ],
)
def test_scores_of_a_teacher(coco_content, tmp_path, scores, read, strange):
    annotation = coco_content["annotations"][0]
    coco_content["annotations"] = [annotation | {"id": n, "score": s} for n, s in enumerate(scores)]
    faults = Faults(tmp_path)
    data = parse_detection(coco_content, tmp_path, faults=faults)
    told = {"scores that are no number from 0 to 1 were passed over": strange} if strange else {}
    assert faults.notes == told
    known = data.records[0].scores
    assert (None if known is None else known.tolist()) == read
    assert [box.get("score") for box in to_coco(data)["annotations"]] == (
        read or [None] * len(scores)
    )


def test_area_of_null_is_that_of_the_box(coco_content, tmp_path):
    for annotation in coco_content["annotations"]:
        annotation["area"] = None
    for record in parse_detection(coco_content, tmp_path).records:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        assert record.areas.tolist() == pytest.approx(sides.prod(1).tolist())


def test_vocabulary_without_a_class_is_refused(coco_content, tmp_path):
    coco_content["vocabularies"] = {"all": [3, 7, 9], "none": []}
    with pytest.raises(DataError, match="vocabulary 'none' has no category"):
        parse_detection(coco_content, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"area": None, "iscrowd": None},
        {"iscrowd": "0", "area": "600"},
        {"iscrowd": "false", "area": float("nan")},
        {"bbox": ["1", "2", "30", "20"]},
        {"bbox": [], "segmentation": [[1, 2, 31, 2, 31, 22, 1, 22]]},
        {"bbox": None, "segmentation": [1, 2, 31, 2, 31, 22, 1, 22]},
        {"bbox": [float("nan"), 2, 3, 4], "segmentation": [[1, 2, 31, 2], [31, 22, 1, 22]]},
    ],
)
def test_ways_to_write_an_annotation(changes, tmp_path):
    grow(
        tmp_path,
        {"train.json": coco_file("a.png", "b.png", **changes), "a.png": None, "b.png": None},
    )
    found = read_annotated(tmp_path / "train.json")
    assert boxes_of(found) == {"a.png": CAT, "b.png": CAT}
    assert not any(record.crowd.any() for record in found.data.records)
    assert examine(tmp_path / "train.json", quick=True).exit_code == 0


def test_boxes_of_masks_are_those_of_pycocotools(tmp_path):
    mask = np.zeros((40, 60), dtype=np.uint8, order="F")
    mask[2:22, 1:31] = 1
    mask[30:33, 50] = 1
    packed = mask_tools.encode(mask)
    flat = mask.ravel("F")
    changes = [0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), len(flat)]
    counts = np.diff(changes).tolist()  # runs outside and inside, by turns
    for known in (packed["counts"].decode(), counts):
        assert segmentation_box({"size": [40, 60], "counts": known}) == [1, 2, 50, 31]
    assert mask_tools.toBbox(packed).tolist() == [1, 2, 50, 31]
    for odd in ("~~~", [-1, 5], [1, 10**400], None, 7):
        assert segmentation_box({"size": [40, 60], "counts": odd}) is None


def test_sizes_that_are_not_said_are_asked(tmp_path):
    content = coco_file("a.png", "b.png")
    content["images"][0] |= {"width": -1, "height": -1}
    content["images"][1] |= {"width": None}
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])  # as VIA writes them
    grow(tmp_path, {"train.json": content, "a.png": None, "b.png": None})
    found = read_annotated(tmp_path / "train.json")
    assert boxes_of(found) == {"a.png": CAT, "b.png": CAT}
    assert [record.image_hw for record in found.data.records] == [(40, 60)] * 2


def test_background_is_no_class(coco_content, tmp_path):
    coco_content["categories"].append({"id": 0, "name": "__background__"})
    assert parse_detection(coco_content, tmp_path).names == ("blue box", "red_box", "disc (round)")


def test_one_faulty_entry_of_many_is_left_out(tmp_path, caplog):
    content = coco_file(*(f"{n}.png" for n in range(40)))
    content["annotations"][7]["bbox"] = [1, 2, float("inf"), 4]
    grow(tmp_path, {"train.json": content, **{f"{n}.png": None for n in range(40)}})
    assert sum(map(len, boxes_of(read_annotated(tmp_path / "train.json")).values())) == 39
    assert "left out 1 of 40 boxes: annotation 7 (image 7) has bbox" in caplog.text
    (tmp_path / "9.png").unlink()
    assert len(read_annotated(tmp_path / "train.json").data) == 39
    with pytest.raises(DataError, match=r"1 of 40 \w+ cannot be used"):
        read_annotated(tmp_path / "train.json", max_bad=0)
