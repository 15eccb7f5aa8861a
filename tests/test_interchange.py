"""Detections in the forms of other programs, and back."""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from glip.errors import ConfigError
from glip.structures import Detections
from glip.text.prompt import Prompt

NAMES = ["cat", "dog"]
BOXES = [[1.0, 2.0, 11.0, 6.0], [0.0, 0.0, 20.0, 10.0]]


@pytest.fixture
def found() -> Detections:
    return Detections(
        torch.tensor(BOXES),
        torch.tensor([0.75, 0.5]),
        torch.tensor([1, 0]),
        Prompt.from_classes(NAMES),
        (10, 20),
    )


def test_yolo_has_centres_and_sizes_as_shares(found: Detections) -> None:
    assert found.to_yolo() == (
        "1 0.300000 0.400000 0.500000 0.400000\n0 0.500000 0.500000 1.000000 1.000000\n"
    )
    assert found.to_yolo(scores=True).splitlines()[0].endswith(" 0.750000")
    assert found[:0].to_yolo() == ""


def test_voc_counts_pixels_from_one_and_the_last_one_in(found: Detections) -> None:
    root = ElementTree.fromstring(found.to_voc("x.jpg"))
    assert root.findtext("filename") == "x.jpg"
    assert [root.findtext(f"size/{name}") for name in ("width", "height")] == ["20", "10"]
    box = root.find("object/bndbox")
    assert box is not None
    assert [edge.text for edge in box] == ["2", "3", "11", "6"]
    assert [name.text for name in root.iter("name")] == ["dog", "cat"]


def test_labelme_has_two_corners(found: Detections) -> None:
    content = found.to_labelme("x.jpg")
    assert (content["imageHeight"], content["imageWidth"]) == (10, 20)
    [dog, _] = content["shapes"]
    assert (dog["label"], dog["points"]) == ("dog", [[1, 2], [11, 6]])


def test_pandas_has_a_row_a_box(found: Detections) -> None:
    pytest.importorskip("pandas")
    table = found.to_pandas()
    assert list(table.columns) == ["phrase", "score", "x1", "y1", "x2", "y2"]
    assert table.iloc[0].tolist() == ["dog", 0.75, 1, 2, 11, 6]
    assert len(found[:0].to_pandas()) == 0


def same(one: Detections, other: Detections) -> None:
    torch.testing.assert_close(one.boxes, other.boxes)
    torch.testing.assert_close(one.scores, other.scores)
    assert (one.phrases, one.image_hw) == (other.phrases, other.image_hw)


def test_dicts_come_back(found: Detections) -> None:
    same(Detections.from_any(found.to_transformers(), image_hw=(10, 20)), found)
    same(Detections.from_any(found.to_torchvision(), names=NAMES, image_hw=(10, 20)), found)
    nothing = Detections.from_any(found[:0].to_torchvision(), image_hw=(10, 20))
    assert len(nothing) == 0


def test_objects_are_known_by_their_attributes(found: Detections) -> None:
    supervision = SimpleNamespace(
        xyxy=np.array(BOXES), confidence=np.array([0.75, 0.5]), class_id=np.array([1, 0]), data={}
    )
    same(Detections.from_any(supervision, names=NAMES, image_hw=(10, 20)), found)
    supervision.data = {"class_name": np.array(["dog", "cat"])}
    same(Detections.from_any(supervision, image_hw=(10, 20)), found)
    instances = SimpleNamespace(
        pred_boxes=SimpleNamespace(tensor=found.boxes),
        scores=found.scores,
        pred_classes=found.phrase_ids,
        image_size=(10, 20),
    )
    same(Detections.from_any(instances, names=NAMES), found)
    shares = [
        SimpleNamespace(label="dog", bounding_box=[0.05, 0.2, 0.5, 0.4], confidence=0.75),
        SimpleNamespace(label="cat", bounding_box=[0, 0, 1, 1], confidence=0.5),
    ]
    same(Detections.from_any(SimpleNamespace(detections=shares), image_hw=(10, 20)), found)


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (3, {}, "int is not known here"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [1.0], "labels": [2]}, {}, "numbers up to 2"),
        ({"boxes": [], "scores": [], "labels": []}, {}, "say image_hw"),
        (SimpleNamespace(detections=[]), {}, "are shares of the picture"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [1.0]}, {"image_hw": (1, 1)}, "have no labels"),
        (
            {"boxes": [[0, 0, 1, 1]], "scores": [1.0], "text_labels": ["cat"]},
            {"image_hw": (1, 1), "names": ["dog"]},
            "found 'cat', which is not among names",
        ),
    ],
)
def test_what_is_missing_is_asked_for(value: object, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Detections.from_any(value, **options)


@pytest.mark.parametrize("method", ["to_fiftyone", "to_detectron2", "to_supervision"])
def test_a_missing_package_is_named(
    found: Detections, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = method.removeprefix("to_")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf"not installed: pip install {package}"):
        getattr(found, method)()


def test_packages_that_are_there_get_their_own_objects(
    found: Detections, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = __import__("sys").modules
    make = SimpleNamespace
    fiftyone = make(Detections=lambda **kept: make(**kept), Detection=lambda **kept: make(**kept))
    monkeypatch.setitem(modules, "fiftyone", fiftyone)
    same(Detections.from_any(found.to_fiftyone(), image_hw=(10, 20)), found)
    structures = make(
        Instances=lambda size: make(image_size=size), Boxes=lambda tensor: make(tensor=tensor)
    )
    monkeypatch.setitem(modules, "detectron2", make(structures=structures))
    monkeypatch.setitem(modules, "detectron2.structures", structures)
    same(Detections.from_any(found.to_detectron2(), names=NAMES), found)
