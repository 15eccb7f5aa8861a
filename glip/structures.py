"""Detections: what was found in one picture, and in which words.

The noun that prediction ends with. Knows nothing about how boxes are found; a prompt is only asked
for its text, its spans and its names. Letters: N boxes of one picture, K selected ones.
"""

import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from glip.errors import ConfigError
from glip.images import ImageLike, save_image

if TYPE_CHECKING:
    from glip.text.prompt import Prompt

Index: TypeAlias = int | slice | Tensor | npt.NDArray[Any] | Sequence[int] | Sequence[bool]
"""What selects detections: a row, a slice, rows in any order, or one truth value for each."""


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The boxes found in one picture, each with a score and the phrase it answers.

    Checked on construction and not changed afterwards; indexing gives new ones:
    `found[0]`, `found[:10]`, `found[found.scores > 0.7]`, `found[[2, 0]]`.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the original picture; far edges are exclusive, so a
            box is x2 - x1 wide. official: x2 and y2 are those of the last pixel.
        scores: (N,) float32, in [0, 1].
        phrase_ids: (N,) int64, row of `prompt.phrases`.
        prompt: the sentence and phrases that were looked for.
        image_hw: height and width of the original picture, pixels.
    Raises:
        ConfigError: shapes, lengths or types other than these, a value that is not finite, a phrase
            that the prompt does not have.
    """

    boxes: Tensor
    scores: Tensor
    phrase_ids: Tensor
    prompt: "Prompt"
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.boxes) if isinstance(self.boxes, Tensor) and self.boxes.ndim else 0
        _check("boxes", self.boxes, (count, 4), torch.float32)
        _check("scores", self.scores, (count,), torch.float32)
        _check("phrase_ids", self.phrase_ids, (count,), torch.int64)
        phrases = len(self.prompt.phrases)
        wrong = (self.phrase_ids < 0) | (self.phrase_ids >= phrases)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ConfigError(
                f"phrase_ids[{row}] is {int(self.phrase_ids[row])}, "
                f"but the prompt has {phrases} phrases, counted from 0"
            )
        if len(self.image_hw) != 2 or min(self.image_hw) < 1:
            raise ConfigError(f"image_hw must be (height, width) in pixels, got {self.image_hw}")

    @classmethod
    def empty(
        cls,
        prompt: "Prompt",
        image_hw: tuple[int, int],
        *,
        device: torch.device | str | None = None,
    ) -> "Detections":
        """Nothing found."""
        return cls(
            boxes=torch.zeros(0, 4, device=device),
            scores=torch.zeros(0, device=device),
            phrase_ids=torch.zeros(0, dtype=torch.int64, device=device),
            prompt=prompt,
            image_hw=image_hw,
        )

    @property
    def phrases(self) -> list[str]:
        """For each detection what it was called by the user, `prompt.names[phrase_id]`."""
        return [self.prompt.names[row] for row in self.phrase_ids.tolist()]

    @property
    def spans(self) -> list[tuple[tuple[int, int], ...]]:
        """For each detection the [start, end) characters of its phrase in `prompt.text`."""
        return [self.prompt.phrases[row] for row in self.phrase_ids.tolist()]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> "Detections":
        """The selected detections; a single row gives a `Detections` of length one.

        Raises:
            IndexError: a row that does not exist, a mask of another length, floats as index.
        """
        rows = _rows(index, len(self)).to(self.boxes.device)
        return replace(
            self, boxes=self.boxes[rows], scores=self.scores[rows], phrase_ids=self.phrase_ids[rows]
        )

    def __iter__(self) -> Iterator["Detections"]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.image_hw
        shown = [
            f"{phrase} {score:.2f}"
            for phrase, score in zip(self[:5].phrases, self[:5].scores.tolist(), strict=True)
        ]
        more = [f"and {len(self) - 5} more"] if len(self) > 5 else []
        listed = f": {', '.join(shown + more)}" if shown else ""
        return f"<Detections: {len(self)} in {width}x{height} pixels{listed}>"

    def top(self, k: int) -> "Detections":
        """The k best, best first; all of them if there are fewer. Equal scores keep their order."""
        if k < 0:
            raise ConfigError(f"top(k) needs k of 0 or more, got {k}")
        return self[self.scores.argsort(descending=True, stable=True)[:k]]

    def to(self, device: torch.device | str) -> "Detections":
        """The same detections with their tensors on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            phrase_ids=self.phrase_ids.to(device),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for `json.dump`.

        Returns:
            `{"width", "height", "prompt", "detections": [{"box": [x1, y1, x2, y2], "score",
            "phrase", "span": [start, end]}]}`; a phrase of several spans has all of them under
            "spans" as well.
        """
        height, width = self.image_hw
        detections: list[dict[str, Any]] = []
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.phrases, self.spans, strict=True)
        for box, score, phrase, spans in rows:
            record = {"box": box, "score": score, "phrase": phrase, "span": list(spans[0])}
            if len(spans) > 1:
                record["spans"] = [list(span) for span in spans]
            detections.append(record)
        return {
            "width": width,
            "height": height,
            "prompt": self.prompt.text,
            "detections": detections,
        }

    def to_coco(
        self,
        image_id: int | str,
        category_ids: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """COCO results, `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}` each.

        Args:
            image_id: the picture's id in the annotation file.
            category_ids: for each phrase of the prompt its id there; by default its row + 1.
        Raises:
            ConfigError: another number of category ids than the prompt has phrases.
        """
        phrases = len(self.prompt.phrases)
        if category_ids is None:
            category_ids = range(1, phrases + 1)
        if len(category_ids) != phrases:
            raise ConfigError(
                f"category_ids has {len(category_ids)} ids, the prompt {phrases} phrases; "
                "give one id for each"
            )
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.phrase_ids.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": int(category_ids[row]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, row in rows
        ]

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with the phrases as `data["class_name"]`.

        Raises:
            ConfigError: the optional package supervision is not installed.
        """
        try:
            supervision = importlib.import_module("supervision")
        except ImportError as error:
            raise ConfigError(
                "to_supervision needs the package supervision: pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.phrase_ids.cpu().numpy(),
            data={"class_name": np.array(self.phrases, dtype=str)},
        )

    def plot(self, image: ImageLike, **style: Any) -> Image.Image:
        """The picture with boxes and labels on it; `style` goes to `glip.visualize.draw`.

        Args:
            image: the picture that was searched, in any form that `predict` takes.
        Raises:
            ImageError: the picture cannot be read or has another size.
        """
        # Drawing needs fonts and prediction does not: they are fetched when a user asks for them.
        from glip.visualize import draw

        return draw(image, self, **style)

    def save(self, path: str | os.PathLike[str], image: ImageLike, **style: Any) -> Path:
        """Write `plot(image, **style)` to a file, whole or not at all; its suffix says the format.

        Raises:
            ImageError: as for `plot`, or the file cannot be written.
        """
        return save_image(self.plot(image, **style), path)


@dataclass(frozen=True)
class GroundedPhrase:
    """A phrase of a caption and where it is in the picture. Letters: N boxes."""

    text: str
    """The words."""
    spans: tuple[tuple[int, int], ...]
    """Their [start, end) characters in the caption."""
    detections: Detections
    """What was found of it, best first; nothing is a legal answer."""

    @property
    def boxes(self) -> Tensor:
        """(N, 4) float32 xyxy, pixels of the original picture."""
        return self.detections.boxes

    @property
    def scores(self) -> Tensor:
        """(N,) float32, in [0, 1]."""
        return self.detections.scores

    def __len__(self) -> int:
        return len(self.detections)


def _check(name: str, values: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    wanted = f"{name} must be a {dtype} tensor of shape {shape}".replace("torch.", "")
    if not isinstance(values, Tensor):
        raise ConfigError(f"{wanted}, got {type(values).__name__}")
    if tuple(values.shape) != shape:
        raise ConfigError(f"{wanted}, got shape {tuple(values.shape)}")
    if values.dtype != dtype:
        raise ConfigError(f"{wanted}, got {values.dtype}; convert it with .to({dtype})")
    if dtype.is_floating_point and not values.isfinite().all():
        row = int((~values.isfinite()).nonzero()[0, 0])
        raise ConfigError(f"{name} must be finite, row {row} is {values[row].tolist()}")


def _rows(index: Index, count: int) -> Tensor:
    """Any index into `count` rows -> the rows it means, (K,) int64."""
    rows = np.arange(count, dtype=np.int64)
    if isinstance(index, slice):
        return torch.tensor(rows[index].copy())  # torch takes no negative strides
    picked = np.asarray(index.tolist() if isinstance(index, Tensor) else index)
    if picked.size == 0:  # an empty list is a list of no rows, though numpy takes it for floats
        return torch.zeros(0, dtype=torch.int64)
    if picked.dtype.kind == "b":
        if picked.shape != rows.shape:
            raise IndexError(f"mask of shape {picked.shape} cannot select among {count} detections")
        return torch.tensor(rows[picked])
    if picked.dtype.kind not in "iu" or picked.ndim > 1:
        raise IndexError(
            "detections are selected by a row, a list of rows, a slice or a mask, "
            f"got {picked.dtype} of shape {picked.shape}"
        )
    picked = picked.reshape(-1).astype(np.int64)
    outside = picked[(picked < -count) | (picked >= count)]
    if outside.size:
        raise IndexError(f"row {outside[0]} does not exist among {count} detections")
    return torch.tensor(picked % count)
