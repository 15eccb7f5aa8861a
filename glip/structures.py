"""Detections: what was found in one picture, and in which words.

The noun that prediction ends with. Knows nothing about how boxes are found; a prompt is only asked
for its text, its spans and its names. Letters: N boxes of one picture, K selected ones.
"""

from __future__ import annotations

import json
import math
import operator
import os
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip import interchange
from glip.errors import ConfigError, DataError, ImageError, shown
from glip.images import ImageLike, load_image, save_image
from glip.settings import within
from glip.text.prompt import Prompt, reads_as
from glip.video.reading import FrameAt
from glip.visualize import draw

if TYPE_CHECKING:
    from torch import Tensor

Index: TypeAlias = str | int | slice | npt.NDArray[Any] | Sequence[int] | Sequence[bool]
"""What selects detections: a name, a row, a slice, rows in any order, or a truth value for each."""


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The boxes found in one picture, each with a score and the phrase it answers.

    Checked on construction and not changed afterwards; indexing gives new ones:
    `found["person"]`, `found[0]`, `found[:10]`, `found[found.scores > 0.7]`, `found[[2, 0]]`.
    They remember their picture: its path, or the object itself as long as somebody else keeps it;
    an open file, which has been read to its end, is not remembered.

    Attributes:
        boxes: (N, 4) float32 xyxy, pixels of the original picture; far edges are exclusive, so a
            box is x2 - x1 wide. official: x2 and y2 are those of the last pixel.
        scores: (N,) float32, in [0, 1].
        phrase_ids: (N,) int64, row of `prompt.phrases`.
        prompt: the sentence and phrases that were looked for.
        image_hw: height and width of the original picture, pixels.
        source: the picture, as it was handed in: a path, a weak reference, or the place of a frame
            in a film (`FrameAt`: its number, its seconds); see `image`.
        track_ids: (N,) int64, the track that each box is of in a video, from 1; None for a picture
            by itself.
    Raises:
        ConfigError: shapes, lengths or types other than these, a value that is not finite, a phrase
            that the prompt does not have.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    phrase_ids: npt.NDArray[np.int64]
    prompt: Prompt
    image_hw: tuple[int, int]
    source: Any = field(default=None)
    track_ids: npt.NDArray[np.int64] | None = field(default=None)

    def __post_init__(self) -> None:
        count = len(self.boxes) if getattr(self.boxes, "ndim", 0) else 0
        for name, shape, dtype in (
            ("boxes", (count, 4), np.float32),
            ("scores", (count,), np.float32),
            ("phrase_ids", (count,), np.int64),
            ("track_ids", (count,), np.int64),
        ):
            values: Any = getattr(self, name)
            if name == "track_ids" and values is None:
                continue
            if hasattr(values, "detach"):  # a tensor of torch, on any device
                values = values.detach().cpu().numpy()
                object.__setattr__(self, name, values)
            if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != dtype:
                raise _wrong_kind(name, values, shape, dtype)
            if not np.isfinite(values).all():
                raise _not_finite(name, values)
        object.__setattr__(self, "image_hw", _sides(self.image_hw))
        if ((self.phrase_ids < 0) | (self.phrase_ids >= len(self.prompt.phrases))).any():
            raise _no_phrase(self.phrase_ids, len(self.prompt.phrases))

    @classmethod
    def empty(cls, prompt: Prompt, image_hw: tuple[int, int]) -> Detections:
        """Nothing found."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            phrase_ids=np.zeros(0, np.int64),
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

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: a picture that somebody here keeps is not there."""
        kept = not isinstance(self.source, weakref.ref)
        return {**vars(self), "source": self.source if kept else None}

    def __getitem__(self, index: Index) -> Detections:
        """The selected detections; a single row gives a `Detections` of length one.

        Raises:
            KeyError: a name that was not looked for; case, blanks and underscores do not matter.
            IndexError: a row that does not exist, a mask of another length, floats as index.
        """
        if isinstance(index, str):
            return self[self._of_name(index)]
        rows = _rows(index, len(self))
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            phrase_ids=self.phrase_ids[rows],
            track_ids=None if self.track_ids is None else self.track_ids[rows],
        )

    def _of_name(self, name: str) -> npt.NDArray[np.bool_]:
        """(N,) bool, which detections answer a name."""
        rows = [row for row, own in enumerate(self.prompt.names) if own == name]
        rows = rows or [
            row for row, own in enumerate(self.prompt.names) if reads_as(own) == reads_as(name)
        ]
        if not rows:
            raise KeyError(f"{name!r} was not looked for, but {', '.join(self.prompt.names[:20])}")
        return np.isin(self.phrase_ids, rows)

    def __iter__(self) -> Iterator[Detections]:
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

    def top(self, k: int) -> Detections:
        """The k best, best first; all of them if there are fewer. Equal scores keep their order."""
        if k < 0:
            raise ConfigError(f"top(k) needs k of 0 or more, got {k}")
        return self[np.argsort(-self.scores, kind="stable")[:k]]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for `json.dump`.

        Returns:
            `{"width", "height", "prompt", "detections": [{"box": [x1, y1, x2, y2], "score",
            "phrase", "span": [start, end]}]}`; a phrase of several spans has all of them under
            "spans" as well, and a box of a video its track's number under "track".
        """
        height, width = self.image_hw
        detections: list[dict[str, Any]] = []
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.phrases, self.spans, strict=True)
        for row, (box, score, phrase, spans) in enumerate(rows):
            record = {"box": box, "score": score, "phrase": phrase, "span": list(spans[0])}
            if len(spans) > 1:
                record["spans"] = [list(span) for span in spans]
            if self.track_ids is not None:
                record["track"] = int(self.track_ids[row])
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
        own = image_id if isinstance(image_id, str) else operator.index(image_id)
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.phrase_ids.tolist(), strict=True)
        return [
            {
                "image_id": own,
                "category_id": int(category_ids[row]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for (x1, y1, x2, y2), score, row in rows
        ]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Detections:
        """What `to_dict` wrote; the prompt then holds the phrases that were found.

        Raises:
            ConfigError: something is missing or of another type.
        """
        try:
            entries = content["detections"]
            image_hw = int(content["height"]), int(content["width"])
            spans = [tuple(map(tuple, entry.get("spans", [entry["span"]]))) for entry in entries]
            kinds = list(dict.fromkeys(zip(spans, [e["phrase"] for e in entries], strict=True)))
            text = str(content["prompt"])
            if not kinds:
                return cls.empty(Prompt.of(text), image_hw)
            prompt = Prompt(text, tuple(own for own, _ in kinds), tuple(n for _, n in kinds))
            rows = [
                kinds.index((own, entry["phrase"]))
                for own, entry in zip(spans, entries, strict=True)
            ]
            boxes = np.array([entry["box"] for entry in entries], np.float32)
            scores = np.array([entry["score"] for entry in entries], np.float32)
            tracks = [entry["track"] for entry in entries if "track" in entry]
            track_ids = np.array(tracks, np.int64) if tracks else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"this is not what to_dict writes: {error!r}") from error
        phrase_ids = np.array(rows, np.int64)
        return cls(boxes, scores, phrase_ids, prompt, image_hw, track_ids=track_ids)

    @classmethod
    def from_any(
        cls,
        value: Any,
        *,
        names: Sequence[str] | None = None,
        image_hw: tuple[int, int] | None = None,
    ) -> Detections:
        """What another program has found, known by its attributes.

        Args:
            value: of supervision, FiftyOne or detectron2 (`Instances`), or a dict as torchvision
                and transformers give it.
            names: of the classes, where `value` holds numbers; the prompt is made of them, or else
                of the names that were found.
            image_hw: height and width of the picture, where `value` does not know them.
        Raises:
            ConfigError: something else, or names or size are needed.
        """
        found = interchange.columns_of(value, names, image_hw)
        if found.image_hw is None:
            raise ConfigError("say image_hw=(height, width) of the picture in pixels")
        listed = list(names if names is not None else dict.fromkeys(found.names)) or ["nothing"]
        if strange := [name for name in found.names if name not in listed]:
            raise ConfigError(f"found {strange[0]!r}, which is not among names: {shown(listed)}")
        rows = np.array([listed.index(name) for name in found.names], np.int64)
        prompt = Prompt.from_classes(listed)
        return cls(found.boxes, found.scores, rows, prompt, found.image_hw)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_pandas(self) -> Any:
        """A pandas table: phrase, score, x1, y1, x2, y2.

        Raises:
            ConfigError: pandas is not installed.
        """
        return interchange.data_frame(self)

    def to_yolo(self, *, scores: bool = False) -> str:
        """The content of a YOLO label file; class numbers are rows of the prompt."""
        return interchange.yolo_lines(self, scores=scores)

    def to_voc(self, file_name: str | None = None) -> str:
        """The content of a Pascal VOC annotation file, by default of the picture's own name."""
        return interchange.voc_xml(self, file_name or self._file_name())

    def to_labelme(self, file_name: str | None = None) -> dict[str, Any]:
        """The content of a LabelMe file, ready for `json.dump`."""
        return interchange.labelme_dict(self, file_name or self._file_name())

    def to_torchvision(self) -> dict[str, Tensor]:
        """As torchvision's detectors give them: (N, 4) boxes, (N,) labels from 0, (N,) scores."""
        return interchange.tensors(self)

    def to_transformers(self) -> dict[str, Any]:
        """As `post_process_grounded_object_detection` of transformers' processors gives them."""
        return {**interchange.tensors(self), "text_labels": self.phrases}

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with the phrases as `data["class_name"]`.

        Raises:
            ConfigError: the optional package supervision is not installed.
        """
        return interchange.to_supervision(self)

    def to_fiftyone(self) -> Any:
        """A `fiftyone.Detections`.

        Raises:
            ConfigError: the optional package fiftyone is not installed.
        """
        return interchange.to_fiftyone(self)

    def to_detectron2(self) -> Any:
        """An `Instances` with `pred_boxes`, `scores` and `pred_classes`.

        Raises:
            ConfigError: detectron2 is not installed.
        """
        return interchange.to_detectron2(self)

    def counts(self) -> dict[str, int]:
        """How many there are of each name that was looked for, 0 included."""
        found = Counter(self.phrases)
        return {name: found[name] for name in self.prompt.names}

    def filter(
        self,
        *,
        min_score: float = 0.0,
        min_area: float = 0.0,
        max_area: float = math.inf,
        names: str | Sequence[str] | None = None,
    ) -> Detections:
        """Those that fit all conditions.

        Args:
            min_score: scores are this or more.
            min_area: of a box, square pixels.
            max_area: of a box, square pixels.
            names: what they answer, one or several, see `found["name"]`.
        Raises:
            KeyError: a name that was not looked for.
            ConfigError: a bound that is no number.
        """
        within("min_score", min_score, least=0, required=True)
        within("min_area", min_area, least=0, required=True)
        if max_area != math.inf:
            within("max_area", max_area, least=0, required=True)
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).clip(min=0).prod(-1)  # (N,)
        fits = (self.scores >= min_score) & (areas >= min_area) & (areas <= max_area)
        if names is not None:
            several = [names] if isinstance(names, str) else names
            wanted = [self._of_name(name) for name in several]
            fits = (fits & np.any(wanted, axis=0)) if wanted else np.zeros_like(fits)
        return self[fits]

    def remember(self, picture: object) -> Detections:
        """The same, with a reference to the picture that was searched: see `image`."""
        lasting = (str, os.PathLike, bytes, FrameAt)
        kept: Any = picture if isinstance(picture, lasting) else None
        if hasattr(picture, "read"):  # an open file, at its end by now
            return self
        if kept is None:
            try:
                kept = weakref.ref(picture)
            except TypeError:  # what cannot be referred to weakly is not kept alive
                return self
        return replace(self, source=kept)

    def image(self, image: ImageLike | FrameAt | None = None) -> Image.Image:
        """The picture that was searched, upright and RGB: the given one, or the one remembered.

        A frame of a film is found by decoding the film up to it.

        Raises:
            ImageError: it cannot be read, or nobody keeps it any more.
            DataError: the film cannot be read, or has no such frame any more.
        """
        if image is None:
            image = self.source() if isinstance(self.source, weakref.ref) else self.source
        if image is None:
            raise ImageError(
                "the picture of these detections is not remembered, or was let go; pass it: "
                "found.plot(image)"
            )
        return image.picture() if isinstance(image, FrameAt) else load_image(image)

    def _file_name(self) -> str:
        """Of the picture, if it came from a file."""
        if isinstance(self.source, FrameAt):  # as `glip label` calls the frames of a film
            return f"{self.source.number:09d}.jpg"
        is_path = isinstance(self.source, (str, os.PathLike))
        return Path(os.fsdecode(self.source)).name if is_path else "image.jpg"

    def crop(self, image: ImageLike | None = None, *, margin: float = 0.0) -> list[Image.Image]:
        """The part of the picture in each box.

        Args:
            image: the picture that was searched; by default the one remembered.
            margin: share of a box's width and height to add on each side.
        Raises:
            ImageError: see `image`.
        """
        picture = self.image(image)
        crops = []
        for x1, y1, x2, y2 in self.boxes.tolist():
            wide, high = margin * (x2 - x1), margin * (y2 - y1)
            left, top = max(0, math.floor(x1 - wide)), max(0, math.floor(y1 - high))
            right = min(picture.width, max(left + 1, math.ceil(x2 + wide)))
            bottom = min(picture.height, max(top + 1, math.ceil(y2 + high)))
            crops.append(picture.crop((min(left, right - 1), min(top, bottom - 1), right, bottom)))
        return crops

    def plot(self, image: ImageLike | None = None, **style: Any) -> Image.Image:
        """The picture with boxes and labels on it; `style` goes to `glip.visualize.draw`.

        Args:
            image: the picture that was searched, in any form that `predict` takes; by default the
                one remembered.
        Raises:
            ImageError: the picture cannot be read, was let go, or has another size.
        """
        return draw(self.image(image), self, **style)

    def show(self, image: ImageLike | None = None, **style: Any) -> None:
        """Open `plot(image, **style)` in this machine's viewer of pictures.

        Raises:
            ImageError: as for `plot`.
        """
        self.plot(image, **style).show()

    def save(
        self, path: str | os.PathLike[str], image: ImageLike | None = None, **style: Any
    ) -> Path:
        """Write `plot(image, **style)` to a file, whole or not at all; its suffix says the format.

        Raises:
            ImageError: as for `plot`, or the file cannot be written.
        """
        return save_image(self.plot(image, **style), path)

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture with its boxes, and a table."""
        return interchange.notebook_html(self, self._plotted())

    def _repr_png_(self) -> bytes | None:
        """The picture with its boxes, if it is remembered."""
        picture = self._plotted()
        return None if picture is None else interchange.notebook_png(picture)

    def _plotted(self) -> Image.Image | None:
        try:
            return self.plot()
        except (ImageError, DataError):
            return None


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
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) float32 xyxy, pixels of the original picture."""
        return self.detections.boxes

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) float32, in [0, 1]."""
        return self.detections.scores

    def __len__(self) -> int:
        return len(self.detections)


def _sides(image_hw: Sequence[SupportsIndex]) -> tuple[int, int]:
    """Height and width as integers of Python, also of what numpy counted."""
    try:
        height, width = map(operator.index, image_hw)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ConfigError(f"image_hw must be (height, width) in pixels, got {image_hw}")
    return height, width


def _wrong_kind(
    name: str, values: object, shape: tuple[int, ...], dtype: type[np.generic]
) -> ConfigError:
    """What a column is, and what it should be."""
    wanted = f"{name} must be a {dtype.__name__} array of shape {shape}"
    if not isinstance(values, np.ndarray):
        return ConfigError(f"{wanted}, got {type(values).__name__}")
    if values.shape != shape:
        return ConfigError(f"{wanted}, got shape {values.shape}")
    return ConfigError(f"{wanted}, got {values.dtype}; convert it with .astype")


def _not_finite(name: str, values: npt.NDArray[Any]) -> ConfigError:
    """Which row of a column is no number."""
    row = int(np.argwhere(~np.isfinite(values))[0, 0])
    return ConfigError(f"{name} must be finite, row {row} is {values[row].tolist()}")


def _no_phrase(phrase_ids: npt.NDArray[np.int64], phrases: int) -> ConfigError:
    """Which detection answers a phrase that there is not."""
    row = int(((phrase_ids < 0) | (phrase_ids >= phrases)).argmax())
    return ConfigError(
        f"phrase_ids[{row}] is {int(phrase_ids[row])}, "
        f"but the prompt has {phrases} phrases, counted from 0"
    )


def _rows(index: Index, count: int) -> npt.NDArray[np.int64]:
    """Any index into `count` rows -> the rows it means, (K,) int64."""
    rows = np.arange(count, dtype=np.int64)
    if isinstance(index, slice):
        return rows[index]
    picked = np.asarray(index.tolist() if hasattr(index, "tolist") else index)
    if picked.size == 0:  # an empty list is a list of no rows, though numpy takes it for floats
        return rows[:0]
    if picked.dtype.kind == "b":
        if picked.shape != rows.shape:
            raise IndexError(f"mask of shape {picked.shape} cannot select among {count} detections")
        return rows[picked]
    if picked.dtype.kind not in "iu" or picked.ndim > 1:
        raise IndexError(
            "detections are selected by a row, a list of rows, a slice or a mask, "
            f"got {picked.dtype} of shape {picked.shape}"
        )
    picked = picked.reshape(-1).astype(np.int64)
    outside = picked[(picked < -count) | (picked >= count)]
    if outside.size:
        raise IndexError(f"row {outside[0]} does not exist among {count} detections")
    return picked % count
