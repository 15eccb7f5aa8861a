"""Pictures, prompts and boxes into inputs of the model, and its outputs into boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from glip.boxes import to_edges
from glip.errors import ConfigError, ImageError, PromptError
from glip.hf import GlipImageProcessor, GlipProcessor
from glip.postprocess import rescale
from glip.text.prompt import Prompt
from tests.toy import TINY

NAMES = ["cat", "traffic light"]


def test_saved_and_loaded(processor: Any, folder: Path, tmp_path: Path, make_picture: Any) -> None:
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    expected = processor(make_picture(), NAMES)
    for place in (folder, tmp_path):
        again = AutoProcessor.from_pretrained(place)
        assert isinstance(again, GlipProcessor)
        assert again.max_tokens == 256 and again.threshold == TINY.threshold
        got = again(make_picture(), NAMES)
        for name in expected:
            assert torch.equal(got[name], expected[name]), name
        images = AutoImageProcessor.from_pretrained(place)
        assert isinstance(images, GlipImageProcessor) and images.pixels == TINY.pixels
        words = AutoTokenizer.from_pretrained(place)
        assert words("cat. traffic light")["input_ids"] == expected["input_ids"][0].tolist()


def test_pixels_are_ours(processor: Any, tiny_detector: Any, make_picture: Any) -> None:
    image = make_picture(130, 70)
    ours = tiny_detector.prepare(image).pixels
    theirs = processor(image, NAMES)["pixel_values"][0]
    assert theirs.shape[1] % 32 == theirs.shape[2] % 32 == 0
    assert torch.equal(theirs[:, : ours.shape[1], : ours.shape[2]], ours)
    as_array = processor(np.asarray(image), NAMES)["pixel_values"][0]
    assert torch.equal(as_array, theirs)
    only = processor(images=image)
    assert set(only) == {"pixel_values"}
    assert set(processor(text=NAMES)) == {"input_ids", "attention_mask"}


def test_our_boxes(model: Any, processor: Any, tiny_detector: Any, make_picture: Any) -> None:
    images = [make_picture(), make_picture(seed=3)]
    with torch.no_grad():
        found = model(**processor(images, NAMES))
    sizes = [(image.height, image.width) for image in images]
    results = processor.post_process_grounded_object_detection(found, NAMES, sizes)
    for image, result in zip(images, results, strict=True):
        [ours] = tiny_detector.predict(image, NAMES)
        assert result["text_labels"] == ours.phrases
        np.testing.assert_allclose(result["scores"].numpy(), ours.scores, atol=1e-4)
        np.testing.assert_allclose(result["boxes"].numpy(), ours.boxes, atol=0.01)
        assert result["labels"].tolist() == ours.phrase_ids.tolist()
    [few, _] = processor.post_process_grounded_object_detection(
        found, NAMES, torch.tensor(sizes), threshold=0.0, max_detections=3
    )
    assert len(few["scores"]) >= 3


def test_a_prompt_for_each_picture(
    model: Any, processor: Any, tiny_detector: Any, make_picture: Any
) -> None:
    images = [make_picture(), make_picture(seed=3)]
    text = [["cat"], Prompt.from_caption("a red dog beside a traffic light")]
    inputs = processor(images, text)
    assert len(inputs["input_ids"]) == 2
    with torch.no_grad():
        found = model(**inputs)
    sizes = [(90, 120)] * 2
    results = processor.post_process_grounded_object_detection(found, text, sizes)
    for image, prompt, result in zip(images, text, results, strict=True):
        [ours] = tiny_detector.predict(image, prompt)
        assert result["text_labels"] == ours.phrases


def test_labels(processor: Any, make_picture: Any) -> None:
    inputs = processor(make_picture(120, 90), NAMES, [{"boxes": [[12, 9, 60, 45]], "phrases": [1]}])
    [label] = inputs["labels"]
    height, width = processor._resized((90, 120))
    # The last pixel is counted in, as it is wherever we train.
    expected = torch.tensor(
        [[12 * width / 120, 9 * height / 90, 59 * width / 120, 44 * height / 90]]
    )
    torch.testing.assert_close(label["boxes"], expected)
    assert label["class_labels"].tolist() == [1]
    words = inputs["input_ids"][0][label["token_map"][1]].tolist()
    assert processor.tokenizer.convert_ids_to_tokens(words) == ["traffic", "light"]
    [empty] = processor(make_picture(), NAMES, [{"boxes": [], "phrases": []}])["labels"]
    assert empty["boxes"].shape == (0, 4)


def test_boxes_that_are_learned_come_back(processor: Any, make_picture: Any) -> None:
    image = make_picture(120, 90)
    boxes = [[12, 9, 60, 45], [0, 0, 120, 90], [-5, 80, 7, 95]]
    [label] = processor(image, NAMES, [{"boxes": boxes, "phrases": [1, 0, 0]}])["labels"]
    back = to_edges(rescale(label["boxes"], processor._resized((90, 120)), (90, 120)), (90, 120))
    torch.testing.assert_close(back, torch.tensor([*boxes[:2], [0, 80, 7, 90]]).float())


def test_words_that_cannot_be_read_find_nothing(
    model: Any, processor: Any, tiny_detector: Any, make_picture: Any
) -> None:
    image, names = make_picture(), ["cat", "\U0001f600"]
    for text in (names, names[1:]):
        with torch.no_grad():
            found = model(**processor(image, text))
        [one] = processor.post_process_grounded_object_detection(found, text, [(90, 120)])
        [ours] = tiny_detector.predict(image, text)
        assert one["text_labels"] == ours.phrases
        assert one["boxes"].shape == ours.boxes.shape


BOX = [[0, 0, 9, 9]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"images": None, "text": None}, ConfigError, "neither images nor text"),
        ({"images": "nowhere.png"}, ImageError, "nowhere.png"),
        ({"text": []}, PromptError, "empty"),
        ({"text": [["a"], ["b"]]}, PromptError, "2 prompts for 1 pictures"),
        ({"text": [f"thing number {n}" for n in range(150)]}, PromptError, "150 phrases need"),
        ({"return_tensors": "np"}, ConfigError, "return_tensors is 'np'"),
        ({"do_resize": True}, ConfigError, "knows no option 'do_resize'"),
        ({"annotations": []}, ConfigError, "0 annotations need"),
        ({"annotations": [{"boxes": BOX, "phrases": []}]}, ConfigError, "1 boxes with 0 phrases"),
        ({"annotations": [{"boxes": BOX, "phrases": [2]}]}, ConfigError, "the prompt has 2"),
        ({"annotations": [{"boxes": BOX, "phrases": [-1]}]}, ConfigError, "the prompt has 2"),
        ({"annotations": [{"boxes": [[9, 9, 9, 20]], "phrases": [0]}]}, ConfigError, "nothing of"),
    ],
)
def test_bad_input(
    given: dict[str, Any], error: type[Exception], message: str, processor: Any, make_picture: Any
) -> None:
    with pytest.raises(error, match=message):
        processor(**{"images": make_picture(), "text": NAMES, **given})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": {"shortest_edge": 0}}, "short_side 0"),
        ({"size": {"shortest_edge": 900, "longest_edge": 100}}, "short_side 900"),
        ({"channel_order": "hsv"}, "neither 'rgb' nor 'bgr'"),
        ({"image_std": [0, 1, 1]}, "must be positive"),
    ],
)
def test_bad_image_processors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipImageProcessor(**options)


def test_sizes_of_other_pictures(model: Any, processor: Any, make_picture: Any) -> None:
    with torch.no_grad():
        found = model(**processor(make_picture(), NAMES))
    with pytest.raises(ConfigError, match="2 target_sizes for 1 pictures"):
        processor.post_process_grounded_object_detection(found, NAMES, [(1, 1), (2, 2)])
    with pytest.raises(ConfigError, match="threshold must lie"):
        processor.post_process_grounded_object_detection(found, NAMES, [(9, 9)], threshold=2)
