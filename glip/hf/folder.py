"""Weights of any kind -> a folder of transformers, with all that its auto classes ask for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from glip.checkpoint import (
    Weights,
    assemble,
    naming,
    read,
)
from glip.engine import tokenizer_of
from glip.errors import ConfigError
from glip.files import whole_folder
from glip.hf.card import model_card
from glip.hf.configuration import GlipConfig
from glip.hf.modeling import GlipForObjectDetection
from glip.hf.processing import GlipImageProcessor, GlipProcessor
from glip.released import FOLDER_CONFIG, find, is_transformers_folder
from glip.text.tokenizer import Tokenizer

CARD = "README.md"


def convert_to_folder(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> Weights:
    """Write weights of any kind as a folder of transformers; all of it or nothing.

    Args:
        source: A path or a name, see `glip.released.find`; official weights as well.
        folder: The new folder. One that was written so before is replaced.
        dtype: Number format of the files, and of the model that they are read into unless somebody
            asks for another; by default the files are as the weights are, and the model float32.
            Output layers are in float32 in any case.
    Returns:
        What was read.
    Raises:
        CheckpointError: From reading or fitting.
        ConfigError: The folder is there and holds something else.
        StorageError: It cannot be written.
    """
    target = Path(folder)
    if os.path.exists(target) and not is_transformers_folder(target) and (
        not os.path.isdir(target) or any(target.iterdir())
    ):  # fmt: skip
        raise ConfigError(f"{target} exists and holds something else; name a new folder")
    path = find(source)
    weights = read(path)
    with naming(path):
        model = model_of(weights, dtype)
    processor = processor_of(weights)
    with whole_folder(target) as unfinished:
        model.save_pretrained(unfinished)
        if dtype is None:
            _run_in_float32(unfinished / FOLDER_CONFIG)
        processor.save_pretrained(unfinished)
        card = model_card(weights.config, model.num_parameters(), target.name)
        (unfinished / CARD).write_text(card, encoding="utf-8")
    return weights


def _run_in_float32(path: Path) -> None:
    """Small files are for the disk: a model runs in float32 unless somebody asks for less."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("dtype", "torch_dtype"):  # of transformers 5, and of those before
        if name in content:
            content[name] = "float32"
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def model_of(weights: Weights, dtype: torch.dtype | None = None) -> Any:
    """The model of transformers with some weights in it.

    Args:
        weights: Floating-point tensors of any precision.
        dtype: Of the parameters; by default that of most of them. Output layers are in float32.
    Raises:
        ConfigError, CheckpointError: As of `glip.checkpoint.assemble`.
    """
    if dtype is None:
        dtype = weights.state["head.outputs.project.weight"].dtype
        for name, tensor in weights.state.items():
            if name.startswith("backbone.") and tensor.is_floating_point():
                dtype = tensor.dtype
                break
    glip = assemble(weights, dtype)
    config = GlipConfig(weights.config)
    config.architectures = [GlipForObjectDetection.__name__]
    with torch.device("meta"):
        model = GlipForObjectDetection(config)
    model.glip = glip
    return model.eval()


def processor_of(weights: Weights) -> GlipProcessor:
    """The processor of transformers for some weights."""
    words = tokenizer_of(weights)
    return GlipProcessor(
        GlipImageProcessor.of(weights.config.pixels),
        fast_tokenizer(words, weights.config.text.max_tokens),
        weights.config.text.max_tokens,
        weights.config.threshold,
    )


def fast_tokenizer(words: Tokenizer, max_tokens: int) -> PreTrainedTokenizerFast:
    """One of our tokenizers as one of transformers'."""
    inner = tokenizers.Tokenizer.from_str(words.to_json())
    special = {
        "cls_token": words.cls_id,
        "sep_token": words.sep_id,
        "pad_token": words.pad_id,
        "unk_token": words.unknown_id,
    }
    named = {
        name: inner.id_to_token(number) for name, number in special.items() if number is not None
    }
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=max_tokens, **named)
