"""Tables are made once, outlive inference mode, and are constants to compilers."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from glip.model.dyhead import DyHeadBlock
from glip.model.ops.kept import kept

pytestmark = pytest.mark.whole


def test_result_is_made_once_for_each_size_and_forgotten_in_order() -> None:
    made: list[int] = []

    @kept(2)
    def table(size: int) -> Tensor:
        made.append(size)
        return torch.arange(size)

    assert table(3) is table(3)
    table(4), table(5), table(3)
    assert made == [3, 4, 5, 3] and table.__name__ == "table"


def test_result_of_inference_mode_takes_part_in_training() -> None:
    table = kept(1)(lambda size: torch.ones(size))
    with torch.inference_mode():
        table(2)
    weight = torch.ones(2, requires_grad=True)
    (weight * table(2)).sum().backward()
    assert weight.grad is not None


def test_compilers_do_not_look_inside() -> None:
    @kept(4)
    def table(size: int) -> tuple[Tensor, int]:
        first = int(torch.arange(size).sum())  # would end a graph
        return torch.full((size,), float(first)), first

    def use(x: Tensor) -> Tensor:
        places, first = table(len(x))
        return x * places + first

    compiled = torch.compile(use, fullgraph=True, backend="eager")
    x = torch.randn(3)
    assert compiled(x).equal(use(x))


def test_tables_that_an_exporter_makes_serve_others() -> None:
    torch.manual_seed(0)
    shapes, regions = ((6, 9), (3, 5)), torch.randn(1, 69, 32)
    block = DyHeadBlock(32).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert isinstance(block(regions, shapes), FakeTensor)
    with torch.no_grad():
        found = block(regions, shapes)
    assert not isinstance(found, FakeTensor) and found.isfinite().all()
