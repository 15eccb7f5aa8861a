"""The model side of a prediction: number formats, remembered texts, threads, unreadable words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from glip import engine, passes
from glip.checkpoint import Weights
from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.engine import Engine, usable_dtype
from glip.model.glip import Pyramid
from glip.model.head import HeadOutput
from glip.model.text_encoder import Tokens, Words
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def tiny_engine(tiny_detector: Detector) -> Engine:
    """An engine that has read no text yet."""
    return Engine(
        tiny_detector.model,
        tiny_detector.config,
        tiny_detector.tokenizer,
        device=CPU,
        dtype=torch.float32,
    )


@pytest.mark.parametrize(
    ("wanted", "device", "able", "forced", "expected"),
    [
        ("float32", CPU, False, False, torch.float32),
        ("bfloat16", CPU, True, False, torch.bfloat16),
        ("bfloat16", CPU, False, False, torch.float32),
        (torch.bfloat16, CPU, False, False, torch.float32),
        (torch.bfloat16, CPU, False, True, torch.bfloat16),
        (torch.bfloat16, GPU, False, False, torch.bfloat16),
        ("float16", CPU, False, False, torch.float16),
    ],
)
def test_bfloat16_is_taken_where_the_processor_has_it(
    wanted: Any,
    device: torch.device,
    able: bool,
    forced: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engine, "_cpu_has_bfloat16", lambda: able)
    monkeypatch.setenv("GLIP_FORCE_DTYPE", "1" if forced else "")
    assert usable_dtype(wanted, device) == expected
    changed = expected == torch.float32 and "bfloat16" in str(wanted)
    assert ("loaded in float32 instead; set GLIP_FORCE_DTYPE=1" in caplog.text) == changed


def test_words_that_the_text_encoder_cannot_read_find_nothing(
    tiny_engine: Engine,
    make_picture: Callable[..., Image.Image],
    caplog: pytest.LogCaptureFixture,
) -> None:
    picture, options = tiny_engine.prepare(make_picture()), PostprocessOptions(score=0.3)
    asked = [Prompt.of(names) for names in (["cat", "😀"], ["😀", "cat"], ["😀"], ["cat"])]
    [[after, before, alone, cat]] = tiny_engine.detect([picture], [asked], options)
    assert "cannot read '😀' and finds nothing for that" in caplog.text
    assert "'cat'" not in caplog.text
    assert set(after.phrases) == set(before.phrases) == {"cat"} and len(cat) > 0
    assert len(alone) == 0 and alone.prompt.names == ("😀",)


def test_texts_are_encoded_once_and_the_oldest_forgotten(
    tiny_engine: Engine, make_picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CACHED_TEXTS", 2)
    read: list[int] = []
    encode = tiny_engine.model.encode_text

    def counted(tokens: Tokens) -> Words:
        read.append(1)
        return encode(tokens)

    monkeypatch.setattr(tiny_engine.model, "encode_text", counted)
    picture = tiny_engine.prepare(make_picture())
    for name, expected in (("cat", 1), ("cat", 1), ("dog", 2), ("bird", 3), ("dog", 3), ("cat", 4)):
        tiny_engine.detect([picture], [[Prompt.of([name])]], PostprocessOptions(score=0.5))
        assert len(read) == expected


def test_threads_that_share_an_engine_find_what_each_finds_alone(
    tiny_engine: Engine, make_picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CACHED_TEXTS", 2)  # so that they forget each other's texts
    options = PostprocessOptions(score=0.4)
    picture = tiny_engine.prepare(make_picture())

    def found(number: int) -> list[list[float]]:
        prompt = Prompt.of([f"thing {number % 5}", "cat"])
        [[result]] = tiny_engine.detect([picture], [[prompt]], options)
        return result.boxes.tolist()

    expected = [found(number) for number in range(5)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(found, range(60)))
    for number, boxes in enumerate(together):
        torch.testing.assert_close(torch.tensor(boxes), torch.tensor(expected[number % 5]))


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_batches_hold_pictures_of_one_padded_size(
    tiny_engine: Engine,
    make_picture: Callable[..., Image.Image],
    batch_size: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes: list[tuple[int, ...]] = []
    encode = tiny_engine.model.encode_image

    def watched(pixels: Tensor) -> Pyramid:
        shapes.append(tuple(pixels.shape))
        return encode(pixels)

    monkeypatch.setattr(tiny_engine.model, "encode_image", watched)
    sizes = [(96, 96), (160, 96), (95, 95), (96, 96)]
    pictures = [tiny_engine.prepare(make_picture(*size), n) for n, size in enumerate(sizes)]
    asked = [[Prompt.of(["cat"])]] * len(pictures)
    tiny_engine.detect(pictures, asked, PostprocessOptions(score=0.5), batch_size=batch_size)
    batches = {None: [3, 1], 1: [1, 1, 1, 1], 2: [2, 1, 1]}[batch_size]
    assert [shape[0] for shape in shapes] == batches
    assert {shape[2:] for shape in shapes} == {(96, 96), (96, 160)}


def test_selection_without_reading_back_finds_the_same(
    tiny_engine: Engine, make_picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [tiny_engine.prepare(make_picture(96, 96, seed), seed) for seed in range(2)]
    asked = [[Prompt.of(["cat", "a dog"]), Prompt.of("a red bird")], [Prompt.of(["cat"])]]
    options = PostprocessOptions(score=0.4)
    expected = tiny_engine.detect(pictures, asked, options)

    class Elsewhere:
        """A device that is the CPU, and does not say so."""

        type = "cuda"

    select, done = tiny_engine._select, list[str]()

    def uploaded(token_map: npt.NDArray[np.bool_]) -> torch.Tensor:
        done.append("upload")
        return torch.from_numpy(token_map)

    def launched(outputs: Iterator[HeadOutput]) -> Iterator[HeadOutput]:
        for output in outputs:
            done.append("launch")
            yield output

    def elsewhere(outputs: Iterator[HeadOutput], *arguments: Any) -> Any:
        monkeypatch.setattr(tiny_engine, "device", Elsewhere())
        found = list(select(launched(outputs), *arguments))
        monkeypatch.setattr(tiny_engine, "device", CPU)
        return found

    monkeypatch.setattr(tiny_engine, "_uploaded", uploaded)
    monkeypatch.setattr(tiny_engine, "_select", elsewhere)
    found = tiny_engine.detect(pictures, asked, options)
    # Two rounds: both pictures' first prompts, then the second one of the first.
    assert done == ["upload", "upload", "launch", "upload", "launch"]
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert len(b) > 0
            torch.testing.assert_close((a.boxes, a.scores), (b.boxes, b.scores))
            assert a.phrases == b.phrases


def test_on_a_processor_maps_are_convolved_with_their_channels_last(
    tiny_detector: Detector, tiny_weights: Weights, make_picture: Callable[..., Image.Image]
) -> None:
    loaded = Detector(Engine.from_weights(tiny_weights))
    convolutions = [
        weight
        for weight in loaded.model.neck.parameters()
        if weight.dim() == 4 and weight[0, 0].numel() > 1
    ]
    assert convolutions
    for weight in convolutions:
        assert weight.is_contiguous(memory_format=torch.channels_last)
    [found] = loaded.predict(make_picture(), "cat. dog.", threshold=0.3)
    [expected] = tiny_detector.predict(make_picture(), "cat. dog.", threshold=0.3)
    assert len(found) and found.phrases == expected.phrases
    torch.testing.assert_close(
        torch.as_tensor(found.boxes), torch.as_tensor(expected.boxes), rtol=0, atol=0.01
    )
