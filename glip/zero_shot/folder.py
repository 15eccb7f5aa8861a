"""Folders of transformers with a zero-shot detector: which kind they hold, and how it is read.

Nothing here runs code from a folder: `trust_remote_code` is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from glip.errors import CheckpointError, listed
from glip.files import file_sha256, read_json
from glip.released import FOLDER_CONFIG
from glip.zero_shot.families import KINDS

_AUTOMATIC = ("AutoProcessor", "AutoModelForZeroShotObjectDetection")
_UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError, SafetensorError,
)  # fmt: skip
COUNTED = frozenset({".safetensors", ".bin", ".onnx", ".xml", ".data", ".json", ".txt", ".model"})
"""Files that say what a model does, by their suffix."""


class Parts(NamedTuple):
    """What a folder holds."""

    kind: str
    """`model_type`, one of `KINDS`."""
    model: Any
    image_processor: Any
    tokenizer: Any


def kind_of(folder: Path) -> str:
    """The `model_type` of a folder of transformers.

    Raises:
        CheckpointError: It has no configuration, or an unreadable one.
    """
    path = folder / FOLDER_CONFIG
    try:
        return str(read_json(path)["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from error


def load_parts(folder: Path) -> Parts:
    """Model and processor of a folder, on the CPU in the number format of its files.

    Raises:
        CheckpointError: It cannot be read, or holds a model of another kind.
    """
    kind = kind_of(folder)
    if kind not in KINDS:
        raise CheckpointError(
            f"{folder} holds a {kind}, which is none of the detectors that are known: "
            f"{', '.join(KINDS)}, or GLIP weights"
        )
    import transformers  # takes seconds, so only those who name such a model wait

    try:
        names = ("Sam3Processor", "Sam3Model") if kind.startswith("sam3") else _AUTOMATIC
        processor_class, model_class = (getattr(transformers, name) for name in names)
        safely = {"local_files_only": True, "trust_remote_code": False}
        processor: Any = processor_class.from_pretrained(folder, **safely)
        model, loaded = model_class.from_pretrained(folder, **safely, output_loading_info=True)
    except AttributeError as error:
        raise CheckpointError(
            f"transformers {transformers.__version__} has no {kind}; install a newer one"
        ) from error
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder} cannot be loaded by transformers: {reason}") from error
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise CheckpointError(
            f"{folder} lacks weights of its {kind}: {listed(missing, 3)}; fetch it again"
        )
    if len(processor.tokenizer) < model.config.text_config.vocab_size / 2:
        raise CheckpointError(f"{folder} lacks the words of its tokenizer; fetch it again")
    return Parts(kind, model, processor.image_processor, processor.tokenizer)


def folder_sha256(folder: Path) -> str:
    """SHA-256 of all files of a folder that say what its model does."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in COUNTED]
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
