"""The weights that ship with the package, on the demo's photos."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

import glip
from glip.detector import Detector
from glip.model.presets import preset
from glip.released import find

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "demo" / "images"
# Boxes drawn by hand: x1, y1, x2, y2 in pixels.
CAT = ("chelsea.jpg", (25, 0, 380, 300))
WOMAN = ("astronaut.jpg", (10, 5, 450, 512))


@pytest.fixture(scope="module")
def detector() -> Detector:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GLIP_HOME", raising=False)
        return glip.load(device="cpu")


def test_default_model_is_the_packaged_one(detector: Detector) -> None:
    assert find() == Path(glip.__file__).parent / "weights" / "glip_nano.safetensors"
    assert detector.config == preset("glip_nano")


def test_packaged_weights_stay_small() -> None:
    folder = Path(glip.__file__).parent / "weights"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 60_000_000


@pytest.mark.parametrize(
    ("photo", "truth", "word", "others"),
    [
        (*CAT, "cat", ["person", "horse", "car", "pizza", "airplane"]),
        (*WOMAN, "person", ["cat", "horse", "car", "pizza", "airplane"]),
        (*CAT, "feline", ["person", "horse", "car", "pizza", "airplane"]),  # never trained
    ],
)
def test_finds_what_is_asked_for_and_not_the_rest(
    detector: Detector, photo: str, truth: tuple[int, ...], word: str, others: list[str]
) -> None:
    [found] = detector.predict(PHOTOS / photo, [*others, word])
    assert len(found) and found.phrases[0] == word
    assert set(found.phrases) == {word}
    best = torch.as_tensor(found.boxes[:1])
    assert box_iou(best, torch.tensor([truth], dtype=torch.float32)).item() > 0.7


def test_a_sentence_is_grounded(detector: Detector) -> None:
    [found] = detector.predict(PHOTOS / CAT[0], "a cat looks into the camera", threshold=0.3)
    assert found.phrases[0] == "a cat"


def test_bfloat16_finds_the_same(detector: Detector) -> None:
    [plain] = detector.predict(PHOTOS / CAT[0], "cat.")
    [short] = glip.load(device="cpu", dtype="bfloat16").predict(PHOTOS / CAT[0], "cat.")
    assert abs(plain.scores[0] - short.scores[0]) < 0.02
    boxes = (torch.as_tensor(found.boxes[:1]) for found in (plain, short))
    assert box_iou(*boxes).item() > 0.9


def test_card_says_what_the_file_is() -> None:
    card = (ROOT / "glip" / "weights" / "MODEL_CARD.md").read_text(encoding="utf-8")
    shown = re.search(r"(\d+) million parameters, (\d+) MB", card)
    assert shown
    weights = glip.checkpoint.read(find())
    assert round(sum(t.numel() for t in weights.state.values()) / 1e6) == int(shown[1])
    assert round(find().stat().st_size / 1e6) == int(shown[2])
