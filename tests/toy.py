"""The small models of all tests, and a world small enough to be learned: coloured squares.

`TINY` has every branch of GLIP, the Swin among them; `CONFIG` learns the squares in seconds.

Also a program, so that tests can kill it: `python toy.py FOLDER [--steps N] ...`.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from glip.config import BackboneConfig, HeadConfig, ModelConfig, PixelConfig, TextConfig
from glip.data.batch import Batch, Target, Targets
from glip.model.glip import GLIP
from glip.model.presets import build
from glip.model.text_encoder import Tokens
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.training.ema import Ema
from glip.training.loop import LoopConfig, train
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, Schedule, ScheduleConfig, build_optimizer
from glip.training.state import CheckpointFolder, TrainState, seed_generators

SIDE = 96
COLOURS = {"red": (2.0, -1.0, -1.0), "green": (-1.0, 2.0, -1.0), "blue": (-1.0, -1.0, 2.0)}

# Every part of GLIP at the smallest size that still has all its branches: 2 M parameters.
TINY = ModelConfig(
    name="tiny_for_tests",
    backbone=BackboneConfig(
        "swin_tiny_patch4_window7_224",
        drop_path=0.1,
        options={
            "embed_dim": 24,
            "depths": [1, 1, 2, 1],
            "num_heads": [1, 2, 4, 8],
            "window_size": 7,
        },
    ),
    text=TextConfig(
        options={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
        }
    ),
    head=HeadConfig(
        channels=32,
        blocks=2,
        fusion_heads=4,
        fusion_dim=64,
        text_layer_heads=4,
        text_layer_dim=64,
        group_norm_groups=8,
    ),
    pixels=PixelConfig(short_side=96, long_side=160),
)

# Of 1 M parameters, quick to learn.
CONFIG = ModelConfig(
    name="toy",
    backbone=BackboneConfig("test_efficientnet_gn", drop_path=0.1),
    text=TextConfig(
        options={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    ),
    head=HeadConfig(
        channels=32,
        blocks=1,
        fusion_heads=2,
        fusion_dim=64,
        text_layer_heads=2,
        text_layer_dim=64,
        group_norm_groups=4,
    ),
    pixels=PixelConfig(short_side=SIDE, long_side=SIDE),
)


def toy_model(config: ModelConfig = CONFIG, seed: int = 0) -> GLIP:
    """Untrained, the same for each seed."""
    torch.manual_seed(seed)
    return build(config)


@functools.lru_cache(maxsize=1)
def prompt() -> tuple[tuple[int, ...], Tensor]:
    """Token ids and token map of "red. green. blue"."""
    names = Prompt.from_classes(list(COLOURS))
    (only,) = names.passes(Tokenizer.bert_uncased())
    return only.token_ids, torch.from_numpy(only.token_map)


def picture(seed: int) -> tuple[Tensor, Target]:
    """(3, SIDE, SIDE) with a square of each of two colours, side by side."""
    generator = torch.Generator().manual_seed(seed)

    def whole_number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    pixels = 0.1 * torch.randn(3, SIDE, SIDE, generator=generator)
    phrases = torch.randperm(len(COLOURS), generator=generator)[:2]
    boxes = []
    for place, phrase in enumerate(phrases.tolist()):
        side = whole_number(28, 44)
        x, y = place * SIDE // 2 + whole_number(0, 48 - side), whole_number(0, SIDE - side)
        colour = torch.tensor(list(COLOURS.values())[phrase])
        pixels[:, y : y + side, x : x + side] = colour[:, None, None]
        boxes.append([x, y, x + side - 1, y + side - 1])
    return pixels, Target(torch.tensor(boxes, dtype=torch.float32), phrases)


def toy_batch(seeds: list[int]) -> Batch:
    """One picture for each seed."""
    ids, token_map = prompt()
    drawn = [picture(seed) for seed in seeds]
    tokens = Tokens.pad([ids] * len(seeds))
    return Batch(
        torch.stack([pixels for pixels, _ in drawn]),
        tokens,
        Targets.pad([target for _, target in drawn], [token_map] * len(seeds), tokens.mask),
        list(seeds),
    )


def toy_batches(start: int, size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    """Endless batches, decided by their number; each process has its part of a larger one."""
    number = start
    while True:
        first = number * size * world_size
        yield toy_batch(list(range(first + rank, first + size * world_size, world_size)))
        number += 1


def toy_state(model: GLIP, config: OptimizerConfig | None = None, ema: float = 0.9) -> TrainState:
    """A run at its beginning."""
    rates = config or OptimizerConfig(lr=1e-3, text_lr=1e-3)
    return TrainState(
        model,
        build_optimizer(model.named_parameters(), rates),
        torch.amp.GradScaler("cpu", enabled=False),
        Ema(model, ema),
    )


SCHEDULE = ScheduleConfig(warmup_steps=2)


def main() -> None:
    """Train, resuming if there is something to resume, perhaps killing itself on the way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--save-every", type=int, default=2)
    parser.add_argument("--die-in-step", type=int, help="before the backward pass of this step")
    parser.add_argument("--die-in-save", type=int, help="when half of this checkpoint is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    folder = CheckpointFolder(options.folder, keep=2)
    state = toy_state(toy_model())
    seed_generators(0)
    folder.load_newest(state)
    config = LoopConfig(options.steps, save_every=options.save_every)
    schedule = Schedule(SCHEDULE, config.steps)

    class Deadly(Criterion):
        def __call__(self, *args: object) -> dict[str, Tensor]:
            if state.step == options.die_in_step:
                die()
            return super().__call__(*args)  # type: ignore[arg-type]

    write = torch.save

    def half(content: object, file: object) -> None:
        write(content, file)
        if state.step == options.die_in_save:
            file.truncate(file.tell() // 2)  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]
            die()

    torch.save = half
    # Chance is part of what has to be resumed: dropout, stochastic depth and DropBlock are on.
    batches = toy_batches(state.step, size=2)
    train(state, batches, Deadly(), schedule, config, save=folder.save)


if __name__ == "__main__":
    sys.exit(main())
