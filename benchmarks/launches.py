"""What a prediction, and the losses of a training step, would launch on a GPU, counted without one:
they run on fake tensors.

Every operator of torch that is not a mere view counts once, ours too; `kernels` also counts what
ours launch inside. A value that is read back from the GPU ends the count with an error, as nobody
knows it here. The first run of a size also uploads tables of places, which later ones find. With
`--boxes` it counts the losses alone, for the outputs that such a model has.

    python benchmarks/launches.py                               # GLIP-T, 800x1344, bfloat16
    python benchmarks/launches.py --model glip_large --batch 4
    python benchmarks/launches.py --size 256x256 --batch 128 --boxes 8
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
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from glip.config import ModelConfig
from glip.data.batch import Targets
from glip.model.fpn import LEVEL_STRIDES
from glip.model.glip import GLIP
from glip.model.head import HeadOutput
from glip.model.presets import PRESETS, build_empty, preset
from glip.model.text_encoder import Words
from glip.training.losses import Criterion

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
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
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


def count_losses(
    size_hw: tuple[int, int], *, batch: int = 1, tokens: int = 23, boxes: int = 8
) -> Launches:
    """Launches of all losses, with the assignment of anchors, on the way forward.

    Args:
        size_hw: Of the padded pictures.
        batch: Pictures.
        tokens: Of the longest prompt.
        boxes: Of the picture that has most.
    Raises:
        ReadBack: A value is read back from the GPU on the way.
    """
    sizes = tuple(-(-size_hw[0] // s) * -(-size_hw[1] // s) for s in LEVEL_STRIDES)
    with FAKE, torch.device("cuda"):
        whole = (batch, sum(sizes))
        output = HeadOutput(
            torch.empty(*whole, tokens, requires_grad=True),
            torch.empty(*whole, 4, requires_grad=True),
            torch.empty(*whole, requires_grad=True),
            torch.empty(sum(sizes), 4),
            sizes,
        )
        targets = Targets(
            torch.empty(batch, boxes, 4),
            torch.empty(batch, boxes, tokens, dtype=torch.bool),
            torch.empty(batch, boxes),
            torch.empty(batch, tokens, dtype=torch.bool),
        )
        return counted("losses", lambda: Criterion()(output, targets))[1]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(PRESETS), default="glip_tiny")
    parser.add_argument("--size", default="800x1344", help="of the padded picture")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=23, help="of the prompt")
    parser.add_argument("--boxes", type=int, help="of a training picture: count the losses")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--top", type=int, default=8, help="operators to list")
    parser.add_argument("--json", type=Path, help="write all counts there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and print."""
    options = parse(arguments)
    height, width = map(int, options.size.split("x"))
    size, batch, tokens = (height, width), options.batch, options.tokens
    if options.boxes:
        parts = {"losses": count_losses(size, batch=batch, tokens=tokens, boxes=options.boxes)}
    else:
        dtype = getattr(torch, options.dtype)
        config = preset(options.model)
        parts = count_prediction(config, size, batch=batch, tokens=tokens, dtype=dtype)
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
