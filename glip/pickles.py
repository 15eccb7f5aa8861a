"""PyTorch's own checkpoint files, opened so that nothing in them can do harm.

A pickle can run code and can ask for any amount of memory. Code is kept out by torch's
`weights_only`, memory by three looks: whether the file unpacks to more than it holds, whether it
asks for buffers, and whether its tensors are larger than the file they came from. Knows nothing
about models.
"""

from __future__ import annotations

import mmap
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glip.errors import CheckpointError

SLACK = 2**20  # bytes by which contents may exceed their file
BUFFER = b"bytearray"
"""What a pickle calls to get one."""
SHARED = 4
"""How many times its file's size tensors may hold together, as tied weights are stored once."""


def read_pickle(path: Path) -> Mapping[str, Any]:
    """The weights in a checkpoint: its "model" entry, or all of it.

    Raises:
        CheckpointError: Damaged, unsafe, larger than it looks, or no checkpoint.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    # official: results were published for `model`; `model_ema` beside it is another model
    state = content.get("model", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: its 'model' entry is a {type(state).__name__}, not weights")
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if wanted > SHARED * path.stat().st_size + SLACK:
        raise CheckpointError(
            f"{path} was refused: its tensors would take {wanted:,} bytes, the file has "
            f"{path.stat().st_size:,}"
        )
    return state


def _load(path: Path) -> Any:
    try:
        _refuse_bombs(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped into memory
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it holds more than tensors and could run code while it is opened "
            f"({str(error).splitlines()[0]}). If you trust its source, convert it on a machine you "
            "can afford to lose: state = torch.load(path, weights_only=False)['model']; "
            "torch.save({'model': dict(state)}, 'tensors_only.pth'), and load that file here"
        ) from error
    except Exception as error:  # damage shows in whatever the reader trips over first
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or truncated ({reason}); fetch it again"
        ) from error


def _refuse_bombs(path: Path) -> None:
    """Refuse a file that would take far more memory than it has bytes."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > size + SLACK:
                raise CheckpointError(
                    f"{path} was refused: it unpacks to {unpacked:,} bytes, the file has {size:,}"
                )
            pickles = (member for member in members if member.filename.endswith(".pkl"))
            if any(BUFFER in archive.read(member) for member in pickles):  # may be compressed
                raise _asks_for_a_buffer(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(BUFFER) >= 0:
            raise _asks_for_a_buffer(path)


def _asks_for_a_buffer(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} was refused: it asks for a buffer of any size, which no weights need"
    )
