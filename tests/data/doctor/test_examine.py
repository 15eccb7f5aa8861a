"""What the doctor finds."""

import json

import pytest
from PIL import Image

from glip.data.doctor.examine import examine
from glip.errors import DataError


def first(content, key="annotations"):
    return content[key][0]


def with_vocabularies(content, **vocabularies):
    content["vocabularies"] = vocabularies
    for image in content["images"]:
        image["vocabulary"] = next(iter(vocabularies))


BROKEN = [
    (lambda c: c["annotations"].clear(), "error", "nothing to learn: 1"),
    (lambda c: c["images"].append({"file_name": "a.png"}), "error", "image number 3 has no id"),
    (lambda c: first(c, "images").pop("file_name"), "error", "image 10 has no file_name"),
    (lambda c: first(c, "images").update(width="x"), "error", "image 10: Expected 'float | null'"),
    (lambda c: c["images"].append("x"), "error", "image number 3 has no id"),
    (
        lambda c: c["images"].append(first(c, "images")),
        "error",
        "image ids that occur more than once: 1 (id 10)",
    ),
    (
        lambda c: c["images"][1].update(file_name="a.png", width=60, height=40),
        "warning",
        "pictures listed more than once: 1 (a.png)",
    ),
    (lambda c: first(c).update(id=2), "warning", "annotation ids that occur more than once: 1"),
    (lambda c: first(c).update(image_id=5), "error", "annotation 1 (image 5) belongs to image 5"),
    (lambda c: first(c).update(image_id=[5]), "error", "annotations of no image: 1"),
    (lambda c: first(c).update(category_id=5), "error", "annotations of an unknown category: 1"),
    (lambda c: first(c, "categories").update(id="x"), "error", "category number 0 has no whole id"),
    (lambda c: first(c, "categories").update(name=" "), "error", "category 7 has the name ' '"),
    (
        lambda c: c["categories"].append({"id": 1, "name": " "}),
        "warning",
        "classes without a box: 1 ('disc (round)')",
    ),
    (  # as the reader has it: no class, unless there are several vocabularies
        lambda c: c.update(
            categories=[*c["categories"], {"id": 1, "name": " "}], vocabularies={"a": [1]}
        ),
        "error",
        "category 1 has the name ' '",
    ),
    (lambda c: first(c, "categories").update(id=9), "error", "category ids that occur more"),
    (
        lambda c: first(c, "categories").update(name="blue box"),
        "error",
        "class names that occur more than once: 1 ('blue box', 2 times)",
    ),
    (
        lambda c: first(c, "categories").update(name="Blue_Box (2)"),
        "warning",
        "'blue box' and 'Blue_Box (2)'",
    ),
    (lambda c: first(c, "categories").update(name="class_7"), "warning", "codes rather than words"),
    (lambda c: first(c, "categories").update(name="7"), "warning", "codes rather than words"),
    (
        lambda c: first(c, "categories").update(name="very " * 300),
        "error",
        "needs 300 tokens, there is room for 254",
    ),
    (lambda c: None, "warning", "classes without a box: 1 ('disc (round)')"),
    (lambda c: None, "note", "classes with fewer than 5 boxes: 2"),
    (lambda c: None, "note", "images without a box: 1 (c.png)"),
    (
        lambda c: first(c).update(iscrowd=1),
        "note",
        "crowds: 1 (a.png: (10, 5) to (30, 15) in 60 x 40 pixels)",
    ),
    (
        lambda c: first(c, "images").update(neg_category_ids=[7]),
        "error",
        "absent where they have a box: 1 (a.png: 'red_box')",
    ),
    (
        lambda c: first(c, "images").update(neg_category_ids=[77]),
        "error",
        "image 10: neg_category_ids has 77",
    ),
    (lambda c: with_vocabularies(c, a=[3, 7, 66]), "error", "vocabulary 'a' has 66"),
    (lambda c: with_vocabularies(c, a=[3]), "error", "a.png: 'red_box' is not in 'a'"),
    (
        lambda c: c.update(vocabularies={"a": [3, 7, 9]}),
        "error",
        "image 10 has the vocabulary None",
    ),
    (lambda c: first(c).update(bbox=[1, 2, 3]), "error", "has bbox [1.0, 2.0, 3.0]"),
    (lambda c: first(c).pop("bbox"), "error", "has bbox None"),
    (
        lambda c: [a.update(bbox=[0.1, 0.1, 0.5, 0.5]) for a in c["annotations"]],
        "error",
        "boxes are fractions of the picture: 1 (no coordinate is above 0.6)",
    ),
    (lambda c: first(c).update(bbox=[5, 5, 0, 9]), "error", "boxes without width or height: 1"),
    (lambda c: first(c).update(bbox=[99, 5, 9, 9]), "error", "boxes outside their picture: 1"),
    (lambda c: first(c).update(bbox=[9, 5, 90, 9]), "error", "2 pixels beyond their picture: 1"),
    (
        lambda c: first(c).update(bbox=[9, 5, 2, 9]),
        "note",
        "boxes at most 2 pixels wide or high: 1",
    ),
    (
        lambda c: c["annotations"].append(first(c) | {"id": 4}),
        "error",
        "boxes that occur twice in their picture: 1 (a.png: (10, 5)",
    ),
    (lambda c: c["images"][1].update(file_name="x.png"), "error", "missing pictures: 1 (x.png)"),
    (
        lambda c: c["images"][2].update(width=49),
        "error",
        "c.png has 50 x 50, the file says 49 x 50",
    ),
    (
        lambda c: c["images"][0].update(width=40, height=60),
        "error",
        "the file says 40 x 60, as if it had been turned",
    ),
]


@pytest.mark.parametrize(("spoil", "level", "message"), BROKEN)
def test_each_fault_is_found_and_named(coco, coco_content, spoil, level, message):
    spoil(coco_content)
    coco.write_text(json.dumps(coco_content))
    report = examine(coco, coco.parent, quick=True)
    found = [str(finding) for finding in report.findings if finding.level == level]
    assert any(message in text for text in found), report.text()
    assert report.exit_code == (1 if report.errors else 0)
    if level == "error":
        with pytest.raises(DataError, match="cannot be trained on") as refused:
            report.refuse_if_broken()
        assert message in str(refused.value)


def test_sound_data_has_no_error(coco):
    report = examine(coco)
    assert report.exit_code == 0
    assert report.summary.startswith("detection data: 3 images, 3 boxes, 3 classes; pictures in")
    assert "can be trained on." in report.text()
    report.refuse_if_broken()


def test_a_few_bad_boxes_are_a_warning_and_many_an_error(coco, coco_content):
    coco_content["annotations"] += [
        {"id": 10 + n, "image_id": 12, "category_id": 9, "bbox": [n % 20, n // 20, 10, 10]}
        for n in range(297)
    ]
    coco_content["annotations"][0]["bbox"] = [5, 5, 0, 9]
    coco.write_text(json.dumps(coco_content))
    report = examine(coco, quick=True)
    assert report.exit_code == 0 and "Warnings\n" in report.text()
    for annotation in coco_content["annotations"][:16]:
        annotation["bbox"] = [5, 5, 0, 9]
    coco.write_text(json.dumps(coco_content))
    assert examine(coco, quick=True).exit_code == 1


def test_whole_examination_decodes_every_picture(coco):
    content = (coco.parent / "b.png").read_bytes()
    (coco.parent / "b.png").write_bytes(content[: len(content) // 2])
    Image.new("RGB", (9, 9)).save(coco.parent / "other.png")
    assert examine(coco, quick=True).exit_code == 0
    done = []
    report = examine(coco, progress=done.append)
    assert [step.done for step in done] == [0, 1, 2, 3]
    [error] = report.errors
    assert error.check == "unreadable pictures" and "b.png" in error.examples[0]
    assert "pictures that the file does not name: 1 (other.png)" in report.text()


def test_what_cannot_be_read_at_all_is_a_report_too(tmp_path):
    path = tmp_path / "x.json"
    assert "does not exist" in examine(path).text()
    path.write_text("{")
    assert "is not valid JSON" in examine(path).text()
    path.write_text("[]")
    assert "expected an object" in examine(path).text()
    path.write_text('{"images": [], "annotations": []}')
    report = examine(path)
    assert "has no list 'categories'" in report.text() and report.exit_code == 1


CAPTION = "a red box"


def mdetr(**changes):
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40, "caption": CAPTION}],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [1, 2, 30, 20], "tokens_positive": [[0, 9]]} | changes
        ],
    }


@pytest.mark.parametrize(
    ("content", "level", "message"),
    [
        (mdetr(), None, ""),
        (mdetr(tokens_positive=[[0, 99]]), "error", "has [[0, 99]] in 9 characters"),
        (mdetr(tokens_positive="x"), "error", "spans that are not in their caption: 1"),
        (mdetr(tokens_positive=[]), "warning", "boxes belong to no word and are left out: 1"),
        (mdetr(bbox=[1, 2]), "error", "has bbox [1.0, 2.0]"),
    ],
)
def test_grounding_data(coco, content, level, message):
    path = coco.parent / "mdetr.json"
    path.write_text(json.dumps(content))
    report = examine(path)
    if level is None:
        assert report.exit_code == 0 and report.summary.startswith("grounding data")
    else:
        assert message in report.text()
        assert {finding.level for finding in report.findings} >= {level}


def test_captions(coco):
    path = coco.parent / "captions.json"
    content = mdetr()
    content["images"][0]["caption"] = "word " * 300
    content["images"].append(content["images"][0] | {"id": 2, "caption": " "})
    path.write_text(json.dumps(content))
    text = examine(path).text()
    assert "image 1 needs 302 tokens" in text
    assert "images without a caption: 1 (image 2 has the caption ' ')" in text
    del content["images"][0]["caption"], content["images"][1]
    content["annotations"] = [{"id": 1, "image_id": 1, "caption": "a box"}]
    path.write_text(json.dumps(content))
    report = examine(path)
    assert report.exit_code == 0 and "only a teacher can use it" in report.text()


def test_folders_are_examined_too(tmp_path, draw):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    draw(60, 40).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    (tmp_path / "data.yaml").write_text("names: [cat]")
    assert examine(tmp_path).exit_code == 0
    (tmp_path / "labels" / "a.txt").write_text("3 0.5 0.5 0.2 0.2")
    assert "a.txt:1: class 3 is not in" in examine(tmp_path).text()


def test_lines_of_grounding_are_examined_too(coco):
    line = {
        "filename": "a.png",
        "height": 40,
        "width": 60,
        "grounding": {
            "caption": CAPTION,
            "regions": [{"bbox": [1, 2, 90, 20], "tokens_positive": [[0, 9]]}],
        },
    }
    path = coco.parent / "lines.jsonl"
    path.write_text(json.dumps(line))
    assert "2 pixels beyond their picture: 1" in examine(path, coco.parent).text()


def test_report_is_a_page(coco, coco_content):
    coco_content["categories"] += [{"id": 100 + n, "name": f"thing {n}"} for n in range(500)]
    coco_content["annotations"] += [
        {"id": 50 + n, "image_id": 999, "category_id": 100 + n, "bbox": [1, 1, 5, 5]}
        for n in range(400)
    ]
    coco.write_text(json.dumps(coco_content))
    report = examine(coco)
    assert len(report.text().splitlines()) < 50
    assert "the most frequent class has 2 times the rarest" in report.text()


@pytest.mark.parametrize(
    "name",
    ["general/train.json", "general/val.json", "odinw/bccd/train.json", "odinw/raccoon/val.json"],
)
def test_real_packs_pass(shared_packs, name):
    assert examine(shared_packs / name, quick=True).exit_code == 0


@pytest.mark.parametrize("bbox", [[500, 500, 5, 5], [5, 5, 0, 9]])
def test_boxes_of_no_use_may_be_as_many_as_may_be_left_out(coco_content, coco, bbox):
    own = coco_content["annotations"][0]
    coco_content["annotations"] = [own | {"id": number} for number in range(19)]
    coco_content["annotations"].append(own | {"id": 19, "bbox": bbox})
    coco.write_text(json.dumps(coco_content))
    levels = [
        [f.level for f in examine(coco, quick=True, max_bad=share).findings if "allows" in str(f)]
        for share in (0.05, 0.04)
    ]
    assert levels == [["warning"], ["error"]]
