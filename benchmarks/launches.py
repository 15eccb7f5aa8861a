"""What a prediction would launch on a GPU, counted without one: the model runs on fake tensors.

Every operator of torch that is not a mere view counts once, ours too; `kernels` also counts what
ours launch inside. A value that is read back from the GPU ends the count with an error, as nobody
knows it here. The first run of a size also uploads tables of places, which later ones find.

    python benchmarks/launches.py                               # GLIP-T, 800x1344, bfloat16
    python benchmarks/launches.py --model glip_large --batch 4
"""

from __future__ import annotations

import argparse
import json
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from glip.config import ModelConfig
from glip.model.glip import GLIP
from glip.model.presets import PRESETS, build_empty, preset
from glip.model.text_encoder import Words

# Operators that launch nothing: views, and memory that is not written.
FREE = {
    *("alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh", "permute"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind"),
    *("unfold", "unsqueeze", "view", "_unsafe_view", "_reshape_alias", "unflatten", "flatten"),
    *("empty", "empty_like", "empty_strided", "new_empty", "is_same_size"),
}
# Kernels of an operator of ours: a gather and a product for each direction, two passes of sums.
KERNELS = {"glip::deformable": 6, "glip::segment_moments": 2}
# One for the process, so that tables of places are kept from one count to the next.
FAKE = FakeTensorMode(allow_non_fake_inputs=True)


class ReadBack(Exception):
    """A value that is on the GPU only was asked for."""


class Counting(TorchDispatchMode):
    """Counts the operators that are called inside, by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name not in FREE and not name.startswith("prim::"):
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Launches:
    """What one part of a prediction launches.

    Attributes:
        operators: How often each is called.
    """

    operators: Counter[str]

    @property
    def total(self) -> int:
        """Operators that launch something."""
        return self.operators.total()

    @property
    def kernels(self) -> int:
        """The same, with what our own operators launch inside."""
        return sum(KERNELS.get(name, 1) * count for name, count in self.operators.items())


def to_fake_gpu(model: GLIP, dtype: torch.dtype) -> None:
    """Give it parameters and buffers without numbers, on a GPU that need not exist."""
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in list(store.items()):
                if tensor is None:
                    continue
                kind = dtype if tensor.is_floating_point() else tensor.dtype
                fake: Tensor = torch.empty(tensor.shape, dtype=kind, device="cuda")
                if isinstance(tensor, nn.Parameter):
                    fake = nn.Parameter(fake, tensor.requires_grad)
                cast(dict[str, Tensor], store)[name] = fake


def counted(what: str, step: Callable[[], Any]) -> tuple[Any, Launches]:
    """What a step returns and launches.

    Raises:
        ReadBack: It asks for a value; the message has the line.
    """
    try:
        with Counting() as counting:
            result = step()
    except DataDependentOutputException as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = [
            frame
            for frame in frames
            if "site-packages" not in Path(frame.filename).parts and frame.filename != __file__
        ][-1]
        raise ReadBack(f"{what}: {place.filename}:{place.lineno}: {place.line}") from error
    return result, Launches(counting.calls)


def count_prediction(
    config: ModelConfig,
    size_hw: tuple[int, int],
    *,
    batch: int = 1,
    tokens: int = 23,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, Launches]:
    """Launches of the image encoder, and of everything after it, with the text encoded before.

    Args:
        config: Of the model.
        size_hw: Of the padded picture.
        batch: Pictures.
        tokens: Of the prompt.
        dtype: Of the model.
    Raises:
        ReadBack: A value is read back from the GPU on the way.
    """
    model = build_empty(config)
    with FAKE, torch.no_grad():
        to_fake_gpu(model, dtype)
        pixels = torch.empty(batch, 3, *size_hw, dtype=dtype, device="cuda")
        states = torch.empty(1, tokens, model.text.width, dtype=dtype, device="cuda")
        words = Words(states, torch.empty(1, tokens, dtype=torch.bool, device="cuda"))
        pyramid, image = counted("image encoder", lambda: model.encode_image(pixels))
        _, rest = counted("head", lambda: list(model.predict_prompts(pyramid, [words])))
    return {"image encoder": image, "head": rest}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(PRESETS), default="glip_tiny")
    parser.add_argument("--size", default="800x1344", help="of the padded picture")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=23, help="of the prompt")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--top", type=int, default=8, help="operators to list")
    parser.add_argument("--json", type=Path, help="write all counts there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and print."""
    options = parse(arguments)
    height, width = map(int, options.size.split("x"))
    parts = count_prediction(
        preset(options.model),
        (height, width),
        batch=options.batch,
        tokens=options.tokens,
        dtype=getattr(torch, options.dtype),
    )
    print(f"{options.model}, {options.size}, batch {options.batch}, {options.dtype}")
    print(f"{'part':16}{'operators':>10}{'kernels':>10}")
    for name, part in parts.items():
        print(f"{name:16}{part.total:10}{part.kernels:10}")
    totals = [sum(getattr(part, kind) for part in parts.values()) for kind in ("total", "kernels")]
    print(f"{'together':16}{totals[0]:10}{totals[1]:10}   nothing is read back")
    for name, part in parts.items():
        common = (f"{op} {count}" for op, count in part.operators.most_common(options.top))
        print(f"{name}: {', '.join(common)}")
    if options.json:
        counts = {name: dict(part.operators) for name, part in parts.items()}
        options.json.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
