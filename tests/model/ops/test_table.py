"""All levels at once against level by level: values, gradients, and what compilers see.

The kernels run through Triton's interpreter on a CPU, or with TRITON_INTERPRET=0 on a GPU.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from glip.model.dyhead import DyHeadBlock
from glip.model.ops import by_level, table, tiles
from glip.model.ops.levels import layout

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(not table.HAS_TRITON, reason="Triton is not installed"),
    pytest.mark.skipif(
        torch.__version__ < (2, 6), reason="the interpreter of an early Triton cannot run these"
    ),
]

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
C, GROUPS = 20, 4  # a block of the kernels is 32 channels
SHAPES = [
    [(5, 7), (3, 4), (2, 2), (1, 1)],
    [(3, 4), (2, 2)],
    [(2, 3)],
]
of_shapes = pytest.mark.parametrize("shapes", SHAPES, ids=str)


def a_block() -> DyHeadBlock:
    torch.manual_seed(11)
    block = DyHeadBlock(C, GROUPS)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block.double().to(DEVICE)


def some_regions(shapes: list[tuple[int, int]]) -> Tensor:
    torch.manual_seed(12)
    return torch.randn(2, sum(h * w for h, w in shapes), C).double().to(DEVICE)


@pytest.fixture
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "serves", lambda device: True)


def leaves_of(block: DyHeadBlock, regions: Tensor) -> dict[str, Tensor]:
    return {"regions": regions, **dict(block.named_parameters())}


@of_shapes
def test_block_equals_level_by_level(
    shapes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    block, regions = a_block(), some_regions(shapes).requires_grad_()
    leaves = leaves_of(block, regions)
    expected = block(regions, shapes)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, list(leaves.values()), grad, allow_unused=True)
    monkeypatch.setattr(table, "serves", lambda device: True)
    found = block(regions, shapes)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    got = torch.autograd.grad(found, list(leaves.values()), grad, allow_unused=True)
    for name, one, other in zip(leaves, got, wanted, strict=True):
        other = torch.zeros_like(leaves[name]) if other is None else other
        torch.testing.assert_close(
            one, other, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@of_shapes
def test_each_step_equals_its_own_level_by_level(shapes: list[tuple[int, int]]) -> None:
    block, regions = a_block(), some_regions(shapes)
    parts = block.same, block.finer, block.coarser
    kernels = [part.weight for part in parts], [part.bias for part in parts]
    with torch.no_grad():
        expected = by_level.convolve(regions, shapes, block.offset, *kernels)
        raw = table.convolve(regions, shapes, block.offset, *kernels)
        flat = [torch.cat(parts, 1).flatten(0, 1) for parts in expected if parts]
        torch.testing.assert_close(raw, torch.cat(flat))
        moments = by_level.moments(expected, shapes)
        torch.testing.assert_close(table.moments(raw, shapes), moments, rtol=1e-6, atol=1e-6)
        weights = torch.randn_like(moments[0])
        lines = torch.randn(2, 2, len(shapes), 2, C).to(raw)
        torch.testing.assert_close(
            table.combine(raw, weights, *lines, shapes),
            by_level.combine(expected, weights, *lines, shapes),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.usefixtures("all_at_once")
def test_size_of_tiles_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = SHAPES[1]
    block, regions = a_block(), some_regions(shapes).requires_grad_()
    leaves = list(leaves_of(block, regions).values())
    expected = block(regions, shapes)
    wanted = torch.autograd.grad(expected.square().sum(), leaves)
    for budget in ("CPU_BYTES", "GPU_BYTES"):
        monkeypatch.setattr(tiles, budget, 9 * 9 * C * 8)  # nine outputs
    found = block(regions, shapes)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), leaves), wanted)


@pytest.mark.usefixtures("all_at_once")
def test_offsets_that_are_not_finite_read_no_foreign_memory() -> None:
    shapes = SHAPES[2]
    block, regions = a_block(), some_regions(shapes)
    with torch.no_grad():
        block.offset.weight.zero_()
        block.offset.bias[:4] = torch.tensor([float("inf"), 0.0, -float("inf"), 0.0])
        kernels = [block.same.weight] * 3, [block.same.bias] * 3
        assert table.convolve(regions, shapes, block.offset, *kernels).isfinite().all()
        block.offset.bias[0] = float("nan")
        assert table.convolve(regions, shapes, block.offset, *kernels).isnan().all()


@pytest.mark.usefixtures("all_at_once")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_near_and_stays_half(dtype: torch.dtype) -> None:
    block, regions = a_block().float(), some_regions(SHAPES[1]).float()
    with torch.no_grad():
        expected = block(regions, SHAPES[1])
        found = block.to(dtype)(regions.to(dtype), SHAPES[1])
    assert found.dtype == dtype
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_operators_keep_the_rules_of_torch() -> None:
    shapes = SHAPES[1]
    places = layout(tuple(shapes), DEVICE)
    batch, outputs = 2, sum(places.counts)
    torch.manual_seed(3)
    options = {"dtype": torch.float64, "device": DEVICE}
    regions = torch.randn(batch, places.counts[0], C, **options, requires_grad=True)
    moves = torch.randn(batch, outputs, 27, **options, requires_grad=True)
    weight = torch.randn(3, C, 9 * C, **options, requires_grad=True)
    bias = torch.randn(3, C, **options, requires_grad=True)
    tests = "test_schema", "test_autograd_registration", "test_faketensor"
    convolution = regions, moves, places.grid, list(places.counts), weight, bias
    torch.library.opcheck(table.deformable, convolution, test_utils=tests)
    raw = torch.randn(batch * outputs, C, **options, requires_grad=True)
    torch.library.opcheck(table.segment_moments, (raw, batch, *places.chunks), test_utils=tests)
    weights = torch.randn(batch, 3 * len(shapes) - 2, C, **options, requires_grad=True)
    lines = [torch.randn(batch, len(shapes), 2, C, **options, requires_grad=True) for _ in range(2)]
    cells = places.cells
    combination = raw, weights, *lines, *cells[:3], *cells.counts
    torch.library.opcheck(table.combine_candidates, combination, test_utils=tests)


@pytest.mark.usefixtures("all_at_once")
def test_compiled_block_is_one_graph() -> None:
    block, regions = a_block().eval(), some_regions(SHAPES[1])
    with torch.no_grad():
        compiled = torch.compile(block, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(regions, SHAPES[1]), block(regions, SHAPES[1]))


def test_only_a_gpu_takes_all_levels_at_once() -> None:
    assert not table.serves(torch.device("cpu"))
    assert table.serves(torch.device("cuda"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_in_few_bits_gathers_and_multiplies_in_them(dtype: torch.dtype) -> None:
    # Norms leave float32 behind them, in which a GPU multiplies many times slower.
    block = DyHeadBlock(C, GROUPS)
    convs = block.same, block.finer, block.coarser
    parts = [conv.weight for conv in convs], [conv.bias for conv in convs]
    shapes = SHAPES[1]
    with FakeTensorMode(allow_non_fake_inputs=True):
        block.offset = torch.nn.Conv2d(C, 27, 3, padding=1)
        weights, biases = ([torch.empty(p.shape) for p in part] for part in parts)
        regions = torch.empty(2, sum(h * w for h, w in shapes), C)
        with torch.autocast("cpu", dtype):
            raw = table.convolve(regions, shapes, block.offset, weights, biases)
        assert raw.dtype == dtype and raw.shape == (2 * (16 + 4 + 4), C)
        assert table.convolve(regions, shapes, block.offset, weights, biases).dtype == torch.float32


def test_trial_of_triton_runs_where_kernels_do() -> None:
    table.kernels.trial(torch.device(DEVICE))


def test_gpu_on_which_triton_lacks_something_goes_level_by_level(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(device: torch.device) -> None:
        raise RuntimeError(f"Failed to find C compiler for {device}\nmore")

    launches = table._launches.__wrapped__  # type: ignore[attr-defined]  # as if not asked before
    monkeypatch.setattr(table, "_launches", launches)
    gpu = torch.device("cuda", 1)
    assert table.serves(gpu) or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(table, "is_at_least", lambda device, capability: True)
    monkeypatch.setattr(table.kernels, "trial", lacking, raising=False)
    assert not table.serves(gpu)
    said = "cannot launch kernels on cuda:1 (RuntimeError: Failed to find C compiler for cuda:1), "
    assert said in caplog.text
    with FakeTensorMode():
        assert table.serves(gpu)
