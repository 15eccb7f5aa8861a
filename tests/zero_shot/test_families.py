"""How each kind of detector is asked, beside transformers' own way from words to boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from glip.config import PostprocessOptions
from glip.errors import PromptError
from glip.text.prompt import Prompt
from glip.zero_shot.engine import ZeroShotEngine
from glip.zero_shot.folder import load_parts

MakePicture = Callable[..., Image.Image]
FolderOf = Callable[[str], Path]

NAMES = ["cat", "dog", "red sofa"]
PROMPT = Prompt.of(NAMES)
CAPTION = Prompt.from_caption("a cat and a dog on a red sofa")
ALL = PostprocessOptions(nms=1.0, max_detections=10_000)
"""Everything that a model says."""


def found(engine: ZeroShotEngine, image: Image.Image, *prompts: Prompt) -> list[Any]:
    [answers] = engine.detect([engine.prepare(image)], [prompts], ALL)
    return answers


def best_of(detections: Any, name: str) -> tuple[float, list[float]]:
    """Score and box of the best for a name."""
    own = detections[name].top(1)
    return float(own.scores[0]), own.boxes[0].tolist()


def reference(folder: Path) -> tuple[Any, Any]:
    """The model of a folder, and transformers' own processor for it."""
    parts = load_parts(folder)
    processor_class = (
        transformers.Sam3Processor if parts.kind == "sam3" else transformers.AutoProcessor
    )
    return parts.model.eval(), processor_class.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["grounding-dino", "mm-grounding-dino"])
def test_tokens_of_a_text(kind: str, folder_of: FolderOf, make_picture: MakePicture) -> None:
    image = make_picture(90, 60)
    model, processor = reference(folder_of(kind))
    inputs = processor(images=image, text="cat. dog. red sofa .", return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    scores = output.logits[0, :, 5:7].sigmoid().max(-1).values  # [CLS] cat . dog . red sofa
    query = int(scores.argmax())
    [ours] = found(ZeroShotEngine(folder_of(kind)), image, PROMPT)
    score, box = best_of(ours, "red sofa")
    assert score == pytest.approx(float(scores[query]), abs=1e-4)
    x, y, w, h = output.pred_boxes[0, query].tolist()
    expected = [(x - w / 2) * 90, (y - h / 2) * 60, (x + w / 2) * 90, (y + h / 2) * 60]
    expected = [min(max(v, 0), limit) for v, limit in zip(expected, (90, 60) * 2, strict=True)]
    assert box == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
def test_queries_side_by_side(kind: str, folder_of: FolderOf, make_picture: MakePicture) -> None:
    image = make_picture(90, 60)
    model, processor = reference(folder_of(kind))
    inputs = processor(images=image, text=[NAMES], return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    scores = output.logits[0].sigmoid()
    [ours, again] = found(ZeroShotEngine(folder_of(kind)), image, PROMPT, CAPTION)
    for column, name in enumerate(NAMES):
        score, box = best_of(ours, name)
        assert score == pytest.approx(float(scores[:, column].max()), abs=1e-4)
        x, y, w, h = output.pred_boxes[0, int(scores[:, column].argmax())].tolist()
        width, height = (90, 60) if kind == "owlvit" else (90, 90)  # padded to a square
        left, top = max((x - w / 2) * width, 0), max((y - h / 2) * height, 0)
        assert box[:2] == pytest.approx([min(left, 89), min(top, 59)], abs=0.02)
    assert again.prompt == CAPTION
    assert set(again.phrase_ids.tolist()) == {0, 1, 2}


def test_a_task_with_its_classes(folder_of: FolderOf, make_picture: MakePicture) -> None:
    image = make_picture(90, 60)
    model, processor = reference(folder_of("omdet-turbo"))
    length = {"padding": "max_length", "truncation": True, "max_length": 40}
    inputs = processor(images=image, text=[NAMES], text_kwargs=length, return_tensors="pt")
    inputs.pop("pixel_mask", None)  # old processors give one that old models refuse
    with torch.inference_mode():
        output = model(**inputs)
    [ours] = found(ZeroShotEngine(folder_of("omdet-turbo")), image, PROMPT)
    scores = output.decoder_class_logits[0].sigmoid()
    for column, name in enumerate(NAMES):
        score, _ = best_of(ours, name)
        assert score == pytest.approx(float(scores[:, column].max()), abs=1e-4)


def test_concepts_one_by_one(folder_of: FolderOf, make_picture: MakePicture) -> None:
    image = make_picture(90, 60)
    model, processor = reference(folder_of("sam3"))
    [ours] = found(ZeroShotEngine(folder_of("sam3")), image, PROMPT)
    for name in NAMES:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        words = processor.tokenizer(
            [name], padding="max_length", max_length=16, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model(pixel_values=pixels, **words)
        [theirs] = processor.image_processor.post_process_object_detection(
            output, threshold=0.0, target_sizes=[(60, 90)]
        )
        score, box = best_of(ours, name)
        best = int(theirs["scores"].argmax())
        assert score == pytest.approx(float(theirs["scores"][best]), abs=1e-4)
        clipped = np.clip(theirs["boxes"][best].tolist(), 0, [90, 60, 90, 60])
        assert box == pytest.approx(clipped.tolist(), abs=0.02)


KINDS = ["grounding-dino", "mm-grounding-dino", "owlvit", "owlv2", "omdet-turbo", "sam3"]


@pytest.mark.parametrize("kind", KINDS)
def test_long_vocabularies_are_packed(
    kind: str, folder_of: FolderOf, make_picture: MakePicture
) -> None:
    """60 names need several texts of a model of 16 to 64 tokens; none is left out."""
    names = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"][:60]
    engine = ZeroShotEngine(folder_of(kind))
    [ours] = found(engine, make_picture(90, 60), Prompt.of(names))
    assert set(ours.phrases) == set(names)
    assert len(ours) >= len(names)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("grounding-dino", " ".join(["cat"] * 70), "the text encoder takes 64"),
        ("owlv2", "a" * 40, "takes 16"),
        ("owlvit", "a" * 15, "takes 16"),
        ("omdet-turbo", "a" * 39, "takes 40"),
        ("omdet-turbo", "a" * 35, "leaves no room in the sentence"),
        ("sam3", "a" * 40, "takes 16"),
    ],
)
def test_what_no_model_can_read(
    kind: str, words: str, message: str, folder_of: FolderOf, make_picture: MakePicture
) -> None:
    engine = ZeroShotEngine(folder_of(kind))
    prompt = Prompt.from_classes([words, "cat"])
    with pytest.raises(PromptError, match=message):
        engine.passes.of(prompt)
    with pytest.raises(PromptError, match=message):
        found(engine, make_picture(), prompt)


def test_a_phrase_of_two_captions_is_asked_once(
    folder_of: FolderOf, make_picture: MakePicture
) -> None:
    engine = ZeroShotEngine(folder_of("owlv2"))
    other = Prompt.from_caption("a dog and a cat")
    [first, second] = found(engine, make_picture(90, 60), CAPTION, other)
    dogs = first[first.phrase_ids == 1], second[second.phrase_ids == 0]
    assert dogs[0].scores.tolist() == dogs[1].scores.tolist()
