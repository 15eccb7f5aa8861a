"""Swin's blocks against a slow version that pads, rolls, cuts and masks step by step."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from glip.model.ops import tiles, windows
from glip.model.ops.windows import relative_position_index, run_blocks, run_in_tiles, run_on_map
from glip.model.swin import SwinStages
from tests.uploads import Uploads

Run = Callable[[Any, Tensor, int], Tensor]

WINDOW = 4
CHANNELS = 8


def small_swin(drop_path: float = 0.0) -> SwinStages:
    """Two stages; every number of it random, the bias tables and norms included."""
    torch.manual_seed(1)
    net = SwinStages(
        "swin_tiny_patch4_window7_224",
        drop_path,
        embed_dim=CHANNELS,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=WINDOW,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def net() -> SwinStages:
    return small_swin()


def plain_block(block: Any, x: Tensor, shift: int) -> Tensor:
    """One block over a whole (B, H, W, C) map, window by window."""
    batch, height, width, channels = x.shape
    heads = block.attn.num_heads
    normal = F.pad(block.norm1(x), (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
    high, wide = normal.shape[1:3]
    normal = normal.roll((-shift, -shift), (1, 2))
    region = torch.zeros(high, wide)
    if shift:
        parts = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
        for number, (rows, columns) in enumerate(product(parts, parts)):
            region[rows, columns] = number
    mixed = torch.empty_like(normal)
    for image, top, left in product(range(batch), range(0, high, WINDOW), range(0, wide, WINDOW)):
        place = slice(top, top + WINDOW), slice(left, left + WINDOW)
        qkv = block.attn.qkv(normal[image][place].reshape(-1, channels))
        query, key, value = qkv.view(WINDOW**2, 3, heads, -1).permute(1, 2, 0, 3)
        scores = query * query.shape[-1] ** -0.5 @ key.mT
        for a, b in product(range(WINDOW**2), repeat=2):
            down, right = a // WINDOW - b // WINDOW, a % WINDOW - b % WINDOW
            row = (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1
            scores[:, a, b] = scores[:, a, b] + block.attn.relative_position_bias_table[row]
        pieces = region[place].flatten()
        scores = scores - 100.0 * (pieces[:, None] != pieces)
        out = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        mixed[image][place] = block.attn.proj(out).view(WINDOW, WINDOW, channels)
    x = x + mixed.roll((shift, shift), (1, 2))[:, :height, :width]
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


SIZES = [(8, 8), (4, 8), (5, 7), (3, 2), (1, 1), (9, 4)]


BOTH = pytest.mark.parametrize("run", [run_in_tiles, run_on_map])


@torch.no_grad()
@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_blocks_equal_the_slow_version(net: SwinStages, size: tuple[int, int], run: Run) -> None:
    torch.manual_seed(2)
    x = torch.randn(2, *size, CHANNELS)
    blocks = net.layers[0].blocks
    expected = plain_block(blocks[1], plain_block(blocks[0], x, 0), WINDOW // 2)
    torch.testing.assert_close(run(blocks, x, WINDOW), expected, rtol=1e-4, atol=1e-4)


@BOTH
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_gradients_equal_those_of_the_slow_version(size: tuple[int, int], run: Run) -> None:
    blocks = small_swin().layers[0].blocks.double()
    x = torch.randn(1, *size, CHANNELS, dtype=torch.float64, requires_grad=True)
    inputs = [x, *blocks.parameters()]
    slow = plain_block(blocks[1], plain_block(blocks[0], x, 0), WINDOW // 2)
    found = torch.autograd.grad(run(blocks, x, WINDOW).square().sum(), inputs)
    expected = torch.autograd.grad(slow.square().sum(), inputs)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_result_in_place_equals_the_one_with_gradients(
    net: SwinStages, size: tuple[int, int]
) -> None:
    x = torch.randn(2, *size, CHANNELS)
    before = x.clone()
    recorded = run_blocks(net.layers[0].blocks, x, WINDOW)
    assert x.equal(before)
    with torch.no_grad():
        torch.testing.assert_close(
            run_blocks(net.layers[0].blocks, x, WINDOW), recorded, rtol=1e-5, atol=1e-5
        )


@BOTH
@pytest.mark.parametrize("record", [True, False])
def test_size_of_tiles_changes_nothing(
    net: SwinStages, monkeypatch: pytest.MonkeyPatch, record: bool, run: Run
) -> None:
    x, blocks = torch.randn(2, 13, 10, CHANNELS), net.layers[0].blocks
    with torch.set_grad_enabled(record):
        expected = run(blocks, x.clone(), WINDOW)
        monkeypatch.setattr(tiles, "CPU_BYTES", 4 * 4 * CHANNELS * WINDOW**2 * 2)  # two windows
        found = run(blocks, x.clone(), WINDOW)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@BOTH
@torch.no_grad()
def test_compiled_blocks_are_one_graph(net: SwinStages, run: Run) -> None:
    x, blocks = torch.randn(1, 5, 7, CHANNELS), net.layers[0].blocks
    compiled = torch.compile(lambda x: run(blocks, x, WINDOW), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x.clone()), run(blocks, x.clone(), WINDOW))


@torch.no_grad()
def test_another_number_of_images_finds_the_same_map(
    net: SwinStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, made = windows._cut, list[int]()

    def counted(batch: int, *size: int) -> Any:
        made.append(batch)
        return cut(batch, *size)

    monkeypatch.setattr(windows, "_cut", counted)
    x, blocks = torch.randn(5, 11, 6, CHANNELS), net.layers[0].blocks
    together = run_on_map(blocks, x, WINDOW)
    assert made == [1, 1]  # not shifted, and shifted
    for count in (1, 3):
        found = run_on_map(blocks, x[:count], WINDOW)
        torch.testing.assert_close(found, together[:count], rtol=1e-5, atol=1e-5)
    assert made == [1, 1]


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
@pytest.mark.parametrize("shift", [0, 2])
def test_a_map_for_several_images_uploads_nothing(shift: int) -> None:
    with FakeTensorMode():
        one, whole = windows._map_of(13, 10, WINDOW, shift, "cuda", torch.float32)
        with Uploads() as uploads:
            several = windows._of_batch(one, whole, 3)
    assert uploads.found == []
    assert several.cells.device.type == "cuda" and len(several.cells) == 3 * len(one.cells)


def test_a_cpu_takes_tiles(net: SwinStages) -> None:
    x, blocks = torch.randn(1, 9, 9, CHANNELS), net.layers[0].blocks
    assert run_blocks(blocks, x, WINDOW).equal(run_in_tiles(blocks, x, WINDOW))


def test_index_of_relative_positions_of_a_window_of_two() -> None:
    assert relative_position_index(2).view(4, 4).tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


# -------------------------------------------------------------------------------------- training


class Halve(nn.Module):
    """Stands for stochastic depth: a factor that depends on the image."""

    def forward(self, ones: Tensor) -> Tensor:
        return ones * torch.tensor([[2.0], [0.0]])


@BOTH
def test_stochastic_depth_has_one_factor_for_each_image(run: Run) -> None:
    block = small_swin().layers[0].blocks[:1].train()
    x = torch.randn(1, 5, 7, CHANNELS).repeat(2, 1, 1, 1)
    block[0].drop_path2 = Halve()
    kept, dropped = run(block, x, WINDOW)
    block[0].drop_path2 = nn.Identity()
    plain = run(block, x, WINDOW)[0]
    torch.testing.assert_close(kept - dropped, 2 * (plain - dropped), rtol=1e-4, atol=1e-4)
    block[0].drop_path1 = block[0].drop_path2 = Halve()
    torch.testing.assert_close(run(block, x, WINDOW)[1], x[1])


def test_stochastic_depth_keeps_the_expectation() -> None:
    net = small_swin(drop_path=0.5)
    block = net.layers[1].blocks[1:]  # the last one has the full rate
    x = torch.randn(1, 1, 1, 2 * CHANNELS)
    with torch.no_grad():
        expected = run_blocks(block, x.clone(), WINDOW) - x
        block[0].mlp.fc2.weight.zero_()
        block[0].mlp.fc2.bias.zero_()  # one branch, so that the expectation is exact
        expected = run_blocks(block, x.clone(), WINDOW) - x
        many = x.repeat(4000, 1, 1, 1)
        found = (run_blocks(block.train(), many.clone(), WINDOW) - x).mean(0)
    torch.testing.assert_close(found, expected[0], rtol=0.1, atol=0)
