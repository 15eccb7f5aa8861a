"""The model side of a prediction: number formats, remembered texts, threads, unreadable words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from glip import engine, passes
from glip.checkpoint import Weights
from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.engine import Engine, usable_dtype
from glip.model import text_encoder
from glip.model.glip import Pyramid
from glip.model.ops.transfer import Arriving
from glip.model.text_encoder import Tokens, Words
from glip.structures import Detections
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


def look_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it go the way of a GPU, on the CPU."""
    monkeypatch.setattr(engine, "_looked_here", engine._looked_there)


def same(found: list[list[Detections]], expected: list[list[Detections]]) -> None:
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert len(b) > 0
            torch.testing.assert_close((a.boxes, a.scores), (b.boxes, b.scores))
            assert a.phrases == b.phrases


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_all_is_launched_before_anything_is_fetched_and_finds_the_same(
    tiny_engine: Engine,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    aggregate: Aggregate,
) -> None:
    pictures = [tiny_engine.prepare(make_picture(96, 96, seed), seed) for seed in range(2)]
    asked = [[Prompt.of(["cat", "a dog"]), Prompt.of("a red bird")], [Prompt.of(["cat"])]]
    options = PostprocessOptions(score=0.4, aggregate=aggregate)
    expected = tiny_engine.detect(pictures, asked, options)
    done, outputs = list[str](), tiny_engine._outputs

    def upload(tensor: Tensor, device: torch.device) -> Tensor:
        done.append("upload")
        return tensor.to(device)

    def launched(*arguments: Any) -> Iterator[Any]:
        for one in outputs(*arguments):
            done.append("launch")
            yield one

    class Fetched(Arriving):
        def wait(self) -> list[Tensor]:
            assert tiny_engine._launching.acquire(blocking=False)  # others may launch meanwhile
            tiny_engine._launching.release()
            done.append("fetch")
            return super().wait()

    monkeypatch.setattr(engine, "uploaded", upload)
    monkeypatch.setattr(engine, "Arriving", Fetched)
    monkeypatch.setattr(tiny_engine, "_outputs", launched)
    look_there(tiny_engine, monkeypatch)
    same(tiny_engine.detect(pictures, asked, options), expected)
    # Two rounds: both pictures' first prompts, then the second one of the first.
    assert done == ["upload"] * 3 + ["launch"] * 2 + ["fetch"]
    nothing = [[Prompt.of(["😀"])], []]  # no pass at all, and none asked for
    assert [list(map(len, own)) for own in tiny_engine.detect(pictures, nothing, options)] == [
        [0],
        [],
    ]


def test_threads_launch_one_batch_at_a_time(
    tiny_engine: Engine, make_picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, asked = PostprocessOptions(score=0.4), [[Prompt.of(["cat", "a dog"])]]
    pictures = [tiny_engine.prepare(make_picture(96, 96, seed), seed) for seed in range(6)]
    expected = [tiny_engine.detect([picture], asked, options) for picture in pictures]
    encode, inside = tiny_engine.model.encode_image, threading.Lock()

    def alone(pixels: Tensor) -> Pyramid:
        assert inside.acquire(blocking=False)
        try:
            return encode(pixels)
        finally:
            inside.release()

    monkeypatch.setattr(tiny_engine.model, "encode_image", alone)
    look_there(tiny_engine, monkeypatch)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda one: tiny_engine.detect([one], asked, options), 3 * pictures))
    for one, other in zip(found, 3 * expected, strict=True):
        same(one, other)


def test_new_texts_are_encoded_together_where_that_is_faster(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt.of([f"thing {'of a thing ' * number}"]) for number in range(5)]
    rows = [[part] for prompt in prompts for part in tiny_engine.passes.of(prompt)]
    expected = tiny_engine._words(rows)
    encode, sizes = tiny_engine.model.encode_text, list[int]()

    def counted(tokens: Tokens) -> Words:
        sizes.append(len(tokens.ids))
        return encode(tokens)

    class Elsewhere:
        """A device that is the CPU, and does not say so."""

        type = "cuda"

    monkeypatch.setattr(tiny_engine.model, "encode_text", counted)
    monkeypatch.setattr(tiny_engine, "device", Elsewhere())
    monkeypatch.setattr(text_encoder, "uploaded", lambda tensor, device: tensor)
    monkeypatch.setattr(engine, "TEXTS_AT_ONCE", 2)
    assert all(a is b for a, b in zip(tiny_engine._words(rows), expected, strict=True))
    tiny_engine._texts.clear()
    found = tiny_engine._words([*rows, [rows[0][0], rows[1][0]]])
    assert sizes == [2, 2, 1]
    for one, other in zip(found[:5], expected, strict=True):
        torch.testing.assert_close(one, other)
    assert found[5].mask.sum(1).tolist() == [one.mask.sum() for one in expected[:2]]


def test_engine_knows_the_very_device_of_its_weights(tiny_detector: Detector) -> None:
    # "cuda" is another GPU in a thread of its own than where `torch.cuda.set_device` was called.
    class Elsewhere(torch.nn.Linear):
        def to(self, *_: Any, **__: Any) -> Elsewhere:
            return self

    model: Any = Elsewhere(1, 1, device="meta")
    made = Engine(model, tiny_detector.config, tiny_detector.tokenizer, device="cpu")
    assert made.device == torch.device("meta")


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
