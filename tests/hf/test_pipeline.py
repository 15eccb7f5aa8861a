"""`pipeline("zero-shot-object-detection")`: our boxes, all labels in one pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from glip.errors import PromptError
from glip.hf import GlipZeroShotPipeline
from tests.zero_shot.tiny import owlv2

NAMES = ["cat", "traffic light", "red dog"]
TASK = "zero-shot-object-detection"


@pytest.fixture(scope="module")
def detect(folder: Path) -> Any:
    return pipeline(TASK, model=str(folder), device="cpu")


def test_our_boxes(detect: Any, tiny_detector: Any, make_picture: Any) -> None:
    assert isinstance(detect, GlipZeroShotPipeline)
    image = make_picture()
    [ours] = tiny_detector.predict(image, NAMES)
    found = detect(image, candidate_labels=NAMES)
    assert len(found) == len(ours) > 0
    assert [one["label"] for one in found] == ours.phrases
    np.testing.assert_allclose([one["score"] for one in found], ours.scores, atol=1e-5)
    boxes = [[one["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for one in found]
    np.testing.assert_allclose(boxes, ours.boxes, atol=1.01)
    assert all(isinstance(side, int) for box in boxes for side in box)


def test_one_pass_for_all_labels(
    detect: Any, make_picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    fuse = detect.model.glip.fuse
    monkeypatch.setattr(
        detect.model.glip, "fuse", lambda *given: asked.append(given) or fuse(*given)
    )
    detect(make_picture(), candidate_labels=NAMES)
    assert len(asked) == 1


def test_number_formats(folder: Path, detect: Any, make_picture: Any) -> None:
    rounded = pipeline(TASK, model=str(folder), device="cpu", torch_dtype=torch.bfloat16)
    assert rounded.engine.dtype == torch.bfloat16
    best = rounded(make_picture(), candidate_labels=NAMES)[0]
    exact = detect(make_picture(), candidate_labels=NAMES)[0]
    assert best["score"] == pytest.approx(exact["score"], abs=0.05)


def test_options(detect: Any, make_picture: Any) -> None:
    image = make_picture()
    everything = detect(image, candidate_labels=NAMES, threshold=0.0)
    assert detect(image, candidate_labels=NAMES, threshold=0.0, top_k=2) == everything[:2]
    some = detect(image, candidate_labels=NAMES, threshold=0.4)
    assert some == [one for one in everything if one["score"] > 0.4]
    assert detect(image, candidate_labels="cat, traffic light, red dog", threshold=0.4) == some
    assert detect(image, candidate_labels=NAMES, threshold=1.0) == []


def test_a_list_of_pictures_shares_its_labels(
    detect: Any, make_picture: Any, tmp_path: Path
) -> None:
    image = make_picture()
    image.save(tmp_path / "a.png")
    one = detect(image, candidate_labels=NAMES)
    two = detect([image, str(tmp_path / "a.png")], candidate_labels=NAMES)
    assert two == [one, one]
    own = detect([image, image.convert("RGBA")], candidate_labels=[NAMES, NAMES[:1]])
    assert own[0] == one and {found["label"] for found in own[1]} == {"cat"}
    assert detect([], candidate_labels=NAMES) == []


ODD: list[tuple[Any, Any, str]] = [
    (0, None, "say what to look for: candidate_labels="),
    (1, None, "say what to look for: candidate_labels="),
    (2, [["cat"]], "1 lists of candidate_labels for 2 pictures"),
    (2, [["cat"], []], "the list of class names is empty"),
    (0, [], "the list of class names is empty"),
    (0, [""], "class name 0 is empty"),
    (0, [3], "class name 0 must be a string, got 3"),
]


@pytest.mark.parametrize(("count", "labels", "message"), ODD)
def test_labels_that_cannot_be(
    detect: Any, make_picture: Any, count: int, labels: Any, message: str
) -> None:
    images = [make_picture()] * count if count else make_picture()
    with pytest.raises(PromptError, match=message):
        detect(images, candidate_labels=labels)
    mixed = [{"image": make_picture(), "candidate_labels": NAMES}, make_picture()]
    with pytest.raises(PromptError, match="labels in a dict each, or none"):
        detect(mixed)


def test_several_pictures(detect: Any, make_picture: Any) -> None:
    images = [make_picture(), make_picture(60, 100), make_picture(seed=2)]
    rows = [{"image": image, "candidate_labels": NAMES} for image in images]
    one_by_one = [detect(image, candidate_labels=NAMES) for image in images]
    for batch_size in (1, 2):
        found = detect(rows, batch_size=batch_size)
        for expected, got in zip(one_by_one, found, strict=True):
            assert [one["label"] for one in got] == [one["label"] for one in expected]
            np.testing.assert_allclose(
                [one["score"] for one in got], [one["score"] for one in expected], atol=1e-4
            )


def test_long_vocabularies(detect: Any, tiny_detector: Any, make_picture: Any) -> None:
    names = [f"thing number {number}" for number in range(150)]
    found = detect(make_picture(), candidate_labels=names)
    [ours] = tiny_detector.predict(make_picture(), names)
    assert [one["label"] for one in found] == ours.phrases


def test_files(detect: Any, make_picture: Any, tmp_path: Path) -> None:
    make_picture().save(tmp_path / "a.png")
    found = detect(str(tmp_path / "a.png"), candidate_labels=NAMES)
    assert found == detect(make_picture(), candidate_labels=NAMES)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([], PromptError, "empty"),
        ("", PromptError, "empty"),
        (["..."], PromptError, "punctuation"),
        ([" ".join(["cat"] * 300)], PromptError, "the text encoder takes 256"),
    ],
)
def test_bad_labels(
    labels: Any, error: type[Exception], message: str, detect: Any, make_picture: Any
) -> None:
    with pytest.raises(error, match=message):
        detect(make_picture(), candidate_labels=labels)


def test_other_models_keep_their_pipeline(make_picture: Callable[..., Any], tmp_path: Path) -> None:
    owlv2(tmp_path)
    detect = pipeline(TASK, model=str(tmp_path), device="cpu")
    found = detect(make_picture(), candidate_labels=["cat", "dog"], threshold=0.1)
    assert {one["label"] for one in found} <= {"cat", "dog"} and found
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True)
