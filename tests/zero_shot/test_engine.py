"""Other people's detectors behind the same `Detector`: predict, ground, stream, label, evaluate."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from PIL import Image

import glip
from glip.errors import ConfigError, ExportError, GlipError, ImageError, NotFiniteError, PromptError
from glip.pseudo.teacher import BoxConfig
from glip.pseudo.teachers import load_teacher
from glip.pseudo.views import teach, views
from glip.text.prompt import Prompt
from glip.zero_shot.engine import ZeroShotEngine
from tests.zero_shot.tiny import MAKERS

MakePicture = Callable[..., Image.Image]
FolderOf = Callable[[str], Path]
every_kind = pytest.mark.parametrize("kind", MAKERS)


@every_kind
def test_predict_as_with_any_other_detector(
    kind: str, folder_of: FolderOf, make_picture: MakePicture
) -> None:
    detector = glip.load(folder_of(kind), device="cpu")
    images = [make_picture(90, 60), make_picture(40, 80)]
    both = detector.predict(images, ["cat", "red sofa"], threshold=0.0, batch_size=2)
    for image, found in zip(images, both, strict=True):
        assert set(found.phrases) == {"cat", "red sofa"}
        assert found.image_hw == (image.height, image.width)
        assert (found.boxes[:, 2:] <= np.array(image.size)).all() and (found.boxes >= 0).all()
        [alone] = detector.predict(image, ["cat", "red sofa"], threshold=0.0)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
    assert kind in repr(detector) or detector.config.name in repr(detector)
    assert len(detector.fingerprint) == 16


@every_kind
def test_options_of_predict_hold(kind: str, folder_of: FolderOf, make_picture: MakePicture) -> None:
    detector, image = glip.load(folder_of(kind), device="cpu"), make_picture(90, 60)
    [some] = detector.predict(image, ["cat", "dog"], threshold=0.0, max_detections=3, nms=1.0)
    assert len(some) >= 3 and (some.scores >= some.scores[2]).all()  # equals of the last stay
    [alone] = detector.predict(image, ["cat", "dog"], threshold=0.0, exclusive=True, nms=0.1)
    [each] = detector.predict(image, ["cat", "dog"], threshold=0.0, nms=0.1)
    assert 1 <= len(alone) < len(each)
    [none] = detector.predict(image, ["cat"], threshold=1.0)
    assert len(none) == 0
    [worded] = detector.predict(
        image, ["cat"], threshold=0.0, wordings={"cat": ["kitten"]}, not_=["dog"]
    )
    assert set(worded.phrases) <= {"cat"}


@every_kind
def test_a_caption_is_grounded(kind: str, folder_of: FolderOf, make_picture: MakePicture) -> None:
    detector = glip.load(folder_of(kind), device="cpu")
    phrases = detector.ground(make_picture(90, 60), "a cat and a red dog", threshold=0.0)
    assert [phrase.text for phrase in phrases] == ["a cat", "a red dog"]
    assert all(len(phrase.boxes) for phrase in phrases)


@pytest.mark.parametrize("kind", ["grounding-dino", "owlv2"])
def test_half_precision(kind: str, folder_of: FolderOf, make_picture: MakePicture) -> None:
    if Version(transformers.__version__) < Version("5.dev0") and kind == "grounding-dino":
        pytest.skip("this transformers mixes number formats in Grounding DINO itself")
    exact, image = ZeroShotEngine(folder_of(kind)), make_picture(90, 60)
    rounded = ZeroShotEngine(folder_of(kind), dtype=torch.bfloat16)
    assert next(rounded.model.parameters()).dtype == torch.bfloat16
    for engine in (exact, rounded):
        [found] = glip.Detector(engine).predict(image, ["cat"], threshold=0.0)
        assert found.scores.dtype == np.float32 and len(found)


def test_a_picture_that_is_broken_spoils_no_other(
    folder_of: FolderOf, make_picture: MakePicture, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    detector = glip.load(folder_of("owlv2"), device="cpu")
    first, second = detector.stream([make_picture(), bad], ["cat"])
    assert first.error is None and isinstance(second.error, ImageError)


def test_only_predictions_can_be_had(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = folder_of("grounding-dino")
    detector = glip.load(folder, device="cpu")
    for use in (
        lambda: detector.model,
        lambda: detector.torch_engine,
        lambda: detector.with_prompt(tmp_path / "none.prompt.safetensors"),
    ):
        with pytest.raises((ExportError, glip.GlipError)):
            use()
    with pytest.raises(ExportError, match="only predictions"):
        _ = detector.model


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 2.0}, ConfigError, r"threshold must lie in \[0, 1\]"),
        ({"nms": -1.0}, ConfigError, r"nms must lie in \[0, 1\]"),
        ({"max_detections": 0}, ConfigError, "max_detections must be a whole number"),
        ({"aggregate": "sum"}, ConfigError, "aggregate must be one of"),
        ({"threshold": {"horse": 0.5}}, ConfigError, "a threshold for 'horse'"),
        ({"prompts": []}, PromptError, "empty"),
        ({"prompts": "..."}, PromptError, "no words"),
        ({"prompts": None}, PromptError, "say what to look for"),
    ],
)
def test_bad_input(
    options: dict, error: type[Exception], message: str, folder_of: FolderOf,
    make_picture: MakePicture,
) -> None:  # fmt: skip
    detector = glip.load(folder_of("owlv2"), device="cpu")
    prompts = options.pop("prompts", ["cat"])
    with pytest.raises(error, match=message):
        detector.predict(make_picture(), prompts, **options)


def test_numbers_that_are_none(folder_of: FolderOf, make_picture: MakePicture) -> None:
    engine = ZeroShotEngine(folder_of("owlv2"))
    with torch.no_grad():
        engine.model.box_head.dense0.weight.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="NaN or infinity"):
        glip.Detector(engine).predict(make_picture(), ["cat"])


def test_as_a_teacher(folder_of: FolderOf, make_picture: MakePicture) -> None:
    teacher = load_teacher(str(folder_of("grounding-dino")), device="cpu")
    boxes = BoxConfig(min_score=0.0, nms=1.0, min_size=0, max_boxes_per_phrase=1000, max_boxes=1000)
    prompt = Prompt.from_caption("a cat and a dog on a red sofa")
    long = Prompt.from_caption(". ".join(f"a cat and dog number {n}" for n in range(60)))
    image = make_picture(90, 60)
    [[found, many]] = teach(teacher, [views(teacher, image, [prompt, long], boxes)], boxes)
    assert set(found.phrase_ids.tolist()) == {0, 1, 2}
    assert set(many.phrase_ids.tolist()) == set(range(len(long)))
    identity = teacher.identity()
    assert identity["kind"] == "grounding-dino" and len(identity["sha256"]) == 64
    again = load_teacher(str(folder_of("grounding-dino")), device="cpu")
    assert identity == again.identity()
    with pytest.raises(PromptError, match="takes 64"):
        teacher.check(Prompt.from_classes([" ".join(["cat"] * 70)]))


@pytest.fixture
def photos(tmp_path: Path, make_picture: MakePicture) -> Path:
    """Three photos with a box each, in COCO's format."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images, boxes = [], []
    for number in range(3):
        make_picture(seed=number).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 120, "height": 90})
        box = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 2000}
        boxes.append({**box, "bbox": [10, 10, 50, 40]})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


@pytest.mark.whole
def test_commands_take_them_too(folder_of: FolderOf, photos: Path, tmp_path: Path) -> None:
    weights = folder_of("owlvit")
    labels = glip.label(
        photos, tmp_path / "labels", classes=["cat", "dog"], weights=weights, threshold=0.0
    )
    assert labels is not None and labels.pictures == 3
    again = glip.label(
        photos, tmp_path / "labels", classes=["cat", "dog"], weights=weights, threshold=0.0
    )
    assert again is not None and again.already
    results = glip.evaluate(
        photos / "coco.json", weights=weights, output=tmp_path / "evaluation", device="cpu"
    )
    assert results is not None
    assert set(results["metrics"]) >= {"AP", "AP50"}
    (tmp_path / "captions.txt").write_text("0.png\ta cat and a dog\n1.png\ta red sofa\n")
    grounded = glip.ground_captions(
        [tmp_path / "captions.txt"],
        tmp_path / "grounded",
        images=photos,
        weights=str(weights),
        preset="curated",
        device="cpu",
    )
    assert grounded is not None
    with pytest.raises(GlipError):
        glip.tune(photos / "coco.json", tmp_path / "tuned", weights=str(weights), val="x")


@pytest.mark.whole
def test_a_caption_with_a_word_too_long_for_owl_keeps_its_others(
    folder_of: FolderOf, photos: Path, tmp_path: Path
) -> None:
    unreadable = "a" * 40
    table = photos / "captions.tsv"
    table.write_text(f"0.png\ta cat near the {unreadable}\n1.png\ta {unreadable}\n")
    report = glip.ground_captions(
        [table],
        tmp_path / "out",
        weights=str(folder_of("owlvit")),
        preset="curated",
        device="cpu",
        overrides=["boxes.min_score=0.0", "boxes.min_size=0"],
    )
    assert report is not None
    assert report.entries == {"done": 1, "refused": 1}
    assert report.refused == {"unreadable": 1}


@pytest.mark.whole
def test_served(folder_of: FolderOf, make_picture: MakePicture) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from glip.serve.app import build_app
    from glip.serve.options import ServeOptions

    detector = glip.load(folder_of("grounding-dino"), device="cpu")
    file = io.BytesIO()
    make_picture(90, 60).save(file, "PNG")
    with testclient.TestClient(build_app(detector, {}, ServeOptions())) as client:
        answer = client.post(
            "/v1/detect",
            files={"image": ("a.png", file.getvalue())},
            data={"prompt": "cat. dog.", "threshold": "0.1"},
        )
        model = client.get("/v1/model")
    assert answer.status_code == 200, answer.text
    assert {one["phrase"] for one in answer.json()["detections"]} == {"cat", "dog"}
    assert model.json()["model"] == detector.config.name
