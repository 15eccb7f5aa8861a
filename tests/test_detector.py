"""From users' pictures to boxes in their pixels, on a model of random weights."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import glip
from glip.boxes import iou_matrix, to_last_pixels
from glip.checkpoint import Weights
from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.engine import Engine
from glip.errors import CheckpointError, ConfigError, DeviceError, ImageError, PromptError
from glip.jobs.batches import USUAL, Pace
from glip.model.glip import GLIP
from glip.progress import Step
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.video.reading import FrameAt
from glip.video.writing import whole_film

NAMES = ["cat", "red car", "traffic light"]
SIZES = [(120, 90), (90, 120), (121, 90), (64, 64), (300, 100), (120, 90)]


def overlap(boxes: npt.NDArray[Any], others: npt.NDArray[Any]) -> torch.Tensor:
    return iou_matrix(torch.from_numpy(boxes), torch.from_numpy(others))


def assert_same(left: Detections, right: Detections, tolerance: float = 1e-4) -> None:
    """The same up to rounding, which may swap neighbours of almost equal score."""
    assert left.image_hw == right.image_hw
    assert left.prompt == right.prompt
    assert len(left) == len(right)
    torch.testing.assert_close(left.scores, right.scores, atol=tolerance, rtol=0)
    rows, others = (
        np.column_stack([one.boxes / 100, one.scores, one.phrase_ids]) for one in (left, right)
    )
    distances = np.abs(rows[:, None] - others[None]).max(-1)
    assert distances.min(1).max() < tolerance


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7])
def test_list_equals_its_pictures_one_by_one(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], batch_size: int
) -> None:
    pictures = [make_picture(*size, seed) for seed, size in enumerate(SIZES)]
    together = tiny_detector.predict(pictures, NAMES, batch_size=batch_size)
    for picture, found in zip(pictures, together, strict=True):
        [alone] = tiny_detector.predict(picture, NAMES)
        assert len(alone) > 20
        assert_same(found, alone)


def test_each_picture_may_have_its_own_prompt(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    pictures = [make_picture(seed=seed) for seed in range(5)]
    many = [f"thing number {number}" for number in range(120)]
    prompts = ["a cat on a mat", ["dog"], Prompt.of("bird. plane."), many, many]
    together = tiny_detector.predict(pictures, prompts, batch_size=3)
    for picture, prompt, found in zip(pictures, prompts, together, strict=True):
        [alone] = tiny_detector.predict(picture, prompt)
        assert_same(found, alone)


def test_prompt_longer_than_the_encoder_equals_its_passes(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    names = [f"object {number}" for number in range(1000)]
    picture = make_picture()
    options = {"threshold": 0.5, "max_detections": 10_000}
    [found] = tiny_detector.predict(picture, names, **options)
    prompt = Prompt.of(names)
    passes = prompt.passes(tiny_detector.tokenizer, tiny_detector.config.text.max_tokens)
    assert len(passes) > 10
    for part in (passes[0], passes[-1]):
        [alone] = tiny_detector.predict(picture, [names[row] for row in part.rows], **options)
        rows = np.isin(found.phrase_ids, part.rows)
        assert len(alone) == rows.sum() > 0
        assert found[rows].phrases == alone.phrases
        torch.testing.assert_close(found[rows].scores, alone.scores)
        torch.testing.assert_close(found[rows].boxes, alone.boxes)


def test_limit_counts_over_all_passes_of_a_long_prompt(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    names = [f"object {number}" for number in range(300)]
    [all_of_them] = tiny_detector.predict(make_picture(), names, max_detections=10_000)
    [found] = tiny_detector.predict(make_picture(), names, max_detections=30)
    assert len(found) == 30
    torch.testing.assert_close(found.scores, all_of_them.scores[:30])


def test_detections_come_best_first_and_above_the_threshold(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    [everything] = tiny_detector.predict(make_picture(), NAMES, threshold=0, max_detections=10_000)
    assert (np.diff(everything.scores) <= 0).all()
    threshold = everything.scores[len(everything) // 2].item()
    [found] = tiny_detector.predict(
        make_picture(), NAMES, threshold=threshold, max_detections=10_000
    )
    assert len(found) == (everything.scores > threshold).sum() < len(everything)
    assert tiny_detector.predict(make_picture(), NAMES, threshold=1)[0].boxes.shape == (0, 4)


def test_boxes_of_one_phrase_overlap_no_more_than_nms_allows(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    counts = []
    for nms in (0.2, 0.6, 1.0):
        [found] = tiny_detector.predict(make_picture(), NAMES, nms=nms, max_detections=10_000)
        counts.append(len(found))
        for row in range(len(NAMES)):
            boxes = found[found.phrase_ids == row].boxes
            overlaps = overlap(boxes, boxes).fill_diagonal_(0)
            assert overlaps.max() <= nms + 0.02  # suppression counts pixels in, at another size
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("names", [NAMES, [f"object {number}" for number in range(300)]])
def test_exclusive_boxes_have_one_phrase_each(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], names: list[str]
) -> None:
    options = {"threshold": 0.5, "nms": 0.5}
    picture = make_picture()
    [every] = tiny_detector.predict(picture, names, max_detections=100_000, **options)
    [found] = tiny_detector.predict(picture, names, exclusive=True, max_detections=10, **options)
    overlaps = overlap(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlaps.max() <= 0.5 + 0.02
    assert len(found) == 10 < len(every)
    assert found.scores[0] == every.scores[0]  # the best of all is never beaten
    # What is gone has given way to something better at its place, of any phrase.
    [rest] = tiny_detector.predict(
        picture, names, exclusive=True, max_detections=100_000, **options
    )
    nearest = overlap(every.boxes, rest.boxes)
    assert (nearest.max(1).values > 0.5 - 0.02).all()


def test_at_most_max_detections(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    [five] = tiny_detector.predict(make_picture(), NAMES, max_detections=5)
    [ten] = tiny_detector.predict(make_picture(), NAMES, max_detections=10)
    assert (len(five), len(ten)) == (5, 10)
    torch.testing.assert_close(five.boxes, ten[:5].boxes)


def test_aggregate_changes_scores_of_phrases_of_several_tokens_only(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    def scores(row: int, aggregate: str) -> torch.Tensor:
        [found] = tiny_detector.predict(
            make_picture(), NAMES, threshold=0, aggregate=aggregate, max_detections=10_000
        )
        return found[found.phrase_ids == row].scores

    torch.testing.assert_close(scores(0, "mean"), scores(0, "max"))
    torch.testing.assert_close(scores(0, "mean"), scores(0, "first"))
    assert scores(1, "max").max() > scores(1, "mean").max()


@pytest.mark.parametrize("size", [(97, 61), (61, 97), (333, 77), (1000, 750), (7, 5)])
def test_boxes_lie_within_the_original_picture(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], size: tuple[int, int]
) -> None:
    [found] = tiny_detector.predict(make_picture(*size), NAMES)
    assert len(found) > 5
    assert found.image_hw == (size[1], size[0])
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 0::2] <= size[0]).all() and (found.boxes[:, 1::2] <= size[1]).all()
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()


def test_boxes_scale_with_the_picture_in_each_direction(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    """A picture of the model's own size, and the same one as four and three times as large."""
    small = make_picture(128, 96)
    large = small.resize((512, 384), Image.Resampling.NEAREST)
    resized = large.resize((128, 96), Image.Resampling.BILINEAR)
    [on_small] = tiny_detector.predict(resized, NAMES)
    [on_large] = tiny_detector.predict(large, NAMES)
    # official: coordinates of pixels are scaled, not edges.
    scaled = to_last_pixels(torch.from_numpy(on_small.boxes)) * 4
    torch.testing.assert_close(to_last_pixels(torch.from_numpy(on_large.boxes)), scaled)
    torch.testing.assert_close(on_large.scores, on_small.scores)


def test_boxes_of_a_turned_photo_are_in_its_upright_pixels(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    upright = make_picture(90, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    turned = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    [expected] = tiny_detector.predict(upright, NAMES)
    [found] = tiny_detector.predict(turned, NAMES)
    assert found.image_hw == (60, 90)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_all_forms_of_one_picture_give_the_same(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    picture = make_picture()
    picture.save(tmp_path / "picture.png")
    array = np.asarray(picture)
    forms: list[Any] = [
        picture,
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array.copy()).permute(2, 0, 1) / 255,
        tmp_path / "picture.png",
        str(tmp_path / "picture.png"),
        tmp_path,
    ]
    first, *others = tiny_detector.predict(forms, NAMES)
    for other in others:
        torch.testing.assert_close(other.boxes, first.boxes)
        torch.testing.assert_close(other.scores, first.scores)


@pytest.mark.parametrize("size", [(1, 1), (30_000, 200), (200, 30_000), (5_000, 1)])
def test_pictures_of_extreme_shape_work(tiny_detector: Detector, size: tuple[int, int]) -> None:
    [found] = tiny_detector.predict(Image.new("RGB", size, "red"), NAMES)
    assert found.image_hw == (size[1], size[0])
    assert (found.boxes[:, 2] <= size[0]).all() and (found.boxes[:, 3] <= size[1]).all()


def test_phrases_and_spans_are_the_users_own(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    text = "  A Red CAR , and a small\tdog."
    prompt = Prompt.from_caption(text, ["Red CAR", "small\tdog"])
    [found] = tiny_detector.predict(make_picture(), prompt)
    assert found.prompt.text == text
    assert set(found.phrases) == {"Red CAR", "small\tdog"}
    assert {text[a:b] for spans in found.spans for a, b in spans} == {"Red CAR", "small\tdog"}


def test_repeated_class_names_are_found_once_and_as_data_has_them_under_each_row(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    names = ["cat", "cat_(animal)", "cat"]
    [found] = tiny_detector.predict(make_picture(), names)
    assert found.prompt.names == ("cat", "cat_(animal)")
    [found] = tiny_detector.predict(make_picture(), Prompt.from_classes(names))
    assert set(found.phrase_ids.tolist()) == {0, 1, 2}
    assert set(found.phrases) == {"cat", "cat_(animal)"}


def test_no_pictures_give_no_results(tiny_detector: Detector) -> None:
    assert tiny_detector.predict([], NAMES) == []


def test_second_look_at_a_text_needs_no_text_encoder(
    make_tiny_model: Callable[[], GLIP],
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = Detector(Engine(make_tiny_model(), tiny_detector.config, Tokenizer.bert_uncased()))
    [first] = detector.predict(make_picture(), NAMES)
    monkeypatch.setattr(detector.model, "encode_text", None)
    [second] = detector.predict(make_picture(), NAMES)
    torch.testing.assert_close(first.scores, second.scores)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.06), ("float16", 0.03)])
def test_half_precision_is_near_float32(
    tiny_weights: Weights,
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    dtype: Any,
    tolerance: float,
) -> None:
    half = Detector.from_weights(tiny_weights, dtype=dtype)
    assert half.model.head.stages[0].block.offset.weight.dtype == getattr(torch, dtype)
    assert half.model.head.outputs.project.weight.dtype == torch.float32
    [exact] = tiny_detector.predict(make_picture(), NAMES)
    [found] = half.predict(make_picture(), NAMES)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    torch.testing.assert_close(found.scores[:20], exact.scores[:20], atol=tolerance, rtol=0)


def test_stream_goes_on_after_a_picture_that_cannot_be_used(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    pictures = [make_picture(), tmp_path / "missing.png", make_picture(60, 80)]
    outcomes = list(tiny_detector.stream(pictures, NAMES, batch_size=2))
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert outcomes[1].detections is None and "does not exist" in str(outcomes[1].error)
    assert outcomes[2].detections is not None and outcomes[2].error is None


@pytest.fixture
def film(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """Five different frames, a tenth of a second each."""
    pytest.importorskip("av")
    with whole_film(tmp_path / "clip.mp4", rate=Fraction(10)) as add:
        for number in range(5):
            add(make_picture(seed=number), number / 10)
    return tmp_path / "clip.mp4"


def test_a_film_stands_for_its_frames(
    tiny_detector: Detector, film: Path, make_picture: Callable[..., Image.Image]
) -> None:
    sources = [make_picture(seed=9), film, make_picture(seed=8)]
    prompts = [Prompt.of("cat"), Prompt.of("red car"), Prompt.of("dog")]
    options = PostprocessOptions(score=0.1)
    outcomes = list(tiny_detector.stream(sources, prompts, options=options, every=2, batch_size=2))
    assert [outcome.index for outcome in outcomes] == [0, 1, 1, 1, 2]
    places = [one.source for one in outcomes if isinstance(one.source, FrameAt)]
    assert [(at.number, round(at.seconds, 2)) for at in places] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    found = tiny_detector.predict(film, ["red car"], threshold=0.1)
    assert len(found) == 5
    for one, number in zip(found, range(5), strict=True):
        assert one.source.number == number and set(one.phrases) == {"red car"}
        [again] = tiny_detector.predict(one.image(), ["red car"], threshold=0.1)
        assert_same(one, again)
    kept = outcomes[2].detections
    assert kept is not None
    assert_same(kept, found[2])
    assert len(kept.plot().getcolors(99999) or [0]) > 1 and kept.to_coco(1)
    assert kept.to_labelme()["imagePath"] == "000000002.jpg"
    film.unlink()
    assert kept._repr_png_() is None


def test_progress_is_told_and_shown(
    tiny_detector: Detector,
    film: Path,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps: list[Step] = []
    pictures = [make_picture(), make_picture(seed=2)]
    tiny_detector.predict(pictures, "cat", progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(0, 2), (1, 2), (2, 2)]
    assert capsys.readouterr().err == ""
    steps.clear()
    tiny_detector.predict(film, ["cat"], every=2, not_=["dog"], progress=steps.append)
    assert [(step.done, step.total) for step in steps][-1] == (3, None)
    tiny_detector.predict(pictures, "cat", progress=True)
    assert "pictures:" in capsys.readouterr().err


def test_other_words_for_the_things_in_a_film(tiny_detector: Detector, film: Path) -> None:
    plain = tiny_detector.predict(film, ["cat"], wordings={"cat": ["dog"]}, every=3)
    assert [one.source.number for one in plain] == [0, 3]
    assert {name for one in plain for name in one.phrases} == {"cat"}


def test_films_that_cannot_be_used(
    tiny_detector: Detector,
    film: Path,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = film.read_bytes()
    place = len(content) * 3 // 4
    film.write_bytes(content[:place] + b"\xff" * (len(content) - place))
    *frames, broken, picture = tiny_detector.stream([film, make_picture()], "cat")
    assert frames and all(one.detections is not None for one in frames)
    assert broken.index == 0 and "cannot be decoded after" in str(broken.error)
    assert picture.index == 1 and picture.detections is not None
    with pytest.raises(ImageError, match="cannot be decoded after"):
        tiny_detector.predict(film, "cat")
    with pytest.raises(ConfigError, match="every must"):
        tiny_detector.predict(film, "cat", every=0)
    with pytest.raises(ImageError, match="is a film by its content"):
        tiny_detector.predict(content, "cat")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs PyAV: pip install 'glip\[video\]'"):
        tiny_detector.predict(film, "cat")


def test_no_name_is_the_packaged_model_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "glip.json").write_text("{}")  # as of an exported model
    monkeypatch.chdir(tmp_path)
    assert glip.load(device="cpu").config.name == "glip_nano"


# What users get wrong: pictures, prompts, options, devices.


def _truncated(path: Path, picture: Image.Image) -> None:
    picture.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


BAD_FILES: list[tuple[str, Callable[[Path, Image.Image], object], str]] = [
    ("missing.jpg", lambda path, picture: None, "does not exist"),
    ("empty.jpg", lambda path, picture: path.touch(), "is empty"),
    ("cut.jpg", _truncated, "damaged or incomplete"),
    ("cut.png", _truncated, "damaged or incomplete"),
    ("text.jpg", lambda path, picture: path.write_text("no picture"), "not a picture"),
    ("folder", lambda path, picture: path.mkdir(), "holds no picture"),
    ("page.html", lambda path, picture: path.write_text("<html></html>"), "not a picture"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_unusable_file_is_named(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    tmp_path: Path,
    name: str,
    make: Callable[[Path, Image.Image], object],
    message: str,
) -> None:
    make(tmp_path / name, make_picture())
    with pytest.raises(ImageError, match=message) as caught:
        tiny_detector.predict(tmp_path / name, NAMES)
    assert name in str(caught.value)


def test_decompression_bomb_is_refused_with_the_way_to_raise_the_limit(
    tiny_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (4000, 4000)).save(path)
    monkeypatch.setenv("GLIP_MAX_PIXELS", "1000000")
    with pytest.raises(ImageError, match=r"bomb\.png .*1,000,000.*GLIP_MAX_PIXELS"):
        tiny_detector.predict(path, NAMES)
    monkeypatch.setenv("GLIP_MAX_PIXELS", "20000000")
    assert len(tiny_detector.predict(path, NAMES)) == 1


BAD_INPUTS: list[tuple[str, Any, Any, dict[str, Any], type[glip.GlipError], str]] = [
    ("nan", np.full((9, 9, 3), np.nan, np.float32), "cat", {}, ImageError, "NaN"),
    ("inf", torch.full((3, 9, 9), torch.inf), "cat", {}, ImageError, "NaN or infinite"),
    ("0..255", np.full((9, 9, 3), 200.0), "cat", {}, ImageError, "divide by 255"),
    ("no pixels", np.zeros((0, 9, 3), np.uint8), "cat", {}, ImageError, "no pixels"),
    ("channels", np.zeros((9, 9, 5), np.uint8), "cat", {}, ImageError, r"\(9, 9, 5\)"),
    ("url", "s3://example.org/a.jpg", "cat", {}, ImageError, "cannot be fetched from here"),
    ("bytes", b"\x89PNG", "cat", {}, ImageError, "not a picture in a known format"),
    ("number", 7, "cat", {}, ImageError, "int"),
    ("empty text", None, "", {}, PromptError, "no words"),
    ("blank text", None, " \n", {}, PromptError, "no words"),
    ("punctuation", None, "?!... .", {}, PromptError, "no words"),
    ("empty list", None, [], {}, PromptError, "empty"),
    ("empty name", None, ["cat", " "], {}, PromptError, "class name 1 is empty"),
    ("only dots", None, [".", ".."], {}, PromptError, "punctuation"),
    ("endless phrase", None, ["very " * 300 + "long"], {}, PromptError, "256"),
    ("bytes prompt", None, b"cat", {}, PromptError, "bytes"),
    ("number prompt", None, 7, {}, PromptError, "int"),
    ("wrong count", None, [["cat"], ["dog"]], {}, PromptError, "2 prompts for 1 pictures"),
    ("surrogate", None, "cat \ud800", {}, PromptError, "Unicode"),
    ("threshold", None, "cat", {"threshold": 1.5}, ConfigError, "threshold .* 1.5"),
    ("threshold nan", None, "cat", {"threshold": float("nan")}, ConfigError, "threshold .* nan"),
    ("threshold text", None, "cat", {"threshold": "0.3"}, ConfigError, "threshold .* '0.3'"),
    ("nms", None, "cat", {"nms": -0.1}, ConfigError, "nms .* -0.1"),
    ("no detections", None, "cat", {"max_detections": 0}, ConfigError, "max_detections .* 0"),
    ("half a detection", None, "cat", {"max_detections": 1.5}, ConfigError, "max_detections"),
    ("aggregate", None, "cat", {"aggregate": "sum"}, ConfigError, "'sum'"),
    ("batch size", None, "cat", {"batch_size": 0}, ConfigError, "batch_size .* 0"),
    ("half a batch", None, "cat", {"batch_size": 1.5}, ConfigError, "batch_size .* 1.5"),
]


@pytest.mark.parametrize(
    ("picture", "prompt", "options", "error", "message"),
    [row[1:] for row in BAD_INPUTS],
    ids=[row[0] for row in BAD_INPUTS],
)
def test_bad_input_is_named(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    picture: Any,
    prompt: Any,
    options: dict[str, Any],
    error: type[glip.GlipError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        tiny_detector.predict(make_picture() if picture is None else picture, prompt, **options)


@pytest.mark.parametrize("spans", [[(0, 99)], [(2, 2)], [(3, 1)], [(-1, 2)], [[(0, 5), (3, 7)]]])
def test_spans_that_do_not_fit_are_refused(spans: Any) -> None:
    with pytest.raises(PromptError):
        Prompt.from_caption("a cat on a mat", spans)


@pytest.mark.parametrize("device", ["banana", "cuda:99", "meta", "", "cpu:x", 99, ["cpu"]])
def test_unknown_device_is_named(tiny_file: Path, device: Any) -> None:
    with pytest.raises(DeviceError, match="'cpu' always can"):
        glip.load(tiny_file, device=device)


@pytest.mark.parametrize("dtype", ["float64", "int8", torch.float64, None])
def test_unknown_dtype_is_named(tiny_file: Path, dtype: Any) -> None:
    with pytest.raises(ConfigError, match="is not one of float32, bfloat16, float16"):
        glip.load(tiny_file, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "error", "message"),
    [("float32", CheckpointError, "damaged"), ("float16", DeviceError, "bfloat16")],
)
def test_model_that_gives_nan_says_what_to_do(
    tiny_weights: Weights,
    make_picture: Callable[..., Image.Image],
    dtype: Any,
    error: type[glip.GlipError],
    message: str,
) -> None:
    state = {**tiny_weights.state, "neck.p7.bias": torch.full((32,), torch.nan)}
    detector = Detector.from_weights(Weights(tiny_weights.config, state), dtype=dtype)
    with pytest.raises(error, match=message):
        detector.predict(make_picture(), NAMES)


def test_exhausted_gpu_says_what_to_do(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny_detector.model, "encode_image", exhausted)
    with pytest.raises(DeviceError, match="for 2 pictures at a time; lower batch_size"):
        tiny_detector.predict([make_picture()] * 2, NAMES, batch_size=2)


def test_captions_of_a_picture_share_it_and_give_what_each_gives_alone(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = [make_picture(seed=1), make_picture(seed=2), make_picture(70, 110, seed=3)]
    asked = [
        [Prompt.of("a cat on a mat"), Prompt.of(["dog", "very red ball"])],
        [],
        [Prompt.of([f"thing number {n}" for n in range(90)]), Prompt.of("a dog"), Prompt.of("x")],
    ]
    seen = []
    encode = tiny_detector.model.encode_image
    monkeypatch.setattr(
        tiny_detector.model, "encode_image", lambda x: seen.append(len(x)) or encode(x)
    )
    prepared = [tiny_detector.prepare(picture) for picture in pictures]
    found = tiny_detector.detect(prepared, asked, options=PostprocessOptions(score=0.3))
    assert seen == [2, 1]  # two pictures of one size, and one that no other fits
    monkeypatch.undo()
    assert [len(own) for own in found] == [2, 0, 3]
    for picture, prompts, results in zip(pictures, asked, found, strict=True):
        for prompt, result in zip(prompts, results, strict=True):
            [alone] = tiny_detector.predict(picture, prompt, threshold=0.3)
            assert len(result) > 0
            assert_same(result, alone)


def test_caption_gives_all_its_phrases_with_their_boxes(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    picture, caption = make_picture(), "a red car behind a cat, no dog"
    [found] = tiny_detector.predict(picture, Prompt.from_caption(caption), threshold=0.4)
    grounded = tiny_detector.ground(picture, caption, threshold=0.4)
    assert [phrase.text for phrase in grounded] == ["a red car", "a cat", "no dog"]
    assert [caption[a:b] for phrase in grounded for a, b in phrase.spans] == [
        "a red car",
        "a cat",
        "no dog",
    ]
    assert sum(map(len, grounded)) == len(found) > 0
    for phrase in grounded:
        assert np.array_equal(phrase.boxes, found.boxes[np.array(found.phrases) == phrase.text])
        assert len(phrase.scores) == len(phrase)
    strict = tiny_detector.ground(picture, caption, ["dog", "car"], threshold=1.0)
    assert [(phrase.text, len(phrase)) for phrase in strict] == [("car", 0), ("dog", 0)]


def test_ground_takes_one_picture_and_a_caption_with_words(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    for name in "ab":
        make_picture().save(tmp_path / f"{name}.png")
    with pytest.raises(ImageError, match="one picture has one caption, got 2 pictures"):
        tiny_detector.ground(tmp_path, "a cat")
    with pytest.raises(PromptError, match="has no words"):
        tiny_detector.ground(make_picture(), "...")
    with pytest.raises(PromptError, match="a caption must be a string"):
        tiny_detector.ground(make_picture(), ["a cat"])  # type: ignore[arg-type]


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_another_process_loads_its_own(
    tiny_detector: Detector, copied: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match=r"cannot be pickled or copied: call glip\.load in each"):
        copied(tiny_detector)


def test_detector_says_what_it_is(tiny_detector: Detector) -> None:
    assert repr(tiny_detector) == "<Detector: tiny_for_tests on cpu, float32, threshold 0.3>"


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_number_format_by_name_or_as_torch_has_it(
    tiny_file: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIP_FORCE_DTYPE", "1")
    detector = glip.load(tiny_file, device="cpu", dtype=dtype)
    assert detector.dtype == next(detector.model.parameters()).dtype == torch.bfloat16


def test_as_many_strings_as_pictures_are_class_names_and_a_warning(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pictures = [make_picture(seed=1), make_picture(seed=2)]
    found = tiny_detector.predict(pictures, ["cat", "dog"])
    assert "2 strings for 2 pictures are class names to look for in all" in caplog.text
    assert found[0].prompt is found[1].prompt and found[0].prompt.names == ("cat", "dog")
    caplog.clear()
    tiny_detector.predict(pictures, [["cat"], ["dog"]])
    tiny_detector.predict(pictures[0], ["cat"])
    assert not caplog.text


def test_wordings_find_under_the_name_and_negatives_take_away(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    picture = make_picture()
    [plain] = tiny_detector.predict(picture, ["cat", "dog"], threshold=0.3)
    [worded] = tiny_detector.predict(
        picture, ["cat", "dog"], wordings={"cat": ["red car"]}, threshold=0.3
    )
    assert worded.prompt.names == ("cat", "dog") and len(worded) > 0
    assert not len(worded) or (overlap(worded.boxes, worded.boxes) <= 1).all()
    with pytest.raises(PromptError, match="not_ holds 'cat', which is looked for"):
        tiny_detector.predict(picture, ["cat"], not_=["cat"], threshold=0.3)
    [less] = tiny_detector.predict(picture, ["cat", "dog"], not_=["red car"], threshold=0.3)
    assert len(less) <= len(plain) and set(less.phrases) <= {"cat", "dog"}
    [both, again] = tiny_detector.predict(
        [picture, picture], ["cat"], template="a photo of a {}", max_detections=3, batch_size=2
    )
    assert len(both) == 3 and both.phrases == ["cat"] * 3
    assert_same(both, again)


def test_thresholds_may_be_those_of_names(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    picture = make_picture()
    [all_of_them] = tiny_detector.predict(picture, NAMES)
    [found] = tiny_detector.predict(picture, NAMES, threshold={"cat": 0.5, "Red_car": 1.0})
    limits = {"cat": 0.5, "red car": 1.0, "traffic light": tiny_detector.lowest_threshold}
    for name, limit in limits.items():
        expected = all_of_them[name]
        assert len(found[name]) == int((expected.scores > limit).sum())
    with pytest.raises(ConfigError, match="a threshold for 'dog', but names are cat"):
        tiny_detector.predict(picture, NAMES, threshold={"dog": 0.5})
    with pytest.raises(ConfigError, match="threshold of 'cat'"):
        tiny_detector.predict(picture, NAMES, threshold={"cat": 2})
    with pytest.raises(ConfigError, match="a threshold is for a name, got one for 1"):
        tiny_detector.predict(picture, NAMES, threshold={1: 0.5})  # type: ignore[dict-item]


def test_results_know_their_picture(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    picture = make_picture()
    picture.save(tmp_path / "x.png")
    for source in (picture, tmp_path / "x.png", str(tmp_path / "x.png")):
        [found] = tiny_detector.predict(source, NAMES)
        assert found.plot().size == picture.size


def test_a_gpu_is_asked_by_several_threads_and_a_processor_by_one(
    tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny_detector.pace == USUAL
    assert tiny_detector.torch_engine.at_once == 1
    monkeypatch.setattr(tiny_detector.engine, "device", torch.device("cuda", 1))
    monkeypatch.setattr(tiny_detector, "device", torch.device("cuda", 1))
    assert tiny_detector.pace.at_once == 3
    assert 2 <= tiny_detector.pace.workers <= 8


def test_batches_on_their_way_at_the_same_time_find_what_each_finds_alone(
    tiny_detector: Detector,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures: list[Any] = [make_picture(*size, seed=n) for n, size in enumerate(2 * SIZES)]
    pictures.insert(5, "nowhere.jpg")
    engine = tiny_detector.torch_engine
    expected = list(tiny_detector.stream(pictures, NAMES, batch_size=2))
    monkeypatch.setattr(Detector, "pace", Pace(3, 3))
    monkeypatch.setattr(engine, "_looked_here", engine._looked_there)
    found = list(tiny_detector.stream(pictures, NAMES, batch_size=2))
    assert [one.index for one in found] == list(range(len(pictures)))
    for one, other in zip(found, expected, strict=True):
        assert (one.error is None) == (other.error is None) == (one.index != 5)
        if one.detections is not None and other.detections is not None:
            assert_same(one.detections, other.detections)
