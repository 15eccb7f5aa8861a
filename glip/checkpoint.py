"""Weights on disk: our safetensors files with the config inside, and official checkpoints.

Nothing here ever runs code from a file: pickles are opened with `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glip.config import ModelConfig, TextConfig
from glip.convert import convert, is_official, recognise, without_effect
from glip.errors import CheckpointError, ConfigError, listed
from glip.files import parsed_json, read_json, whole_path
from glip.model.glip import GLIP
from glip.model.presets import SOURCES, build_empty, preset, without_sources
from glip.model.prompt_table import PromptTable
from glip.pickles import read_pickle
from glip.released import FOLDER_CONFIG, METADATA, RELEASED, find, is_transformers_folder
from glip.settings import from_dict
from glip.text.tokenizer import Tokenizer

FORMAT = 1
MOST_TOKENIZER_BYTES = 64 * 2**20
MOST_LAYERS = 1000
MOST_OF_ANYTHING = 10_000_000
FOLDER_PREFIX = "glip."
"""Of the names of weights in such a folder."""
READ_AT_A_TIME = 16  # tensors that are in memory as the file holds them, where they are rounded
SAMPLED = 4096  # values of each tensor that go into a fingerprint


@dataclass(frozen=True)
class Weights:
    """What a file holds: tensors under our names and the config that fits them."""

    config: ModelConfig
    state: Mapping[str, Tensor]
    tokenizer_json: str | None = None
    """The tokenizer, if it is not the packaged one."""
    dropped: tuple[str, ...] = ()
    """Keys of the official file that are not kept, as they change no result."""
    exact: str | None = None
    """Of tensors that were rounded as they were read, the fingerprint of what the file holds."""


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """What tells a model from all others, but for its text encoder, which a prompt replaces.

    Up to 4096 values of each tensor count, evenly spaced: training changes all of them, and a look
    at each would take longer than loading.

    Args:
        state: Tensors by our names, at the precision of their file.
    Returns:
        16 hexadecimal digits; the same for float32 and float16 files of equal values.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(_sample(name, state[name]))
    return digest.hexdigest()[:16]


def _sample(name: str, tensor: Tensor) -> bytes:
    """What a tensor adds to the fingerprint."""
    if name.startswith("text."):
        return b""
    values = tensor.detach().flatten()
    kept = values[:: max(1, len(values) // SAMPLED)].to("cpu", torch.float32).contiguous()
    return f"{name} {tuple(tensor.shape)}\n".encode() + kept.numpy().tobytes()


def read(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Weights:
    """Read one of our files or an official checkpoint; the content tells which.

    Args:
        path: The file, or a folder of transformers.
        dtype: What the tensors are for: our own files are rounded as they are read, so that no more
            than a piece of the file is in memory beside the result.
    Raises:
        CheckpointError: Missing, empty, truncated, unsafe, or of a model that is not known here.
    """
    path = Path(path)
    if is_transformers_folder(path):
        return _read_folder(path)
    try:
        # A pipe would be waited for without end.
        if os.path.exists(path) and not os.path.isfile(path):
            raise CheckpointError(f"weights {path} are no regular file; save them to one first")
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read weights {path}: {error.strerror}") from error
    if len(head) < 9:
        raise CheckpointError(f"{path} is {'empty' if not head else 'truncated'}; fetch it again")
    if head[8:9] == b"{":
        return _read_safetensors(path, dtype)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _from_official(read_pickle(path), path)
    raise CheckpointError(f"{path} is neither a safetensors file nor a PyTorch checkpoint")


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """The config of a weights file; of our own files without reading the weights.

    Raises:
        CheckpointError: As `read`.
    """
    path = Path(path)
    if is_transformers_folder(path):
        return _config_of_folder(path)
    if not os.path.isfile(path):
        return read(path).config  # which says what is wrong
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        metadata = {}  # another format, or none: `read` knows, and says what is wrong
    return _config_of(metadata, path) if METADATA in metadata else read(path).config


def _read_safetensors(path: Path, dtype: torch.dtype) -> Weights:
    exact = None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = sorted(file.keys())
            if METADATA not in metadata or dtype == torch.float32:
                state = {key: file.get_tensor(key) for key in keys}
        if METADATA in metadata and dtype != torch.float32:
            state, exact = _read_rounded(path, keys, dtype)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or truncated ({error}); fetch it again"
        ) from error
    if METADATA not in metadata:
        return _from_official(state, path)
    config = _config_of(metadata, path)
    tokenizer = metadata.get("tokenizer") or _tokenizer_beside(path, config)
    return Weights(config, state, tokenizer, exact=exact)


def _read_rounded(
    path: Path, keys: Sequence[str], dtype: torch.dtype
) -> tuple[dict[str, Tensor], str]:
    """Tensors as a model holds them, and the fingerprint of what they were."""
    state: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for start in range(0, len(keys), READ_AT_A_TIME):
        # Opened anew for each piece: what was read of a file stays in memory until it is closed.
        with safe_open(path, framework="pt") as file:
            for key in keys[start : start + READ_AT_A_TIME]:
                tensor = file.get_tensor(key)
                digest.update(_sample(key, tensor))
                state[key] = _rounded(key, tensor, dtype)
    return state, digest.hexdigest()[:16]


def _rounded(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as a model of some number format holds it.

    A copy wherever the others are: one tensor that stays would hold the whole file in memory.
    """
    copy = dtype != torch.float32
    if not tensor.is_floating_point():
        return tensor.clone() if copy else tensor
    wanted = torch.float32 if key.startswith("head.outputs.") else dtype
    return tensor.to(wanted, copy=copy)


def _config_of_folder(folder: Path) -> ModelConfig:
    path = folder / FOLDER_CONFIG
    content = read_json(path)
    return _checked_config(content.get(METADATA), path)


def _read_folder(folder: Path) -> Weights:
    """Weights that `glip.hf` wrote, in one file or several."""
    config = _config_of_folder(folder)
    state: dict[str, Tensor] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} holds no weights (*.safetensors); fetch it again")
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - no mapping
                    state[key.removeprefix(FOLDER_PREFIX)] = file.get_tensor(key)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged or truncated ({error})") from error
    words = folder / "tokenizer.json"
    if config.text.tokenizer == TextConfig.tokenizer:
        return Weights(config, state)
    if not os.path.isfile(words) or words.stat().st_size > MOST_TOKENIZER_BYTES:
        raise CheckpointError(f"{folder} lacks a tokenizer.json of usual size; fetch it again")
    return Weights(config, state, Tokenizer.from_file(words).to_json())


def _config_of(metadata: Mapping[str, str], path: Path) -> ModelConfig:
    """The config in the header of one of our files."""
    try:
        header = parsed_json(metadata[METADATA])
        if header["format"] != FORMAT:  # its config may have keys that we do not know
            raise CheckpointError(
                f"{path} has format {header['format']}, this version of glip reads {FORMAT}; "
                "update glip"
            )
        content = header["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its config cannot be read: {error}") from error
    return _checked_config(content, path)


def _checked_config(content: Any, path: Path) -> ModelConfig:
    """A config that came with weights: one that builds a model and reads nothing else.

    Raises:
        CheckpointError: Unknown or missing keys, numbers no model has, or files to be opened.
    """
    try:
        config = from_dict(ModelConfig, content, where="config")
        _refuse_giants(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its config cannot be read: {error}") from error
    unsafe = SOURCES.intersection(config.backbone.options)
    if unsafe:
        raise CheckpointError(
            f"{path} was refused: its config makes timm read other files "
            f"(backbone.options.{min(unsafe)})"
        )
    return config


def _tokenizer_beside(path: Path, config: ModelConfig) -> str | None:
    """The `tokenizer.json` that weights without one of their own name: a file beside them.

    Raises:
        CheckpointError: It lies elsewhere, is missing, or is far too large.
    """
    name = config.text.tokenizer
    if name == TextConfig.tokenizer:
        return None
    file = path.parent / name
    if Path(name).name != name or not os.path.isfile(file):
        raise CheckpointError(
            f"{path} names the tokenizer {name!r}; only a file beside the weights is opened, put "
            "the tokenizer.json there"
        )
    if file.stat().st_size > MOST_TOKENIZER_BYTES:
        raise CheckpointError(f"{file} is larger than any tokenizer.json, {MOST_TOKENIZER_BYTES:,}")
    return Tokenizer.from_file(file).to_json()


def _refuse_giants(config: object, name: str = "config") -> None:
    """Refuse numbers that no model has and that building it would choke on.

    Raises:
        ValueError: With the name of the number.
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            _refuse_giants(value, f"{name}.{key}")
    elif isinstance(config, list):
        for place, value in enumerate(config):
            _refuse_giants(value, f"{name}[{place}]")
    elif isinstance(config, (int, float)):
        limit = MOST_LAYERS if re.search("layers|blocks|depth", name) else MOST_OF_ANYTHING
        if not abs(config) <= limit:
            raise ValueError(f"{name} is {config}, which is more than {limit:,}")


def _from_official(state: Mapping[str, Any], path: Path) -> Weights:
    stripped = {str(key).removeprefix("module."): value for key, value in state.items()}
    if len(stripped) < len(state):
        raise CheckpointError(f"{path} holds keys twice, with and without 'module.'")
    if not is_official(stripped):
        some = ", ".join(list(stripped)[:3]) or "nothing"
        raise CheckpointError(f"{path} holds no GLIP model (its keys begin with {some})")
    wrong = [key for key, value in stripped.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]} is not a tensor")
    dropped = tuple(key for key in stripped if without_effect(key))
    with naming(path):
        name = recognise({key: tuple(value.shape) for key, value in stripped.items()})
        config = preset(name)
        named = (known for known, one in RELEASED.items() if one.official == path.name)
        by_file = next(named, None)
        if by_file is not None and preset(by_file) == replace(config, name=by_file):
            config = preset(by_file)  # the file's name says which training data it saw
        return Weights(config, convert(stripped), dropped=dropped)


def assemble(
    weights: Weights, dtype: torch.dtype = torch.float32, table: PromptTable | None = None
) -> GLIP:
    """A model with the weights in it, in evaluation mode on the CPU.

    Args:
        weights: Floating-point tensors of any precision.
        dtype: Of the parameters; the output layers stay in float32.
        table: Learned words in the place of the text encoder, whose weights are then left out.
    Raises:
        ConfigError: The config names parts that this installation does not have.
        CheckpointError: Tensors missing, left over, or of the wrong shape.
    """
    state = weights.state
    if table is not None:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("text.")}
        words = {f"text.{key}": tensor for key, tensor in table.state_dict().items()}
        state |= {key: _rounded(key, tensor, dtype) for key, tensor in words.items()}
    try:
        model = build_empty(weights.config, table)
    except ConfigError:
        raise
    except Exception as error:  # timm and transformers trip over wrong options in their own ways
        raise ConfigError(f"no model can be built from the config: {error}") from error
    problems = _misfits(state, model.state_dict())
    if problems:
        raise CheckpointError(
            f"weights do not fit {weights.config.name}: {listed(problems, 5, separator='; ')}"
        )

    if weights.exact is None:
        state = {key: _rounded(key, tensor, dtype) for key, tensor in state.items()}
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being those of a model."""
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    both = [(key, tensor, own[key]) for key, tensor in state.items() if key in own]
    problems += [
        f"{key} is {tuple(tensor.shape)} instead of {tuple(wanted.shape)}"
        for key, tensor, wanted in both
        if tensor.shape != wanted.shape
    ]
    problems += [
        f"{key} holds {str(tensor.dtype).removeprefix('torch.')}"
        for key, tensor, wanted in both
        if tensor.is_floating_point() != wanted.is_floating_point()
    ]
    return problems


def convert_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> Weights:
    """Write weights of any kind as one of our files, once they are known to fit their model.

    Args:
        source: A path or a name, see `find`.
        target: The new file, see `save`.
        dtype: Precision of floating-point tensors in the file; as they are by default.
    Returns:
        What was read.
    Raises:
        CheckpointError: From reading, fitting or writing.
    """
    path = find(source)
    weights = read(path)
    with naming(path):
        assemble(weights)
    save(target, weights, dtype)
    return weights


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors raised inside name the weights file that they are about."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def save(path: str | os.PathLike[str], weights: Weights, dtype: torch.dtype | None = None) -> None:
    """Write a safetensors file with the config in its header; all of it or nothing.

    Args:
        path: Of the new file; its folder must exist. A file of that name is replaced at the end.
        weights: What to write.
        dtype: Precision of floating-point tensors in the file; as they are by default.
    Raises:
        CheckpointError: The folder is missing or the disk is full.
    """
    path = Path(path)
    metadata = {
        METADATA: json.dumps(
            {"format": FORMAT, "config": without_sources(weights.config).to_dict()}
        )
    }
    if weights.tokenizer_json is not None:
        metadata["tokenizer"] = weights.tokenizer_json
    # clones: safetensors wants each tensor to own its memory
    state = {
        key: tensor.detach()
        .to("cpu", dtype if tensor.is_floating_point() else None)
        .clone(memory_format=torch.contiguous_format)
        for key, tensor in weights.state.items()
    }
    try:
        with whole_path(path) as unfinished:
            save_file(state, unfinished, metadata)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write weights to {path}: {error}") from error
