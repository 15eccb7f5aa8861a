"""Teachers on random weights, and which of their boxes are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from glip.checkpoint import file_sha256
from glip.detector import Detector
from glip.errors import CheckpointError, ConfigError, PromptError
from glip.pseudo.teacher import BoxConfig, Teacher
from glip.pseudo.teachers import GlipTeacher, load_teacher
from glip.pseudo.transformers_teacher import TransformersTeacher
from glip.pseudo.views import agreed, mirrored_prompt, teach, views
from glip.structures import Detections
from glip.text.prompt import Prompt

MakePicture = Callable[..., Image.Image]
PROMPT = Prompt.from_caption("a cat and a dog on a red sofa")
LONG = Prompt.from_caption(". ".join(f"a cat and dog number {n}" for n in range(60)))


def detections(
    rows: list[tuple[float, float, float, float, float, int]], prompt: Prompt = PROMPT
) -> Detections:
    """Boxes (x1, y1, x2, y2, score, phrase) in a picture of 100 x 50 pixels."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long(), prompt, (50, 100))


# GLIP.


@pytest.fixture
def glip_teacher(tiny_detector: Detector) -> GlipTeacher:
    return GlipTeacher(tiny_detector, name="tiny.safetensors", sha256="0" * 64)


def test_glip_finds_what_predict_finds(
    glip_teacher: GlipTeacher, tiny_detector: Detector, make_picture: MakePicture
) -> None:
    image, boxes = make_picture(), BoxConfig(min_score=0.4, max_boxes_per_phrase=100, min_size=0)
    [[found, long]] = teach(
        glip_teacher, [views(glip_teacher, image, [PROMPT, LONG], boxes)], boxes
    )
    [expected] = tiny_detector.predict(image, PROMPT, threshold=0.4)
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    [expected] = tiny_detector.predict(image, LONG, threshold=0.4)
    assert len(LONG.passes(tiny_detector.tokenizer)) > 1
    assert len(long) == len(expected) > 0
    assert {int(row) for row in long.phrase_ids} <= set(range(len(LONG)))


def test_weights_of_a_teacher_have_a_name_and_a_fingerprint(tiny_file: Path) -> None:
    teacher = load_teacher(str(tiny_file), device="cpu")
    assert teacher.identity() == {
        "kind": "glip",
        "name": "tiny.safetensors",
        "model": "tiny_for_tests",
        "sha256": file_sha256(tiny_file),
        "dtype": "float32",
    }
    with pytest.raises(PromptError, match="needs 300 tokens"):
        teacher.check(Prompt.from_caption("dog " * 300, [(0, 1199)]))


# Which boxes are kept.


class Fixed:
    """A teacher that has its answers ready, one for each look."""

    def __init__(self, *answers: Detections) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def prepare(self, image: Image.Image) -> Any:
        return image

    def ground(self, pictures: Any, prompts: Any, boxes: BoxConfig) -> list[list[Detections]]:
        self.asked += [prompts[0][0].text]
        return [[self.answers[len(self.asked) - 1]]]


def kept(boxes: BoxConfig, *answers: Detections) -> list[list[float]]:
    teacher: Teacher = Fixed(*answers)  # type: ignore[assignment]
    picture = views(teacher, Image.new("RGB", (100, 50)), [PROMPT], boxes)
    [[found]] = teach(teacher, [picture], boxes)
    return [
        [*box, round(score, 3), row]
        for box, score, row in zip(
            found.boxes.tolist(), found.scores.tolist(), found.phrase_ids.tolist(), strict=True
        )
    ]


def test_small_boxes_and_the_worst_of_a_phrase_go() -> None:
    found = detections(
        [
            (0, 0, 20, 20, 0.9, 0),
            (0, 0, 3, 20, 0.8, 0),
            (10, 0, 30, 20, 0.7, 1),
            (50, 0, 70, 20, 0.6, 0),
            (60, 0, 80, 20, 0.5, 0),
            (0, 0, 4, 4, 0.4, 1),
        ]
    )
    rows = kept(BoxConfig(max_boxes_per_phrase=2, min_size=4), found)
    assert [(row[4], row[5]) for row in rows] == [(0.9, 0), (0.7, 1), (0.6, 0), (0.4, 1)]
    assert len(kept(BoxConfig(max_boxes_per_phrase=2, max_boxes=3), found)) == 3
    assert kept(BoxConfig(), detections([])) == []


def test_two_looks_have_to_agree() -> None:
    found = detections(
        [
            (10, 10, 30, 30, 0.8, 0),  # mirrored: 70 to 90
            (40, 10, 60, 30, 0.7, 0),  # seen as another phrase there
            (60, 10, 80, 30, 0.6, 1),  # seen half as wide
            (0, 10, 10, 30, 0.5, 1),  # not seen
        ]
    )
    again = detections(
        [(70, 10, 90, 30, 0.4, 0), (40, 10, 60, 30, 0.9, 1), (30, 10, 40, 30, 0.9, 1)]
    )
    assert kept(BoxConfig(agreement=0.7), found, again) == [[10, 10, 30, 30, 0.6, 0]]
    rows = kept(BoxConfig(agreement=0.5), found, again)
    assert [(row[4], row[5]) for row in rows] == [(0.75, 1), (0.6, 0)]  # best first
    assert kept(BoxConfig(agreement=0.5), found, detections([])) == []
    assert kept(BoxConfig(agreement=0.5), detections([]), again) == []


def test_the_mirrored_picture_is_asked_for_mirrored_words() -> None:
    prompt = Prompt.from_caption("the man on the left has a very long beard")
    other = mirrored_prompt(prompt)
    assert other.text == "the man on the right has a very long beard"
    assert other.names == ("the man", "the right", "a very long beard")
    unsure = Prompt.from_caption("he left the room")
    assert mirrored_prompt(unsure) is unsure and mirrored_prompt(PROMPT) is PROMPT


def test_agreement_with_a_real_mirror_image(
    glip_teacher: GlipTeacher, make_picture: MakePicture
) -> None:
    image = make_picture()
    boxes = BoxConfig(min_score=0.45, min_size=0, max_boxes_per_phrase=100)
    [[found]] = teach(glip_teacher, [views(glip_teacher, image, [PROMPT], boxes)], boxes)
    [[mirrored]] = teach(
        glip_teacher, [views(glip_teacher, ImageOps.mirror(image), [PROMPT], boxes)], boxes
    )
    both = agreed(found, mirrored, 0.5)
    again = replace(boxes, agreement=0.5)
    [[whole]] = teach(glip_teacher, [views(glip_teacher, image, [PROMPT], again)], again)
    assert 0 < len(both) == len(whole) <= len(found)
    torch.testing.assert_close(whole.scores, both.scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, "threshold must lie between 0 and 1"),
        ({"agreement": 0.0}, "an IoU above 0"),
        ({"max_boxes_per_phrase": 0}, "must be at least 1, got 0"),
        ({"max_boxes": 0}, "whole number from 1"),
        ({"min_size": -1.0}, "must not be negative"),
        ({"aggregate": "median"}, "aggregate must be one of"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BoxConfig(**options)


# Transformers.


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest Grounding DINO, with random weights, as `save_pretrained` writes it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("grounding_dino")
    vocabulary = folder / "vocab.txt"
    packaged = resources.files("glip.text").joinpath("bert_uncased_vocab.txt")
    vocabulary.write_text(packaged.read_text(encoding="utf-8"), encoding="utf-8")
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ).to_dict(),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=4, decoder_attention_heads=4, num_queries=30, max_text_len=64,
        num_feature_levels=4, disable_custom_kernels=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GroundingDinoForObjectDetection(config)
    model.save_pretrained(folder)
    transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
        transformers.BertTokenizerFast(str(vocabulary)),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest OWLv2, with random weights."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("owl")
    letters = [chr(code) for code in range(97, 123)]
    # The model takes a text that begins with token 0 for none.
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    (folder / "vocab.json").write_text(
        "{" + ",".join(f'"{token}": {n}' for n, token in enumerate(tokens)) + "}"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n")
    shared = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2}  # fmt: skip
    config = transformers.Owlv2Config(
        text_config={**shared, "vocab_size": len(tokens), "max_position_embeddings": 16,
                     "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 2},
        vision_config={**shared, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Owlv2ForObjectDetection(config)
    model.save_pretrained(folder)
    transformers.Owlv2Processor(
        transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64}),
        transformers.CLIPTokenizerFast(
            str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>"
        ),
    ).save_pretrained(folder)
    return folder


def test_grounding_dino_scores_the_spans_of_a_caption(
    grounding_dino: Path, make_picture: MakePicture
) -> None:
    teacher = load_teacher(str(grounding_dino), device="cpu")
    assert isinstance(teacher, TransformersTeacher)
    boxes = BoxConfig(min_score=0.0, nms=1.0, min_size=0, max_boxes_per_phrase=1000, max_boxes=1000)
    image = make_picture(90, 60)
    [[found, long, empty]] = teach(
        teacher, [[*views(teacher, image, [PROMPT, LONG, PROMPT], boxes)]], boxes
    )
    assert set(found.phrase_ids.tolist()) == {0, 1, 2}
    assert set(long.phrase_ids.tolist()) == set(range(len(LONG)))  # more than 64 tokens
    torch.testing.assert_close(found.scores, empty.scores)
    # The same by transformers' own way from outputs to boxes.
    [view] = views(teacher, image, [PROMPT], boxes)
    words = teacher._words([PROMPT.text + " ."], return_tensors="pt")
    with torch.inference_mode():
        output = teacher._model(pixel_values=view.picture.pixels[None], **words)
    best = output.logits[0, :, 1:3].sigmoid().max(-1).values.max()  # "a cat"
    assert found.scores[found.phrase_ids == 0].max().item() == pytest.approx(best.item(), abs=1e-4)
    query = output.logits[0, :, 1:3].sigmoid().max(-1).values.argmax()
    x, y, w, h = output.pred_boxes[0, query].tolist()
    box = found[found.phrase_ids == 0].boxes[0]
    expected = [max((x - w / 2) * 90, 0), max((y - h / 2) * 60, 0)]
    torch.testing.assert_close(torch.from_numpy(box[:2]), torch.tensor(expected), atol=0.01, rtol=0)


def test_owl_is_asked_for_each_phrase(owl: Path, make_picture: MakePicture) -> None:
    teacher = load_teacher(str(owl), device="cpu")
    boxes = BoxConfig(min_score=0.0, nms=1.0, min_size=0, max_boxes_per_phrase=1000, max_boxes=1000)
    other = Prompt.from_caption("a dog and a cat")
    image = make_picture(90, 60)
    [[found, again]] = teach(teacher, [views(teacher, image, [PROMPT, other], boxes)], boxes)
    assert set(found.phrase_ids.tolist()) == {0, 1, 2}
    dogs = found[found.phrase_ids == 1], again[again.phrase_ids == 0]
    torch.testing.assert_close(dogs[0].scores, dogs[1].scores)
    # A square is padded below: boxes are shares of the longer side.
    assert isinstance(teacher, TransformersTeacher)
    [view] = views(teacher, image, [PROMPT], boxes)
    assert teacher._scale(view.picture) == (90, 90)
    with pytest.raises(PromptError, match="owlv2 takes 16"):
        teacher.check(Prompt("a" * 40, (((0, 40),),)))
    identity = teacher.identity()
    assert identity["kind"] == "owlv2" and len(identity["sha256"]) == 64
    assert identity == load_teacher(str(owl), device="cpu").identity()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert"}', "holds a bert, which is no teacher that is known"),
        ("{}", "config.json cannot be read"),
        ('{"model_type": "owlv2"}', "cannot be loaded by transformers"),
    ],
)
def test_folders_that_hold_no_teacher(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    logging.disable(logging.WARNING)
    with pytest.raises(CheckpointError, match=message):
        load_teacher(str(tmp_path))
    logging.disable(logging.NOTSET)
