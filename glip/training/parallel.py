"""One model over several processes: DDP or FSDP2, straight from torch.distributed.

No engine stands between the loop and torch: the loop needs three lines of it (wrap, hold back the
synchronisation while gradients accumulate, gather for a checkpoint), and an exact resume has to
know every generator and every state there is, which is easier where nobody else keeps some.

- "ddp" keeps the whole model on each device: the faster one whenever it fits.
- "fsdp" (`fully_shard`) keeps a share of weights, gradients and optimizer state on each, which
  makes room for GLIP-L or larger batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from glip.distributed import is_distributed, is_main
from glip.errors import ConfigError
from glip.model.glip import GLIP
from glip.training.features import FromFeatures
from glip.training.freezing import statistics_stay

Strategy = Literal["ddp", "fsdp"]


def checkpoint_activations(model: GLIP) -> None:
    """Forget activations inside large parts and compute them again in the backward pass.

    The parts are the image encoder, the text encoder and each stage of the head; memory falls to
    that of the largest, time rises by about a third, results stay the same.
    """
    for part in (model.backbone, model.text, *model.head.stages):
        # On the instance, so that names of weights and the type of the part stay as they are.
        part.forward = partial(_checkpointed, part, part.forward)


def _checkpointed(part: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    """The outputs of a part of a model, which is run again for their gradients."""
    if not torch.is_grad_enabled():
        # Nor may the state of a GPU's generator be asked for while a prediction is recorded.
        return forward(*inputs)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), statistics_stay(part)),
    )


def parallelise(model: GLIP | FromFeatures, strategy: Strategy = "ddp") -> nn.Module:
    """The model as each process calls it; itself when there is one process only.

    Args:
        model: On the device of this process, frozen as it will stay.
        strategy: See the module.
    """
    if not is_distributed():
        return model
    if strategy == "fsdp":
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:  # before torch 2.6
            raise ConfigError(
                f"strategy 'fsdp' needs torch 2.6, this is {torch.__version__}; use 'ddp'"
            ) from error
        inner = cast(GLIP, unwrapped(model))
        # An engine lays convolutions out by pixels, which cannot be sharded.
        inner.to(memory_format=torch.contiguous_format)
        for part in (inner.backbone, inner.text, *inner.head.stages):
            fully_shard(part)
        return cast(nn.Module, fully_shard(model))
    device = next(model.parameters()).device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )


def synchronise_batch_norm(model: GLIP, device: torch.device) -> GLIP:
    """Let batch norms that train see the pictures of all processes; a GPU can, a CPU cannot.

    Args:
        model: Not yet wrapped; its batch norms are replaced.
        device: Of this process.
    """
    if not is_distributed() or device.type != "cuda":
        return model
    # That of torch would lose the activations that timm's batch norms end with.
    from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

    return cast(GLIP, convert_sync_batchnorm(model))


@contextmanager
def gradients_stay_local(model: nn.Module, active: bool) -> Iterator[None]:
    """Inside, backward passes do not talk to other processes, if `active`: for accumulation."""
    synchronise = getattr(model, "set_requires_gradient_sync", None)  # of `fully_shard`
    if synchronise is not None:
        synchronise(not active)
        yield
        return
    held = isinstance(model, DistributedDataParallel) and active
    with cast(DistributedDataParallel, model).no_sync() if held else nullcontext():
        yield


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what `parallelise` and `FromFeatures` put around it."""
    while isinstance(model, (DistributedDataParallel, FromFeatures)):
        model = cast(nn.Module, model.module)
    return model


def is_sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Whether a tensor is in shards: a `DTensor`, which torch 2.4 does not have in public yet."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor, *, everywhere: bool = True) -> Tensor:
    """A tensor on the CPU, put together from its shards. A collective call if it is sharded.

    Args:
        tensor: Whole or sharded.
        everywhere: Off, only the main process gets it, and the others an empty one: a machine
            with many processes need not hold as many copies.
    """
    tensor = tensor.detach()
    if is_sharded(tensor):
        tensor = tensor.full_tensor()
    if not everywhere and not is_main():
        return torch.empty(0)
    return tensor.to("cpu", copy=True)


@torch.no_grad()
def sharded_like(tensor: Tensor, example: Tensor) -> Tensor:
    """A whole tensor on the device of another one, sharded if that is. Collective if sharded."""
    tensor = tensor.to(example.device)
    if is_sharded(example):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, example.device_mesh, example.placements)
    return tensor
