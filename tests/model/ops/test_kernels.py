"""Kernels against sums by hand, on one map of two by two cells; larger ones are in `test_table.py`.

They run through Triton's interpreter on a CPU, or with TRITON_INTERPRET=0 on a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glip.model.ops.table import HAS_TRITON, kernels

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed"),
    pytest.mark.skipif(
        torch.__version__ < (2, 6), reason="the interpreter of an early Triton cannot run these"
    ),
]

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
CENTRE, RIGHT, BELOW, CORNER = 4, 5, 7, 8  # taps that lie inside, seen from the first cell
PLACE: Any = (slice(0, 1), 0, 1)


def the_map() -> Tensor:
    """(1, 4, 1) cells 1, 2 / 4, 8."""
    return torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64, device=DEVICE).view(1, 4, 1)


def moves_of(**moved: float) -> Tensor:
    """(1, 1, 27): taps where they are and half masked, but for the centre's "y", "x", "logit"."""
    moves = torch.zeros(1, 1, 27, dtype=torch.float64, device=DEVICE)
    moves[..., 2 * CENTRE] = moved.get("y", 0)
    moves[..., 2 * CENTRE + 1] = moved.get("x", 0)
    moves[..., 18 + CENTRE] = moved.get("logit", 0)
    return moves


def the_grid() -> Tensor:
    """(1, 5): the map begins at row 0 and is 2 by 2; the first tap lies above and to the left."""
    return torch.tensor([[0, 2, 2, -1, -1]], dtype=torch.int32, device=DEVICE)


@pytest.mark.parametrize(
    ("moved", "centre"),
    [
        ({}, 0.5),
        ({"x": 0.5}, 0.75),
        ({"y": 1.0, "x": 1.0}, 4.0),
        ({"y": 0.5, "x": 0.5}, 15 / 8),
        ({"x": -0.25}, 0.375),
        ({"x": 3.0}, 0.0),
        ({"logit": 50.0}, 1.0),
    ],
)
def test_centre_reads_between_cells_and_nothing_beyond_the_map(
    moved: dict[str, float], centre: float
) -> None:
    expected = torch.zeros(1, 9, dtype=torch.float64, device=DEVICE)
    expected[0, [RIGHT, BELOW, CORNER]] = expected.new_tensor([1.0, 2.0, 4.0])
    expected[0, CENTRE] = centre
    columns = kernels.gather(the_map(), moves_of(**moved), the_grid(), *PLACE)
    torch.testing.assert_close(columns, expected)


def test_gradients_are_the_slopes_of_the_sums() -> None:
    table, moves = the_map(), moves_of(x=0.5)
    grad_table, grad_moves = torch.zeros_like(table), torch.zeros_like(moves)
    ones = torch.ones(1, 9, dtype=torch.float64, device=DEVICE)
    kernels.gather_backward(table, moves, the_grid(), *PLACE, ones, grad_table, grad_moves)
    # The centre reads half of each upper cell, half masked.
    torch.testing.assert_close(grad_table.flatten(), table.new_tensor([0.25, 0.75, 0.5, 0.5]))
    of_centre = grad_moves[0, 0, [2 * CENTRE, 2 * CENTRE + 1, 18 + CENTRE]]
    # Down: from 1.5 to 6, half masked; along: from 1 to 2; the mask's slope is a quarter, of 1.5.
    torch.testing.assert_close(of_centre, table.new_tensor([2.25, 0.5, 0.375]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_in_float32_at_least(dtype: torch.dtype) -> None:
    assert kernels.wide_dtype(torch.empty(0, dtype=dtype)) == torch.float32
    assert kernels.wide_dtype(torch.empty(0, dtype=torch.float64)) == torch.float64


KERNELS = (
    *("_gather", "_gather_backward", "_chunk_sums", "_segment_moments", "_moments_backward"),
    "_combine",
)


@pytest.mark.parametrize("name", KERNELS)
def test_no_size_of_a_picture_or_batch_compiles_a_kernel_anew(name: str) -> None:
    from triton.runtime.jit import JITFunction

    function = JITFunction(getattr(kernels, name).fn, do_not_specialize=kernels.SIZES)
    tensors = {
        *("table", "moves", "grid", "columns", "grad_columns", "grad_table", "grad_moves"),
        *("raw", "runs", "of_segments", "shares", "partial", "moments", "grad", "grad_raw"),
        *("weights", "slopes", "biases", "corners", "corner_weights", "out"),
    }
    special = {p.name for p in function.params if not (p.is_constexpr or p.do_not_specialize)}
    assert special - tensors <= {"channels", "moves_output"}  # of the model
    assert set(kernels.SIZES) >= {p.name for p in function.params if p.do_not_specialize}


@pytest.mark.skipif(torch.__version__ < (2, 9), reason="an early Triton is called in another way")
def test_compiler_takes_the_kernels_and_orders_nothing_around_their_sums() -> None:
    # In acquire-release order, which is the default, each addition is a barrier for all memory.
    program = Path(__file__).with_name("compiled.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    kinds = ("fp32", "bf16", "fp16", "fp64")
    made = subprocess.run(
        [sys.executable, program, *kinds], env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert made.stdout.count("tt.func public") == 7 * len(kinds)
    sums = [line for line in made.stdout.splitlines() if "tt.atomic_rmw" in line]
    assert sums and all("relaxed" in line for line in sums)
