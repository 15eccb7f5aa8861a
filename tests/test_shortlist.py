"""The probable few of many names: which they are, and which names their boxes have."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import ConfigError, GlipError, PromptError
from glip.pixels import Prepared
from glip.shortlist import detect_probable, glance, named, probable, shortened
from glip.structures import Detections
from glip.text.prompt import Prompt
from tests.conftest import MakePicture

NAMES = Prompt.from_classes(["cat", "dog", "cup", "hat"])


def found_of(rows: list[int], scores: list[float], prompt: Prompt = NAMES) -> Detections:
    boxes = np.tile(np.array([[0, 0, 8, 8]], np.float32), (len(rows), 1))
    return Detections(
        boxes, np.array(scores, np.float32), np.array(rows, np.int64), prompt, (16, 16)
    )


def test_probable_are_the_best_scored_in_the_order_of_the_prompt() -> None:
    found = found_of([3, 1, 1, 2], [0.9, 0.5, 0.4, 0.45])
    assert probable(found, 2) == [1, 3]
    assert probable(found, 3) == [1, 2, 3]
    assert probable(found, 9) == [1, 2, 3], "a name without any box is not probable"


def test_nothing_found_leaves_one_name_to_ask() -> None:
    assert probable(found_of([], []), 2) == [0]


def test_names_of_a_shortlist_are_rows_of_the_whole() -> None:
    few = shortened(NAMES, [1, 3])
    assert few.names == ("dog", "hat")
    back = named(found_of([1, 0], [0.5, 0.4], few), NAMES, [1, 3])
    assert back.prompt is NAMES and back.phrases == ["hat", "dog"]


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (torch.full((3, 5, 8), 0.5), torch.full((3, 2, 4), 0.5)),
        (
            torch.full((3, 1, 2), 200, dtype=torch.uint8),
            torch.full((3, 1, 1), 200, dtype=torch.uint8),
        ),
    ],
)
def test_glance_halves_the_sides_and_keeps_the_rest(
    pixels: torch.Tensor, expected: torch.Tensor
) -> None:
    half = glance(Prepared(7, pixels, (50, 80)))
    torch.testing.assert_close(half.pixels, expected)
    assert (half.number, half.original_hw) == (7, (50, 80))


def test_second_look_asks_the_few_only() -> None:
    looks: list[list[list[tuple[str, ...]]]] = []

    def look(pictures, prompts, options):  # type: ignore[no-untyped-def]
        looks.append([[prompt.names for prompt in own] for own in prompts])
        last = [[len(prompt) - 1 for prompt in own] for own in prompts]
        return [
            [found_of([row], [0.8], prompt) for row, prompt in zip(rows, own, strict=True)]
            for rows, own in zip(last, prompts, strict=True)
        ]

    short = Prompt.from_classes(["bag"])
    picture = Prepared(0, torch.zeros(3, 8, 8), (8, 8))
    [found] = detect_probable(look, [picture], [[NAMES, short]], PostprocessOptions(), 2)
    assert looks == [[[NAMES.names]], [[("hat",), ("bag",)]]]
    assert [one.phrases for one in found] == [["hat"], ["bag"]]
    assert [one.prompt for one in found] == [NAMES, short]


def test_a_list_as_long_as_the_names_changes_nothing(
    tiny_detector: Detector, make_picture: MakePicture
) -> None:
    detector, picture = tiny_detector, make_picture()
    [whole] = detector.predict([picture], NAMES, threshold=0.0)
    [same] = detector.predict([picture], NAMES, threshold=0.0, shortlist=4)
    [few] = detector.predict([picture], NAMES, threshold=0.0, shortlist=2)
    assert len(whole) and np.array_equal(whole.boxes, same.boxes)
    assert few.prompt == NAMES and len(set(few.phrases)) <= 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"shortlist": 0}, ConfigError, "shortlist"),
        ({"shortlist": 1, "not_": ["cup"]}, ConfigError, "leave the other words out"),
    ],
)
def test_what_makes_no_shortlist_is_refused(
    options: dict[str, Any],
    kind: type[GlipError],
    message: str,
    tiny_detector: Detector,
    make_picture: MakePicture,
) -> None:
    with pytest.raises(kind, match=message):
        tiny_detector.predict([make_picture()], ["cat", "dog"], **options)


def test_a_detector_with_a_shortlist_looks_so_at_everything(
    tiny_detector: Detector, make_picture: MakePicture
) -> None:
    short, picture = tiny_detector.with_shortlist(2), make_picture()
    [expected] = tiny_detector.predict([picture], NAMES, threshold=0.0, shortlist=2)
    [found] = short.predict([picture], NAMES, threshold=0.0)
    assert found.to_dict() == expected.to_dict() and len(found)
    [[detected]] = short.detect(
        [short.prepare(picture)], [[NAMES]], options=PostprocessOptions(), batch_size=1
    )
    assert detected.to_dict() == expected.to_dict()
    assert tiny_detector.shortlist is None, "the one that it was made of stays as it is"


def test_only_glip_by_torch_with_a_free_choice_of_words_has_one(tiny_detector: Detector) -> None:
    with pytest.raises(ConfigError, match="must be a whole number from 1, got 0"):
        tiny_detector.with_shortlist(0)
    engine = SimpleNamespace(**vars(tiny_detector.engine), kind="owlv2")
    with pytest.raises(ConfigError, match="is no GLIP model that runs by torch"):
        Detector(engine).with_shortlist(2)  # type: ignore[arg-type]
    engine.task, engine.kind = object(), "glip"
    with pytest.raises(ConfigError, match="a learned prompt is one pass"):
        Detector(engine).with_shortlist(2)  # type: ignore[arg-type]


def test_caption_has_no_shortlist(tiny_detector: Detector, make_picture: MakePicture) -> None:
    caption = Prompt.from_caption("a cat beside a dog and a cup")
    with pytest.raises(PromptError, match="this is a caption"):
        tiny_detector.predict([make_picture()], caption, shortlist=1)
