"""Where a model is, of whichever kind: weights of GLIP, a folder that was exported, or one of
transformers; and what can be said of it without running it.

Quick to import: torch is wanted for the content of a file only. Knows nothing about how models run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from glip.errors import CheckpointError
from glip.files import file_sha256
from glip.released import FOLDER_CONFIG, find, is_transformers_folder, reach_hub
from glip.runtime.manifest import is_exported, read_manifest

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".onnx")
_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
_PICKLED = "pytorch_model*.bin"


def find_model(source: str | os.PathLike[str] | None = None) -> Path:
    """The file or folder of a model.

    Args:
        source: A weights file; a folder that `glip export` wrote or that holds a model of
            transformers; the name of one of our models, see `glip.released.find`; the name of a
            repository of the Hugging Face Hub ("IDEA-Research/grounding-dino-tiny"), which is
            taken from the Hub's cache on this machine if it is there; None for the model that ships
            with the package.
    Raises:
        CheckpointError: There is none; the message says what to put where.
    """
    name = os.fsdecode(source) if source is not None else ""
    path = Path(os.path.expanduser(name))
    if name and (is_exported(path) or os.path.isfile(path / FOLDER_CONFIG)):
        return path
    if _HUB_NAME.fullmatch(name) and not os.path.exists(path) and path.suffix not in _WEIGHTS:
        return _of_hub(name)
    return find(source)


def is_zero_shot(path: Path) -> bool:
    """Whether it is a folder with somebody else's detector."""
    return os.path.isfile(path / FOLDER_CONFIG) and not is_transformers_folder(path)


def model_sha256(path: Path) -> str:
    """SHA-256 of a model, which tells it from others of the same name."""
    if not os.path.isdir(path):
        return file_sha256(path)
    from glip.zero_shot.folder import folder_sha256

    return folder_sha256(path)


def threshold_of(path: Path) -> float:
    """Above which its detections score unless a caller says otherwise.

    Raises:
        CheckpointError: It cannot be read, or is of no kind that is known.
    """
    if is_exported(path):
        return read_manifest(path).model.threshold
    if not is_zero_shot(path):
        from glip.checkpoint import read_config

        return read_config(path).threshold
    from glip.zero_shot.families import KINDS
    from glip.zero_shot.folder import kind_of

    kind = kind_of(path)
    if kind not in KINDS:
        raise CheckpointError(f"{path} holds a {kind}; known are {', '.join(KINDS)}, or glip")
    return KINDS[kind].threshold


def model_name(source: str | os.PathLike[str], path: Path) -> str:
    """What a model of transformers is called: like its repository, or else its folder."""
    name = os.fsdecode(source)
    return path.resolve().name if os.path.exists(name) else name.split("/")[-1]


def _of_hub(name: str) -> Path:
    """The folder of a repository, from the Hub's cache or the Hub."""
    from huggingface_hub import snapshot_download

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if os.path.isfile(cached / FOLDER_CONFIG) and _has_weights(cached):
            return cached
    except Exception:  # not there; the client raises a different family with each version
        pass
    try:
        reach_hub()
        folder = Path(snapshot_download(name, allow_patterns=list(_WANTED)))
        if not _has_weights(folder):
            folder = Path(snapshot_download(name, allow_patterns=[*_WANTED, _PICKLED]))
    except Exception as error:
        raise CheckpointError(
            f"there is no file or folder {name!r}, and {name} could not be fetched from the "
            f"Hugging Face Hub ({type(error).__name__}); fetch it on a machine with a connection "
            "and name its folder"
        ) from error
    return folder


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob(_PICKLED))
