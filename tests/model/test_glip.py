"""The model as a whole: prompts over one pyramid, padding, modes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glip.config import ModelConfig
from glip.errors import ConfigError
from glip.model.glip import GLIP
from glip.model.head import HeadOutput, Outputs
from glip.model.presets import build
from glip.model.text_encoder import TextEncoder, Tokens

PROMPTS = [(101, 4937, 102), (101, 3899, 1012, 4937, 1012, 2482, 102), (101, 6302, 1012, 102)]


@pytest.fixture(scope="module")
def fused(make_tiny_model: Callable[[], GLIP]) -> GLIP:
    return make_tiny_model()


@pytest.fixture(scope="module")
def unfused(tiny_config: ModelConfig) -> GLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build(replace(tiny_config, head=replace(tiny_config.head, fusion=False)))


@pytest.fixture(params=["fused", "unfused"])
def model(request: pytest.FixtureRequest) -> GLIP:
    return request.getfixturevalue(request.param)


def pictures(count: int = 1) -> Tensor:
    return torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(3))


def close(found: HeadOutput, expected: HeadOutput, tokens: int | None = None) -> None:
    torch.testing.assert_close(
        (found.logits[..., :tokens], *found[1:4]),
        (expected.logits[..., :tokens], *expected[1:4]),
        rtol=1e-4,
        atol=1e-4,
    )
    assert found.level_sizes == expected.level_sizes


@torch.no_grad()
def test_shapes_and_types(model: GLIP) -> None:
    output = model(pictures(2), Tokens.pad(PROMPTS[:2]))
    assert output.level_sizes == (96, 24, 6, 2, 1)
    shapes = [(2, 129, 7), (2, 129, 4), (2, 129), (129, 4)]
    assert [tuple(part.shape) for part in output[:4]] == shapes
    assert {part.dtype for part in output[:4]} == {torch.float32}


@torch.no_grad()
def test_many_prompts_over_one_pyramid_equal_single_calls(model: GLIP) -> None:
    pixels, prompts = pictures(), [Tokens.pad([ids]) for ids in PROMPTS]
    together = list(
        model.predict_prompts(
            model.encode_image(pixels), [model.encode_text(tokens) for tokens in prompts]
        )
    )
    for found, tokens in zip(together, prompts, strict=True):
        close(found, model(pixels, tokens))


@torch.no_grad()
@pytest.mark.parametrize(("name", "runs"), [("fused", 3), ("unfused", 1)])
def test_tower_without_fusion_runs_once_for_all_prompts(
    request: pytest.FixtureRequest, name: str, runs: int
) -> None:
    model: GLIP = request.getfixturevalue(name)
    calls = []
    handle = model.head.stages[0].register_forward_hook(lambda *_: calls.append(1))
    words = [model.encode_text(Tokens.pad([ids])) for ids in PROMPTS]
    list(model.predict_prompts(model.encode_image(pictures()), words))
    handle.remove()
    assert len(calls) == runs


@torch.no_grad()
def test_one_prompt_serves_all_pictures(model: GLIP) -> None:
    pixels, ids = pictures(3), PROMPTS[1]
    close(model(pixels, Tokens.pad([ids])), model(pixels, Tokens.pad([ids] * 3)))


@torch.no_grad()
def test_batch_equals_its_pictures_one_by_one(model: GLIP) -> None:
    pixels = pictures(3)
    together = model(pixels, Tokens.pad(PROMPTS))
    for image, ids in enumerate(PROMPTS):
        alone = model(pixels[image : image + 1], Tokens.pad([ids]))
        expected = together._replace(
            **{n: getattr(together, n)[image][None] for n in ("logits", "deltas", "centerness")}
        )
        close(alone, expected, len(ids))


@torch.no_grad()
def test_padding_the_prompt_to_256_tokens_changes_nothing(model: GLIP) -> None:
    short = Tokens.pad([PROMPTS[1]])
    extra = 256 - len(PROMPTS[1])
    long = Tokens(
        torch.nn.functional.pad(short.ids, (0, extra)),
        torch.nn.functional.pad(short.mask, (0, extra)),
    )
    close(model(pictures(), long), model(pictures(), short), len(PROMPTS[1]))


@torch.no_grad()
def test_words_reach_the_boxes_through_fusion_only(fused: GLIP, unfused: GLIP) -> None:
    for model, same in ((fused, False), (unfused, True)):
        one, other = (model(pictures(), Tokens.pad([ids])) for ids in PROMPTS[:2])
        assert one.deltas.equal(other.deltas) == same
        assert not one.logits[..., :3].equal(other.logits[..., :3])


def test_training_gives_the_same_kind_of_output_with_chance_and_gradients(
    make_tiny_model: Callable[[], GLIP],
) -> None:
    model, tokens = make_tiny_model(), Tokens.pad([PROMPTS[1]])
    assert not model.training
    expected = model(pictures(), tokens)
    found, again = (model.train()(pictures(), tokens) for _ in range(2))
    assert isinstance(found, HeadOutput) and found.level_sizes == expected.level_sizes
    assert [part.shape for part in found[:4]] == [part.shape for part in expected[:4]]
    assert not found.logits.equal(again.logits)
    sum(part.square().sum() for part in found[:3]).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None]
    # The first map of Swin has no use, and neither the norm that others would give it.
    assert idle == []


def test_words_of_another_width_are_refused(fused: GLIP) -> None:
    options = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    with pytest.raises(ConfigError, match="takes words of width 32, the text encoder gives 16"):
        GLIP(fused.backbone, fused.neck, TextEncoder("bert", options), fused.head)
    assert isinstance(fused.head.outputs, Outputs)
