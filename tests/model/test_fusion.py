"""Deep fusion against plain attention, with nothing folded and nothing tiled."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model import fusion
from glip.model.fusion import BiAttention
from glip.model.text_encoder import Words

C, D, HEADS, WIDTH = 8, 12, 2, 16
MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def a_fusion(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> BiAttention:
    torch.manual_seed(5)
    layer = BiAttention(C, D, WIDTH, HEADS, dropout=dropout, gamma=0.5).eval()
    with torch.no_grad():
        for parameter in layer.parameters():  # biases, norms and gammas that are not all alike
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.to(dtype)


def inputs(regions: int = 150, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Words]:
    torch.manual_seed(6)
    return (
        torch.randn(2, regions, C, dtype=dtype) * 2,
        Words(torch.randn(2, 5, D, dtype=dtype) * 2, MASK),
    )


def plain(layer: BiAttention, regions: Tensor, words: Words) -> tuple[Tensor, Tensor]:
    """Both directions as the paper writes them."""

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def join(mixed: Tensor) -> Tensor:
        return mixed.transpose(1, 2).flatten(2)

    v, states = layer.visual_norm(regions), layer.text_norm(words.states)
    query = split(layer.visual_query(v)) * (WIDTH / HEADS) ** -0.5
    scores = query @ split(layer.text_key(states)).mT  # (B, H, A, T)
    to_words = scores.masked_fill(~words.mask[:, None, None], -math.inf).softmax(-1)
    to_regions = scores.mT.softmax(-1)  # over all regions
    delta_v = layer.visual_out(join(to_words @ split(layer.text_value(states))))
    delta_l = layer.text_out(join(to_regions @ split(layer.visual_value(v))))
    return v + layer.visual_gamma * delta_v, states + layer.text_gamma * delta_l


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    """Softmax and sums are in float32 whatever the inputs are."""
    torch.testing.assert_close(
        found, expected, rtol=1e-5, atol=1e-5, msg=lambda text: f"{name}: {text}"
    )


@pytest.fixture(params=[1, 1 << 20], ids=["small tiles", "one tile"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "CPU_TILE", request.param)  # 64 regions are the least


@pytest.mark.usefixtures("tiles")
def test_values_and_gradients_equal_plain_attention() -> None:
    layer, (regions, words) = a_fusion(), inputs()
    regions.requires_grad_()
    words.states.requires_grad_()
    leaves = [regions, words.states, *layer.parameters()]
    found_v, found_l = layer(regions, words)
    expected_v, expected_l = plain(layer, regions, words)
    close(found_v, expected_v)
    close(found_l.states, expected_l)
    ends = torch.randn_like(found_v), torch.randn_like(expected_l)
    found = torch.autograd.grad([found_v, found_l.states], leaves, ends)
    expected = torch.autograd.grad([expected_v, expected_l], leaves, ends)
    for name, one, other in zip(
        ["regions", "words", *dict(layer.named_parameters())], found, expected, strict=True
    ):
        close(one, other, name)
        assert other.any() or name == "text_key.bias", name


@torch.no_grad()
def test_padding_tokens_change_nothing() -> None:
    layer, (regions, words) = a_fusion(), inputs()
    found_v, found_l = layer(regions, words)
    alone_v, alone_l = layer(regions[1:], Words(words.states[1:, :3], MASK[1:, :3]))
    close(found_v[1:], alone_v)
    close(found_l.states[1:, :3], alone_l.states)
    loud = words.states.clone()
    loud[1, 3:] = 100.0
    close(layer(regions, Words(loud, MASK))[0], found_v)


@torch.no_grad()
def test_residual_starts_from_the_normalised_inputs() -> None:
    layer, (regions, words) = a_fusion(), inputs()
    layer.visual_gamma.zero_()
    layer.text_gamma.zero_()
    found_v, found_l = layer(regions, words)
    close(found_v, layer.visual_norm(regions))
    close(found_l.states, layer.text_norm(words.states))


@torch.no_grad()
def test_scores_of_any_size_stay_finite() -> None:
    layer, (regions, words) = a_fusion(dtype=torch.float32), inputs(dtype=torch.float32)
    layer.visual_query.weight.mul_(1e4)
    expected_v, expected_l = plain(layer, regions, words)
    found_v, found_l = layer(regions, words)
    assert found_v.isfinite().all() and found_l.states.isfinite().all()
    torch.testing.assert_close(found_v, expected_v, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found_l.states, expected_l, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_batch_equals_its_pictures_one_by_one() -> None:
    layer, (regions, words) = a_fusion(), inputs()
    together = layer(regions, words)
    for image in range(2):
        one = slice(image, image + 1)
        found = layer(regions[one], Words(words.states[one], MASK[one]))
        close(found[0][0], together[0][image])
        close(found[1].states[0], together[1].states[image])


# -------------------------------------------------------------------------------------- training


class EveryOther(nn.Module):
    """Dropout with a known pattern: of every two neighbours one goes, the other counts double."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.arange(x.shape[1]) % 2 * 2).view(1, -1, *[1] * (x.ndim - 2))


@torch.no_grad()
@pytest.mark.parametrize("tile", [1, 1 << 20])
def test_dropped_attention_takes_its_share_of_the_value_bias(
    monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    # Attention weights after dropout do not sum to one, so neither does the bias of the values.
    monkeypatch.setattr(fusion, "CPU_TILE", tile)
    layer, (regions, words) = a_fusion().train(), inputs(128)
    layer.dropout = EveryOther()
    _, found = layer(regions, words)
    v, states = layer.visual_norm(regions), layer.text_norm(words.states)
    query, value = (
        part(v).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (layer.visual_query, layer.visual_value)
    )
    key = layer.text_key(states).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    weights = (key @ query.mT * (WIDTH / HEADS) ** -0.5).softmax(-1)  # (B, H, T, A)
    weights = weights * (torch.arange(128) % 2 * 2)
    assert (weights.sum(-1) - 1).abs().max() > 0.01
    delta = layer.text_out((weights @ value).transpose(1, 2).flatten(2))
    close(found.states, states + layer.text_gamma * delta)


@torch.no_grad()
def test_dropout_keeps_the_expectation() -> None:
    layer, (regions, words) = a_fusion(0.3), inputs(64)
    expected_v, expected_l = layer(regions, words)
    layer.train()
    draws = [layer(regions, words) for _ in range(400)]
    mean_v = torch.stack([v for v, _ in draws]).mean(0)
    mean_l = torch.stack([words.states for _, words in draws]).mean(0)
    assert not draws[0][0].equal(draws[1][0])
    torch.testing.assert_close(mean_v, expected_v, rtol=0, atol=0.25)
    assert F.mse_loss(mean_v, expected_v) < F.mse_loss(draws[0][0], expected_v) / 50
    one_draw = F.mse_loss(draws[0][1].states, expected_l.states)
    assert F.mse_loss(mean_l, expected_l.states) < one_draw / 50


def test_training_with_dropout_reaches_every_weight() -> None:
    layer, (regions, words) = a_fusion(0.3).train(), inputs(64)
    found_v, found_l = layer(regions, words)
    (found_v.square().sum() + found_l.states.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_weights_begin_as_officially() -> None:
    layer = BiAttention(C, D, WIDTH, HEADS, gamma=1 / 6)
    assert layer.visual_gamma.eq(1 / 6).all() and layer.text_gamma.eq(1 / 6).all()
    for part in layer.children():
        if isinstance(part, nn.Linear):
            assert part.bias.eq(0).all()
            bound = math.sqrt(6 / sum(part.weight.shape))
            assert 0.8 * bound < part.weight.abs().max() <= bound
