"""Detections: checked on construction, filtered by indexing, written in the formats of others."""

import dataclasses
import io
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glip.errors import ConfigError, ImageError
from glip.structures import Detections
from glip.text.prompt import Prompt

PROMPT = Prompt(
    text="a cat on a mat, a dog",
    phrases=(((2, 5),), ((0, 5), (11, 14)), ((18, 21),)),
    names=("cat", "cat on mat", "dog"),
)


@pytest.fixture
def found() -> Detections:
    """Three detections in a picture 20 wide and 10 high."""
    return Detections(
        boxes=np.array([[0, 0, 5, 5], [1, 2, 4, 8], [10, 0, 19, 9]], np.float32),
        scores=np.array([0.5, 0.75, 0.25], np.float32),
        phrase_ids=np.array([2, 0, 1]),
        prompt=PROMPT,
        image_hw=(10, 20),
    )


def rows(found: Detections) -> list[float]:
    """The detections by the one value that tells them apart."""
    assert len(found) == len(found.boxes) == len(found.scores) == len(found.phrase_ids)
    return found.scores.tolist()


def test_phrases_and_spans_are_the_users_own(found: Detections) -> None:
    assert found.phrases == ["dog", "cat", "cat on mat"]
    assert found.spans == [((18, 21),), ((2, 5),), ((0, 5), (11, 14))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(3, 5)}, "boxes must be a float32 array of shape (3, 4)"),
        ({"boxes": torch.zeros(12)}, "boxes must be a float32 array of shape (12, 4)"),
        ({"boxes": torch.tensor(1.0)}, "got shape ()"),
        ({"boxes": [[0, 0, 1, 1]]}, "got list"),
        ({"boxes": torch.zeros(3, 4).double()}, "got float64; convert it with .astype"),
        ({"boxes": torch.full((3, 4), float("nan"))}, "boxes must be finite, row 0 is [nan"),
        (
            {"scores": torch.zeros(2)},
            "scores must be a float32 array of shape (3,), got shape (2,)",
        ),
        ({"scores": torch.tensor([0.1, float("inf"), 0])}, "scores must be finite, row 1 is inf"),
        ({"phrase_ids": torch.zeros(3)}, "phrase_ids must be a int64 array"),
        (
            {"phrase_ids": torch.tensor([0, 3, 1])},
            "phrase_ids[1] is 3, but the prompt has 3 phrases",
        ),
        ({"phrase_ids": torch.tensor([0, 1, -1])}, "phrase_ids[2] is -1"),
        ({"image_hw": (0, 20)}, "image_hw must be (height, width) in pixels, got (0, 20)"),
        ({"image_hw": (3, 10, 20)}, "image_hw must be"),
        ({"image_hw": (10.5, 20)}, "image_hw must be"),
        ({"image_hw": None}, "image_hw must be"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    found: Detections, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(found, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [np.int64, np.array, torch.tensor])
def test_sides_that_numpy_or_torch_counted_are_written(
    found: Detections, kind: Callable[[int], Any]
) -> None:
    own = dataclasses.replace(found, image_hw=(kind(10), kind(20)))
    assert own.to_json() == found.to_json() and own.to_labelme() == found.to_labelme()
    assert list(map(type, own.image_hw)) == [int, int]
    assert json.dumps(own.to_coco(kind(7))) == json.dumps(found.to_coco(7))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0.5]),
        (-1, [0.25]),
        (np.int64(1), [0.75]),
        (torch.tensor(1), [0.75]),
        (slice(1, None), [0.75, 0.25]),
        (slice(None, None, -1), [0.25, 0.75, 0.5]),
        ([2, 0, 2], [0.25, 0.5, 0.25]),
        ((1, -3), [0.75, 0.5]),
        (torch.tensor([2, -2]), [0.25, 0.75]),
        (torch.tensor([1], dtype=torch.uint8), [0.75]),
        (np.array([0, 1])[::-1], [0.75, 0.5]),
        ([True, False, True], [0.5, 0.25]),
        (torch.tensor([False, True, False]), [0.75]),
        (np.array([False, False, False]), []),
        ([], []),
        (torch.zeros(0, dtype=torch.int64), []),
    ],
)
def test_indexing_selects(found: Detections, index: object, expected: list[float]) -> None:
    assert rows(found[index]) == expected
    assert (found[index].prompt, found[index].image_hw) == (PROMPT, (10, 20))


def test_filters_read_as_they_are_said(found: Detections) -> None:
    assert rows(found[found.scores > 0.4]) == [0.5, 0.75]
    assert found[found.phrase_ids == 0].phrases == ["cat"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, "row 3 does not exist among 3 detections"),
        (-4, "row -4 does not exist"),
        ([0, 7], "row 7 does not exist"),
        ([True, False], "mask of shape (2,) cannot select among 3"),
        (torch.ones(4, dtype=torch.bool), "mask of shape (4,)"),
        (True, "mask of shape ()"),
        (torch.tensor([0.5, 0.7, 0.1]), "a row, a list of rows, a slice or a mask, got float64"),
        (None, "got object"),
        ([[0, 1]], "of shape (1, 2)"),
    ],
)
def test_an_index_that_selects_nothing_sensible_is_refused(
    found: Detections, index: object, message: str
) -> None:
    with pytest.raises(IndexError) as caught:
        found[index]
    assert message in str(caught.value)


def test_detections_run_one_by_one(found: Detections) -> None:
    assert [(one.phrases, rows(one)) for one in found] == [
        (["dog"], [0.5]),
        (["cat"], [0.75]),
        (["cat on mat"], [0.25]),
    ]


@pytest.mark.parametrize(("k", "expected"), [(0, []), (2, [0.75, 0.5]), (9, [0.75, 0.5, 0.25])])
def test_top_gives_the_best_first(found: Detections, k: int, expected: list[float]) -> None:
    assert rows(found.top(k)) == expected


def test_top_keeps_the_order_of_equal_scores(found: Detections) -> None:
    equal = dataclasses.replace(found, scores=np.full(3, 0.5, np.float32))
    assert equal.top(3).phrases == found.phrases


def test_a_negative_top_is_refused(found: Detections) -> None:
    with pytest.raises(ConfigError, match="got -1"):
        found.top(-1)


def test_nothing_found_is_a_value_like_any_other() -> None:
    nothing = Detections.empty(PROMPT, (10, 20))
    assert rows(nothing) == nothing.phrases == nothing.spans == nothing.to_coco(1) == []
    assert nothing.to_dict()["detections"] == []
    assert list(nothing) == []
    assert len(nothing[nothing.scores > 0.5]) == 0
    assert repr(nothing) == "<Detections: 0 in 20x10 pixels>"


def test_tensors_become_arrays(found: Detections) -> None:
    tensors = Detections(
        torch.from_numpy(found.boxes),  # type: ignore[arg-type]
        torch.from_numpy(found.scores).requires_grad_(),  # type: ignore[arg-type]
        torch.from_numpy(found.phrase_ids),  # type: ignore[arg-type]
        found.prompt,
        found.image_hw,
    )
    assert isinstance(tensors.scores, np.ndarray)
    assert rows(tensors) == rows(found)


def test_repr_is_short_and_says_what_was_found(found: Detections) -> None:
    assert repr(found) == "<Detections: 3 in 20x10 pixels: dog 0.50, cat 0.75, cat on mat 0.25>"
    assert repr(found[[0] * 7]).endswith("dog 0.50, and 2 more>")


def test_detections_cannot_be_changed_unchecked(found: Detections) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.boxes = torch.zeros(9)


def test_to_dict_is_json(found: Detections) -> None:
    assert json.loads(json.dumps(found[1:].to_dict())) == {
        "width": 20,
        "height": 10,
        "prompt": "a cat on a mat, a dog",
        "detections": [
            {
                "box": [1.0, 2.0, 4.0, 8.0],
                "score": 0.75,
                "phrase": "cat",
                "span": [2, 5],
            },
            {
                "box": [10.0, 0.0, 19.0, 9.0],
                "score": 0.25,
                "phrase": "cat on mat",
                "span": [0, 5],
                "spans": [[0, 5], [11, 14]],
            },
        ],
    }


def test_to_coco_has_widths_and_ids_from_one(found: Detections) -> None:
    assert found.to_coco(139)[1] == {
        "image_id": 139,
        "category_id": 1,
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "score": 0.75,
    }


def test_to_coco_takes_the_ids_of_the_annotation_file(found: Detections) -> None:
    results = found.to_coco("a.jpg", category_ids=[17, 90, 18])
    assert [result["category_id"] for result in results] == [18, 17, 90]
    assert results[1]["bbox"] == [1.0, 2.0, 3.0, 6.0]
    json.dumps(found.to_coco(1, category_ids=np.array([17, 90, 18])))


def test_to_coco_wants_one_id_for_each_phrase(found: Detections) -> None:
    with pytest.raises(ConfigError, match="category_ids has 2 ids, the prompt 3 phrases"):
        found.to_coco(1, category_ids=[1, 2])


def test_to_supervision_says_what_to_install(
    found: Detections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match="pip install supervision"):
        found.to_supervision()


def test_to_supervision_hands_over_arrays(
    found: Detections, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("supervision")
    stand_in.Detections = dict
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    theirs = found.to_supervision()
    assert theirs["xyxy"].shape == (3, 4)
    assert theirs["class_id"].tolist() == [2, 0, 1]
    assert theirs["confidence"].dtype == np.float32
    assert theirs["data"]["class_name"].tolist() == ["dog", "cat", "cat on mat"]


@pytest.mark.clients
def test_to_supervision_is_understood_by_the_real_package(found: Detections) -> None:
    supervision = pytest.importorskip("supervision")
    for detections in (found, found[:0]):
        theirs = detections.to_supervision()
        assert isinstance(theirs, supervision.Detections)
        assert theirs["class_name"].tolist() == detections.phrases


def test_plot_gives_a_new_picture(found: Detections) -> None:
    picture = Image.new("RGB", (20, 10))
    drawn = found.plot(picture, labels=False)
    assert drawn.size == (20, 10)
    assert drawn.getcolors() != picture.getcolors()
    assert picture.getextrema() == ((0, 0),) * 3


def test_save_writes_the_plot(found: Detections, tmp_path: Path) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    path = found.save(tmp_path / "new" / "x.png", picture, line_width=2)
    assert np.array_equal(
        np.asarray(Image.open(path)), np.asarray(found.plot(picture, line_width=2))
    )


def test_save_refuses_an_unknown_suffix(found: Detections, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"suffix '.xyz'"):
        found.save(tmp_path / "x.xyz", np.zeros((10, 20, 3), np.uint8))


# --- what they are of, and what is made of them ---------------------------------------------------


def test_a_name_selects_its_detections(found: Detections) -> None:
    assert found["cat"].phrases == ["cat"] and found["CAT on_mat"].phrases == ["cat on mat"]
    with pytest.raises(KeyError, match="'bird' was not looked for, but cat"):
        found["bird"]


def test_counts_name_everything_that_was_looked_for(found: Detections) -> None:
    assert found.counts() == {"cat": 1, "cat on mat": 1, "dog": 1}
    assert found[:0].counts() == {"cat": 0, "cat on mat": 0, "dog": 0}


def test_filter_keeps_what_fits_all_conditions(found: Detections) -> None:
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in found.boxes.tolist()]
    assert found.filter(min_score=0.5).phrases == ["dog", "cat"]
    assert len(found.filter(min_area=max(areas))) == 1
    assert len(found.filter(max_area=min(areas))) == 1
    assert found.filter(names=["dog", "cat"], min_score=0.6).phrases == ["cat"]
    assert len(found.filter(names=[])) == 0
    assert found.filter(names="cat").phrases == found.filter(names=["cat"]).phrases

    bads: list[tuple[str, Any]] = [("min_score", "0.5"), ("min_area", None), ("max_area", "large")]
    for name, bad in bads:
        with pytest.raises(ConfigError, match=f"{name} must be at least 0, got"):
            found.filter(**{name: bad})


def test_a_dict_comes_back(found: Detections) -> None:
    back = Detections.from_dict(json.loads(found.to_json()))
    assert back.to_dict() == found.to_dict()
    nothing = Detections.from_dict(found[:0].to_dict())
    assert len(nothing) == 0 and nothing.image_hw == found.image_hw
    for content in ({}, {**found.to_dict(), "detections": [{"box": [0, 0, 1, 1]}]}):
        with pytest.raises(ConfigError, match="this is not what to_dict writes"):
            Detections.from_dict(content)


def test_the_picture_is_remembered_as_long_as_somebody_keeps_it(
    found: Detections, tmp_path: Path
) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    seen = found.remember(picture)
    assert seen.plot(labels=False) == found.plot(picture, labels=False)
    assert seen[:1].image().size == (20, 10)
    assert b"PNG" in seen._repr_png_() and "<img" in seen._repr_html_()
    del picture
    with pytest.raises(ImageError, match="not remembered, or was let go; pass it"):
        seen.plot()
    assert seen._repr_png_() is None and "<table>" in seen._repr_html_()
    Image.new("RGB", (20, 10)).save(tmp_path / "x.png")
    path = found.remember(tmp_path / "x.png").save(tmp_path / "out.png")
    assert Image.open(path).size == (20, 10)
    assert "<filename>x.png</filename>" in found.remember(tmp_path / "x.png").to_voc()


def test_other_processes_get_the_path_of_a_picture_but_no_object(found: Detections) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    for source, kept in ((picture, None), ("x.png", "x.png")):
        again = pickle.loads(pickle.dumps(found.remember(source)))
        assert again.source == kept and again.to_dict() == found.to_dict()


def test_an_open_file_is_not_remembered(found: Detections) -> None:
    file = io.BytesIO()
    with pytest.raises(ImageError, match="not remembered"):
        found.remember(file).plot()


def test_crops_lie_inside_the_picture(found: Detections) -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    for (x1, y1, x2, y2), crop in zip(found.boxes.tolist(), found.crop(picture), strict=True):
        assert abs(crop.width - (x2 - x1)) <= 2 and abs(crop.height - (y2 - y1)) <= 2
    assert {crop.size for crop in found.crop(picture, margin=99)} == {(20, 10)}


def test_html_shows_no_markup_of_phrases(found: Detections) -> None:
    prompt = Prompt.from_classes(["<b>cat"])
    rows = torch.zeros(len(found), dtype=torch.int64)
    one = Detections(found.boxes, found.scores, rows, prompt, found.image_hw)
    assert "&lt;b&gt;cat" in one._repr_html_() and "<b>" not in one._repr_html_()


def test_tracks_go_with_their_boxes(found: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked = dataclasses.replace(found, track_ids=np.array([5, 2, 9], np.int64))
    ids = tracked[[2, 0]].track_ids
    assert found.track_ids is None and ids is not None and ids.tolist() == [9, 5]
    again = Detections.from_dict(tracked.to_dict())
    assert again.track_ids is not None and again.track_ids.tolist() == [5, 2, 9]
    stand_in = ModuleType("supervision")
    stand_in.Detections = dict
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    assert tracked.to_supervision()["tracker_id"].tolist() == [5, 2, 9]
    with pytest.raises(ConfigError, match=r"track_ids must be a int64 array of shape \(3,\)"):
        dataclasses.replace(found, track_ids=np.array([5, 2], np.int64))
