"""Zero-shot detectors of transformers as teachers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import torch
from PIL import Image

from glip.errors import PromptError
from glip.pseudo.teacher import BoxConfig
from glip.pseudo.teachers import load_teacher
from glip.pseudo.transformers_teacher import TransformersTeacher
from glip.pseudo.views import teach, views
from glip.text.prompt import Prompt

MakePicture = Callable[..., Image.Image]


PROMPT = Prompt.from_caption("a cat and a dog on a red sofa")


LONG = Prompt.from_caption(". ".join(f"a cat and dog number {n}" for n in range(60)))


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
