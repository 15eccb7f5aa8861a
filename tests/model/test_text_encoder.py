"""Token states: padding, other encoders than BERT, and the layer that the head repeats."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from glip.errors import ConfigError
from glip.model.text_encoder import TextEncoder, TextLayer, Tokens, Words

TINY: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32, "vocab_size": 100},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 32, "vocab_size": 100},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 100},
}  # fmt: skip


def test_prompts_are_padded_to_the_longest() -> None:
    tokens = Tokens.pad([(5, 6, 7), (8,)], pad_id=9)
    assert tokens.ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert tokens.mask.tolist() == [[True, True, True], [True, False, False]]
    assert tokens.ids.dtype == torch.int64 and tokens.to("cpu").mask.dtype == torch.bool


@torch.no_grad()
@pytest.mark.parametrize("model_type", TINY)
def test_padding_changes_no_state_and_is_zero(model_type: str) -> None:
    encoder = TextEncoder(model_type, TINY[model_type]).eval()
    assert encoder.width == 16
    short, long = (11, 12, 13), (21, 22, 23, 24, 25)
    together = encoder(Tokens.pad([short, long]))
    torch.testing.assert_close(together.states[0, :3], encoder(Tokens.pad([short])).states[0])
    assert together.states[0, 3:].eq(0).all()


def test_no_weight_is_without_use() -> None:
    encoder = TextEncoder("bert", TINY["bert"])
    encoder(Tokens.pad([(1, 2, 3)])).states.square().sum().backward()
    idle = [name for name, weight in encoder.named_parameters() if weight.grad is None]
    assert idle == []


@pytest.mark.parametrize(
    ("model_type", "options", "message"),
    [
        ("brt", {}, "'brt' is not a model type of transformers; did you mean 'bert'"),
        ("bert", {"hidden_siz": 8}, "no option 'hidden_siz'; did you mean 'hidden_size'"),
        ("bert", {"hidden_size": 30, "num_attention_heads": 4}, "'bert': .*30.* multiple of"),
        ("clip", {}, "'clip': .*hidden_size"),
    ],
)
def test_what_cannot_be_built_says_why(model_type: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextEncoder(model_type, options)


# ---------------------------------------------------------------------------------- the text layer


def a_layer(dropout: float = 0.0) -> TextLayer:
    torch.manual_seed(3)
    return TextLayer(8, heads=2, hidden=12, dropout=dropout)


MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


@torch.no_grad()
def test_layer_equals_plain_attention() -> None:
    layer, x = a_layer().eval(), torch.randn(2, 4, 8)
    query, key, value = (
        part(x).view(2, 4, 2, 4).transpose(1, 2) for part in (layer.query, layer.key, layer.value)
    )
    scores = query @ key.mT / 2 - 1e9 * ~MASK[:, None, None]
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(2, 4, 8)
    x_1 = F.layer_norm(x + layer.out(mixed), (8,), eps=1e-12)
    hidden = F.gelu(layer.expand(x_1))
    expected = F.layer_norm(x_1 + layer.shrink(hidden), (8,), eps=1e-12)
    found = layer(Words(x, MASK))
    torch.testing.assert_close(found.states, expected, rtol=1e-5, atol=1e-5)
    assert found.mask.equal(MASK)


@torch.no_grad()
def test_no_token_attends_to_padding() -> None:
    layer, x = a_layer().eval(), torch.randn(2, 4, 8)
    other = x.clone()
    other[0, 3] = 50.0
    torch.testing.assert_close(
        layer(Words(x, MASK)).states[MASK], layer(Words(other, MASK)).states[MASK]
    )


def test_dropout_acts_in_training_only() -> None:
    layer, words = a_layer(0.5), Words(torch.randn(2, 4, 8), MASK)
    layer.eval()
    assert layer(words).states.equal(layer(words).states)
    layer.train()
    assert not layer(words).states.equal(layer(words).states)


def test_weights_begin_as_torch_draws_them() -> None:
    torch.manual_seed(0)
    layer = TextLayer(64, heads=4, hidden=256)
    for part in layer.modules():
        if isinstance(part, nn.Linear):
            bound = part.in_features**-0.5
            assert 0.9 * bound < part.weight.abs().max() <= bound
            assert part.bias.any()


@pytest.mark.parametrize("heads", [3, 0])
def test_heads_must_divide_the_width(heads: int) -> None:
    with pytest.raises(ConfigError, match=f"width 8 is not divisible by {heads} heads"):
        TextLayer(8, heads=heads, hidden=12)
