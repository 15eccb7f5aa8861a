"""The engine of exported models, with graphs that answer by hand: no runtime needs to be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glip
from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import NotFiniteError, PromptError
from glip.model.fpn import LEVEL_STRIDES
from glip.pixels import Prepared
from glip.runtime.engine import GraphEngine
from glip.runtime.manifest import TOKENIZER, WORDS, Manifest, write_manifest
from glip.runtime.sessions import RegionOutput
from glip.task_prompt import TaskPrompt, save_prompt
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from tests.toy import CONFIG

WIDTH = 4
NAMES = Prompt.from_classes(["cat", "dog"])
"""[CLS] cat . dog . [SEP], or without the last period: the names are the tokens 1 and 3."""


class Graphs:
    """Finds the first name in the first cell of the finest level, and the second beside it, less
    surely; its box there is the anchor. What it is asked for is written down.
    """

    def __init__(self, folder: Path, manifest: Manifest, **options: Any) -> None:
        self.images: list[tuple[int, ...]] = []
        self.texts: list[list[int]] = []
        self.states: list[np.ndarray] = []
        self.broken = False

    def encode_image(self, pixels: np.ndarray) -> list[np.ndarray]:
        self.images.append(pixels.shape)
        sides = [(-(-pixels.shape[2] // s), -(-pixels.shape[3] // s)) for s in LEVEL_STRIDES]
        return [np.zeros((len(pixels), 1, *hw), np.float32) for hw in sides]

    def encode_text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert ids.shape == mask.shape and mask.all()
        self.texts.append(ids[0].tolist())
        return np.zeros((1, ids.shape[1], WIDTH), np.float32)

    def predict_regions(
        self, levels: Sequence[np.ndarray], states: np.ndarray, mask: np.ndarray
    ) -> RegionOutput:
        self.states.append(states)
        regions = sum(level.shape[2] * level.shape[3] for level in levels)
        logits = np.full((1, regions, states.shape[1]), -9, np.float32)
        logits[0, 0, 1] = np.nan if self.broken else 4
        if states.shape[1] > 3:
            logits[0, 1, 3] = 2
        sure = np.full((1, regions), 9, np.float32)
        return RegionOutput(logits, np.zeros((1, regions, 4), np.float32), sure)


def engine_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, task: TaskPrompt | None = None, **manifest: Any
) -> tuple[GraphEngine, Graphs]:
    monkeypatch.setattr("glip.runtime.engine.Graphs", Graphs)
    baked = task is not None
    written = Manifest(CONFIG, "onnx", "float32", "abc", "0.2.0", baked=baked, **manifest)
    write_manifest(folder, written)
    for name in written.graphs:
        written.graph(folder, name).touch()
    (folder / TOKENIZER).write_text(Tokenizer.bert_uncased().to_json())
    if task is not None:
        save_prompt(folder / WORDS, task)
    engine = GraphEngine(folder)
    assert isinstance(engine.graphs, Graphs)  # type: ignore[unreachable]
    return engine, engine.graphs  # type: ignore[unreachable]


def seen(engine: GraphEngine, *sizes: tuple[int, int]) -> list[Prepared]:
    """Grey pictures of widths and heights."""
    return [engine.prepare(Image.new("RGB", size, "grey"), n) for n, size in enumerate(sizes)]


def test_boxes_are_in_pixels_of_the_picture_and_names_those_of_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_of(tmp_path, monkeypatch)
    pictures = seen(engine, (192, 192))  # twice what the model takes
    [[found]] = engine.detect(pictures, [[NAMES]], PostprocessOptions(score=0.5))
    assert found.phrases == ["cat", "dog"] and found.image_hw == (192, 192)
    assert found.scores[0] == pytest.approx(np.sqrt(1 / (1 + np.exp(-4))), abs=1e-3)
    assert found.boxes.min() >= 0 and (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert found.boxes[1, 2] - found.boxes[0, 2] == pytest.approx(2 * LEVEL_STRIDES[0])


def test_a_picture_is_seen_once_for_all_prompts_and_a_text_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = engine_of(tmp_path, monkeypatch)
    cup = Prompt.from_classes(["cup"])
    pictures = seen(engine, (96, 96), (96, 48), (90, 90))  # the last one is enlarged
    found = engine.detect(pictures, [[NAMES, cup], [cup], [NAMES]], PostprocessOptions())
    assert [len(own) for own in found] == [2, 1, 1]
    assert graphs.images == [(2, 3, 96, 96), (1, 3, 64, 96)]
    assert len(graphs.texts) == 2 and len(graphs.states) == 4
    engine.detect(pictures, [[NAMES]] * 3, PostprocessOptions(), batch_size=1)
    assert [shape[0] for shape in graphs.images[2:]] == [1, 1, 1]
    assert len(graphs.texts) == 2


def test_names_beyond_a_pass_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = engine_of(tmp_path, monkeypatch)
    many = Prompt.from_classes([f"thing number {number}" for number in range(150)])
    [[found]] = engine.detect(seen(engine, (96, 96)), [[many]], PostprocessOptions(score=0.5))
    firsts = [part.rows[0] for part in engine.passes.of(many)]
    assert len(graphs.texts) == len(firsts) > 1
    assert {*firsts} <= {*found.phrase_ids.tolist()}


def test_only_one_phrase_for_each_thing_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = engine_of(tmp_path, monkeypatch)
    pictures = seen(engine, (96, 96))
    for nms, exclusive, names in ((0.9, True, 2), (0.6, True, 1), (0.6, False, 2)):
        options = PostprocessOptions(score=0.5, nms=nms, exclusive=exclusive)
        [[found]] = engine.detect(pictures, [[NAMES]], options)
        assert len(found) == names and found.phrases[0] == "cat"


def test_numbers_that_are_none_are_told_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = engine_of(tmp_path, monkeypatch)
    graphs.broken = True
    with pytest.raises(NotFiniteError, match=f"{tmp_path} gives NaN or infinity"):
        engine.detect(seen(engine, (96, 96)), [[NAMES]], PostprocessOptions())


def baked() -> TaskPrompt:
    """Words whose states are ones, less what was learned of them."""
    [part] = NAMES.passes(Tokenizer.bert_uncased())
    states = np.ones((len(part.token_ids), WIDTH), np.float32)
    return TaskPrompt(
        prompt=NAMES,
        token_ids=part.token_ids,
        token_map=part.token_map,
        states=states,
        offsets=-0.25 * states,
        base=CONFIG.name,
        fingerprint="abc",
    )


def test_baked_words_need_no_text_encoder_and_are_the_only_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = engine_of(tmp_path, monkeypatch, baked())
    detector = Detector(engine)
    [found] = detector.predict(Image.new("RGB", (96, 96)), threshold=0.5)
    assert found.phrases == ["cat", "dog"] and graphs.texts == []
    np.testing.assert_array_equal(graphs.states[0], np.float32(0.75))
    with pytest.raises(PromptError, match="does not know 'cup'"):
        detector.predict(Image.new("RGB", (96, 96)), ["cup"])


def test_pictures_are_fitted_into_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, graphs = engine_of(tmp_path, monkeypatch, size_hw=(64, 96))
    pictures = seen(engine, (300, 50), (20, 200))
    assert [one.resized_hw for one in pictures] == [(16, 96), (64, 6)]
    found = engine.detect(pictures, [[NAMES]] * 2, PostprocessOptions())
    assert {shape[2:] for shape in graphs.images} == {(64, 96)}
    for [one], (width, height) in zip(found, ((300, 50), (20, 200)), strict=True):
        assert one.image_hw == (height, width)
        assert (one.boxes <= [width, height, width, height]).all()


def test_the_engine_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = engine_of(tmp_path, monkeypatch)
    assert (engine.config, engine.dtype, engine.device, engine.fingerprint) == (
        CONFIG, "float32", "cpu", "abc",
    )  # fmt: skip
    assert repr(glip.Detector(engine)) == "<Detector: toy on cpu, float32, threshold 0.3>"
