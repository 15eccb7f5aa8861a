"""The nouns between a model that labels and the files that keep its labels.

Knows nothing about models, journals or file formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Part = Literal["train", "val"]


class Label(NamedTuple):
    """One box of a picture."""

    name: str
    """Of its class."""
    box: tuple[float, float, float, float]
    """xyxy, pixels of the upright picture, as files have it: x2 = x + width."""
    score: float | None = None
    """In [0, 1]; None if a person drew or corrected it."""
    phrase: str | None = None
    """The wording of the class that found it."""

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height, pixels."""
        x1, y1, x2, y2 = self.box
        return x2 - x1, y2 - y1


@dataclass(frozen=True)
class Labelled:
    """A picture and its labels; none is a finding, too."""

    picture: str
    """Its path below the picture folder, with "/" between the parts."""
    image_hw: tuple[int, int]
    """Height and width of the upright picture, pixels."""
    labels: tuple[Label, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the name of the picture, for a journal."""
        return {"hw": list(self.image_hw), "labels": [list(label) for label in self.labels]}

    @classmethod
    def from_json(cls, picture: str, record: Mapping[str, Any]) -> Labelled:
        """What `to_json` gave."""
        height, width = record["hw"]
        labels = tuple(
            Label(name, tuple(box), score, phrase) for name, box, score, phrase in record["labels"]
        )
        return cls(picture, (height, width), labels)


def part_of(picture: str, val_share: float) -> Part:
    """Whether a picture is for training or validation: by its name alone, so that it stays so
    however many pictures come or go.

    Args:
        picture: its name.
        val_share: in [0, 1], of all pictures.
    """
    digest = hashlib.blake2b(picture.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "val" if int.from_bytes(digest, "big") < val_share * 2**64 else "train"
