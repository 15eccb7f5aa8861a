"""WiSE-FT (arXiv 2109.01903): weights between a base model and what was tuned from it.

Somewhere on the way most of the new task is learned and little of the open vocabulary is lost.
"""

from __future__ import annotations

from dataclasses import replace

from glip.checkpoint import Weights
from glip.errors import CheckpointError
from glip.settings import within
from glip.task_prompt import TaskPrompt


def interpolate(base: Weights, tuned: Weights, share: float) -> Weights:
    """`(1 - share) * base + share * tuned`, tensor by tensor, in float32.

    Raises:
        ConfigError: A share outside [0, 1].
        CheckpointError: Models of different make.
    """
    _check(share)
    before, after = (
        {(key, tuple(tensor.shape)) for key, tensor in weights.state.items()}
        for weights in (base, tuned)
    )
    if before != after:
        odd = min(before ^ after)[0]
        raise CheckpointError(
            f"{base.config.name} and {tuned.config.name} cannot be interpolated: {odd} differs"
        )
    state = {
        key: tensor.float().lerp(tuned.state[key].float(), share)
        if tensor.is_floating_point()
        else tuned.state[key]
        for key, tensor in base.state.items()
    }
    return replace(tuned, state=state)


def interpolate_prompt(tuned: TaskPrompt, share: float) -> TaskPrompt:
    """The same for a learned prompt, which began with offsets of zero.

    Raises:
        ConfigError: A share outside [0, 1].
    """
    _check(share)
    return tuned.learned(share * tuned.offsets)


def _check(share: float) -> None:
    within("the share of the tuned weights", share, least=0, most=1)
