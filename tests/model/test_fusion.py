"""Deep fusion against plain attention, with nothing folded and nothing tiled."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model.fusion import BiAttention
from glip.model.ops import exchange, tiles
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


def plain(
    layer: BiAttention, regions: Tensor, words: Words, factor: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Both directions as the paper writes them; `factor` of each region drops its weights."""

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def join(mixed: Tensor) -> Tensor:
        return mixed.transpose(1, 2).flatten(2)

    v, states = layer.visual_norm(regions), layer.text_norm(words.states)
    query = split(layer.visual_query(v)) * (WIDTH / HEADS) ** -0.5
    scores = query @ split(layer.text_key(states)).mT  # (B, H, A, T)
    to_words = scores.masked_fill(~words.mask[:, None, None], -math.inf).softmax(-1)
    to_regions = scores.mT.softmax(-1)  # over all regions
    to_words, to_regions = (to_words.mT * factor).mT, to_regions * factor
    delta_v = layer.visual_out(join(to_words @ split(layer.text_value(states))))
    delta_l = layer.text_out(join(to_regions @ split(layer.visual_value(v))))
    return v + layer.visual_gamma * delta_v, states + layer.text_gamma * delta_l


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    """Softmax and sums are in float32 whatever the inputs are."""
    torch.testing.assert_close(
        found, expected, rtol=1e-5, atol=1e-5, msg=lambda text: f"{name}: {text}"
    )


@pytest.fixture(params=[64 * HEADS * 5 * 4, 1 << 20], ids=["small tiles", "one tile"])
def tile_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CPU_BYTES", request.param)


@pytest.mark.usefixtures("tile_bytes")
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


def every_other(_: object, weights: Tensor) -> Tensor:
    """A dropout that is known: of every two neighbours one goes, the other counts double."""
    return (torch.arange(weights.shape[1]) % 2 * 2.0).to(weights)[:, None].expand_as(weights)


@pytest.mark.usefixtures("tile_bytes")
def test_values_and_gradients_with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights after dropout do not sum to one, so neither does the bias of the values.
    monkeypatch.setattr(exchange._Chance, "factor", every_other)
    layer, (regions, words) = a_fusion(0.5).train(), inputs(150)
    regions.requires_grad_()
    leaves = [regions, *layer.parameters()]
    found_v, found_l = layer(regions, words)
    expected = plain(layer, regions, words, torch.arange(150) % 2 * 2.0)
    close(found_v, expected[0])
    close(found_l.states, expected[1])
    ends = torch.randn_like(found_v), torch.randn_like(expected[1])
    for name, one, other in zip(
        ["regions", *dict(layer.named_parameters())],
        torch.autograd.grad([found_v, found_l.states], leaves, ends),
        torch.autograd.grad(expected, leaves, ends),
        strict=True,
    ):
        close(one, other, name)


def test_backward_pass_drops_what_the_forward_pass_dropped() -> None:
    # Along a straight line the values of a function and its slope agree only for one pattern.
    layer, (regions, words) = a_fusion(0.5).train(), inputs(80)
    direction = torch.randn_like(regions)

    def value(step: float) -> Tensor:
        torch.manual_seed(7)
        found_v, found_l = layer(regions + step * direction, words)
        return found_v.sin().sum() + found_l.states.sin().sum()

    regions.requires_grad_()
    (slope,) = torch.autograd.grad(value(0.0), regions)
    with torch.no_grad():
        difference = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((slope * direction).sum(), difference, rtol=1e-5, atol=1e-6)


def test_mixed_precision_keeps_its_dtypes() -> None:
    layer, (regions, words) = a_fusion(dtype=torch.float32), inputs(dtype=torch.float32)
    exact = layer(regions, words)[0]
    narrow = regions.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found_v, found_l = layer(narrow, words)
    assert found_v.dtype == torch.bfloat16 and found_l.states.dtype == torch.float32
    torch.testing.assert_close(found_v.float(), exact, rtol=0.05, atol=0.1)
    (found_v.float().sum() + found_l.states.sum()).backward()
    assert narrow.grad is not None and narrow.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())


def test_nothing_as_large_as_the_scores_is_kept_for_the_backward_pass() -> None:
    layer, (regions, words) = a_fusion(), inputs(5000)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        layer(regions, words)
    assert max(sizes) == regions.numel() < 2 * 5000 * HEADS * 5


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
