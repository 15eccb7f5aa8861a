"""TaskPrompt: the words of one task as a small file, used without any text encoder.

The file is safetensors: no code can hide in it. It holds the states of the words behind the text
encoder, what was learned on top of them (reference G.3), which tokens belong to which class, and a
fingerprint of the model it was made for. A table written by hand works the same way: averaged
wordings and descriptions (reference G.6) are tables whose offsets are zero.

Knows nothing about training. Letters: P classes, T tokens, D text width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from glip.errors import CheckpointError, PromptError
from glip.files import parsed_json, whole_path
from glip.text.prompt import Prompt, PromptPass, reads_as

SUFFIX = ".prompt.safetensors"
FORMAT = 1
METADATA = "glip_prompt"  # key of the safetensors header


@dataclass(frozen=True, eq=False)
class TaskPrompt:
    """The words of a task for one base model.

    Raises:
        CheckpointError: Shapes that do not belong together.
    """

    prompt: Prompt
    """The text, and its phrases: the classes, whose names users see."""
    token_ids: tuple[int, ...]
    """T tokens of the text, or any ids that name the rows of a table that is no text."""
    token_map: npt.NDArray[np.bool_]
    """(P, T) bool, the rows of each class."""
    states: npt.NDArray[np.float32]
    """(T, D) float32, behind the text encoder."""
    offsets: npt.NDArray[np.float32]
    """(T, D) float32, learned; zeros if nothing was."""
    base: str
    """Name of the base model, for messages."""
    fingerprint: str
    """Of the base model, see `glip.checkpoint.fingerprint`."""
    thresholds: tuple[float, ...] = ()
    """Of each class the score that detections should exceed; empty if none were fitted."""
    negatives: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    """(M, T) bool, the rows of phrases that are looked for and not reported: what they explain
    better than a class is no detection of it."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """How it was made; JSON values."""

    def __post_init__(self) -> None:
        phrases, tokens = len(self.prompt), len(self.token_ids)
        width = self.states.shape[-1] if self.states.ndim else 0
        if not len(self.negatives):
            object.__setattr__(self, "negatives", self.token_map[:0])
        for name, shape in (
            ("token_map", (phrases, tokens)),
            ("states", (tokens, width)),
            ("offsets", (tokens, width)),
            ("negatives", (len(self.negatives), tokens)),
        ):
            if tuple(getattr(self, name).shape) != shape:
                raise CheckpointError(
                    f"{name} of the prompt is {tuple(getattr(self, name).shape)}, expected {shape}"
                )
        if not (np.isfinite(self.states).all() and np.isfinite(self.offsets).all()):
            raise CheckpointError("states or offsets of the prompt are no numbers")
        if any(not 0 <= value <= 1 for value in self.thresholds):
            raise CheckpointError(f"thresholds lie between 0 and 1, got {self.thresholds}")
        if self.thresholds and len(self.thresholds) != phrases:
            raise CheckpointError(f"{len(self.thresholds)} thresholds for {phrases} classes")
        if not bool(self.token_map.any(-1).all()):
            raise CheckpointError("a class of the prompt has no token")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.prompt.names

    def learned(self, offsets: npt.NDArray[np.float32]) -> TaskPrompt:
        """The same with other offsets, (T, D)."""
        return replace(self, offsets=offsets.astype(np.float32))

    def answer(self, prompt: Prompt) -> PromptPass:
        """The pass that answers a prompt: its phrases by name, in its order, then the negatives.

        Rows beyond the phrases of the prompt are negatives.

        Raises:
            PromptError: It asks for something that the task does not have, or twice for one class.
        """
        rows = rows_of(prompt.names, self.names)
        looked_for = np.concatenate([self.token_map[rows], self.negatives])
        return PromptPass(
            self.prompt.text, self.token_ids, looked_for, tuple(range(len(looked_for)))
        )

    def passes(self, prompt: Prompt) -> list[PromptPass]:
        """In the place of `Prompt.passes`: the one that `answer` gives."""
        return [self.answer(prompt)]

    def check(self, fingerprint: str, width: int, base: str) -> None:
        """Refuse a model it was not made for.

        Args:
            fingerprint: Of that model.
            width: D of that model.
            base: Name of that model.
        Raises:
            CheckpointError: Another model.
        """
        if self.fingerprint != fingerprint or self.states.shape[-1] != width:
            raise CheckpointError(
                f"this prompt was made for {self.base} with the fingerprint {self.fingerprint}, "
                f"the model is {base} with {fingerprint}; load the weights it was made for, or "
                "tune a prompt for these"
            )


def rows_of(asked: Sequence[str], names: Sequence[str]) -> list[int]:
    """Of each name that is asked for, its row; blanks, underscores and case do not matter.

    Raises:
        PromptError: A name that is not there, asked for twice, or that fits two.
    """
    exact = {name: row for row, name in enumerate(names)}
    loose: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        loose.setdefault(reads_as(name), []).append(row)
    rows: list[int] = []
    for name in asked:
        found = [exact[name]] if name in exact else loose.get(reads_as(name), [])
        if len(found) != 1:
            what = "does not know" if not found else "knows twice"
            raise PromptError(
                f"the learned prompt {what} {name!r}; its classes are {', '.join(names)}"
            )
        if found[0] in rows:
            raise PromptError(f"{name!r} is asked for twice; name each class once")
        rows += found
    return rows


def save_prompt(path: str | os.PathLike[str], task: TaskPrompt) -> None:
    """Write a task file; all of it or nothing.

    Raises:
        CheckpointError: It cannot be written.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "text": task.prompt.text,
        "phrases": task.prompt.phrases,
        "names": task.names,
        "token_ids": task.token_ids,
        "base": task.base,
        "fingerprint": task.fingerprint,
        "thresholds": task.thresholds,
        "notes": dict(task.notes),
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "token_map": task.token_map.astype(np.uint8),
        "negatives": task.negatives.astype(np.uint8),
        "states": np.ascontiguousarray(task.states, np.float32),
        "offsets": np.ascontiguousarray(task.offsets, np.float32),
    }
    try:
        with whole_path(path) as unfinished:
            save_file(tensors, unfinished, {METADATA: json.dumps(header, ensure_ascii=False)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the prompt to {path}: {error}") from error


def read_prompt(path: str | os.PathLike[str]) -> TaskPrompt:
    """Read a task file.

    Raises:
        CheckpointError: Missing, damaged, no task file, or of a newer version.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    try:
        header = parsed_json(metadata)
        if header["format"] != FORMAT:
            raise CheckpointError(
                f"it has format {header['format']}, this version of glip reads {FORMAT}"
            )
        phrases = tuple(tuple((int(a), int(b)) for a, b in spans) for spans in header["phrases"])
        return TaskPrompt(
            Prompt(header["text"], phrases, tuple(header["names"])),
            tuple(int(number) for number in header["token_ids"]),
            tensors["token_map"].astype(np.bool_),
            tensors["states"].astype(np.float32),
            tensors["offsets"].astype(np.float32),
            str(header["base"]),
            str(header["fingerprint"]),
            tuple(float(value) for value in header["thresholds"]),
            tensors["negatives"].astype(np.bool_),
            header["notes"],
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}; make it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is damaged, its header cannot be read ({error!r}); make it again"
        ) from error


def _read(path: Path) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """The header of a task file and its tensors.

    Raises:
        CheckpointError: See `read_prompt`.
    """
    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder; name the learned prompt in it, NAME{SUFFIX}")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for without end
        raise CheckpointError(f"{path} is no regular file, and so no learned prompt")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise CheckpointError(
                    f"{path} is no learned prompt, as 'glip tune --mode prompt' writes them; "
                    "weights are loaded with glip.load"
                )
            return metadata[METADATA], {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no learned prompt {path}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no learned prompt, or damaged ({error}); class names and texts go to the "
            "calls that look for them, as predict(image, names)"
        ) from error
