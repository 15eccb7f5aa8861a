"""Data sets that training draws from: a scene, and a prompt for it.

Letters: N boxes of one scene, R records of a source.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from glip.data.augment import Boxes, Scene, scene_boxes
from glip.data.caption_packing import CaptionPacker
from glip.data.picture_cache import PictureCache, Shrunk
from glip.data.pictures import Pictures
from glip.data.records import DetectionData, DetectionRecord, GroundingData, ImageId
from glip.data.sampling import PromptSampler, SamplingConfig
from glip.errors import DataError
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Worded(NamedTuple):
    """A prompt for a scene and the phrase of each of its boxes."""

    prompt: Prompt
    phrases: npt.NDArray[np.int64]
    """(N,) phrase row, -1 for a box whose class did not fit into the prompt."""


class Source(Protocol):
    """A data set that training draws from."""

    def __len__(self) -> int:
        """Number of pictures or captions that are any use."""

    def scene(self, index: int) -> tuple[ImageId, Scene]:
        """One of them, as it is in its file, or smaller if it is much larger than training asks."""

    def partner(self, index: int, rng: random.Random) -> Scene:
        """Another one with the same classes, for a mosaic."""

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """A prompt for a scene; None if there is nothing to ask for."""

    def is_tall(self) -> npt.NDArray[np.bool_]:
        """(R,) of each record whether it is higher than wide."""

    def repeats(self) -> npt.NDArray[np.float64]:
        """(R,) of each record how often an epoch should hold it, 1 or more; fractions are odds."""


class DetectionSource:
    """Pictures with class labels; prompts are made of class names.

    Args:
        data: As read.
        pictures: Where its pictures are.
        tokenizer: Of the text encoder.
        sampling: Which names join a prompt.
        max_tokens: What the text encoder takes.
        keep_empty: Also draw pictures that have no box, all of whose regions are negative.
            official: left out (reference E.8).
        repeat_threshold: Show pictures of rarer classes more often, see `repeat_factors`; 0 shows
            all alike.
        trust_scores: Weigh the boxes of a teacher by their scores.
        cache: Where large pictures are kept small; None decodes them each time.
    Raises:
        DataError: no picture is any use.
    """

    def __init__(
        self,
        data: DetectionData,
        pictures: Pictures,
        tokenizer: Tokenizer,
        sampling: SamplingConfig,
        *,
        max_tokens: int = 256,
        keep_empty: bool = False,
        repeat_threshold: float = 0.0,
        trust_scores: bool = False,
        cache: PictureCache | None = None,
    ) -> None:
        self.data = data
        self.pictures = pictures
        self._cache = cache
        self._trust_scores = trust_scores
        self.sampling = sampling
        self._sampler = PromptSampler(data.names, tokenizer, sampling, max_tokens=max_tokens)
        rows, tall, vocabularies, classes = [], [], [], []
        for row, record in enumerate(data.records):
            useful = _useful(record)[1]
            if useful.any() or (
                keep_empty and self._sampler.surely_absent(data.absent(record), _doubtful(record))
            ):
                rows.append(row)
                tall.append(record.image_hw[0] > record.image_hw[1])
                vocabularies.append(record.vocabulary or "")
                classes.append(np.unique(record.labels[useful]))
        if not rows:
            raise DataError(f"{data.path} has no picture with a box to learn from")
        if left_out := len(data) - len(rows):
            logger.info("%s: left out %d pictures without boxes", data.path, left_out)
        self._rows = np.array(rows, dtype=np.int64)
        self._tall = np.array(tall, dtype=np.bool_)
        self._repeats = repeat_factors(classes, len(data.names), repeat_threshold)
        names = np.array(vocabularies)
        self._fellows = {name: np.flatnonzero(names == name) for name in set(vocabularies)}

    def __len__(self) -> int:
        return len(self._rows)

    def is_tall(self) -> npt.NDArray[np.bool_]:
        """(R,) of each picture whether it is higher than wide."""
        return self._tall

    def repeats(self) -> npt.NDArray[np.float64]:
        """(R,) of each picture how often an epoch should hold it."""
        return self._repeats

    def scene(self, index: int) -> tuple[ImageId, Scene]:
        """A picture and its boxes, as they are in the file or as large as the cache keeps it."""
        record = self._record(index)
        boxes, kept = _useful(record)
        scores = record.scores if self._trust_scores else None
        read = _read(self.pictures, self._cache, record.file_name)
        _check_size(read, record.image_hw, self.data.path, record.file_name)
        scene = Scene(
            read.image,
            _in_pixels_of(read, boxes[kept]),
            record.labels[kept],
            # A class with nothing but a crowd is not absent either: `absent` looks at all labels.
            known=frozenset(self.data.absent(record)),
            doubtful=_doubtful(record),
            scores=None if scores is None else scores[kept],
            pixel=read.image.width / read.original_hw[1],
        )
        return record.image_id, scene

    def partner(self, index: int, rng: random.Random) -> Scene:
        """A picture with the same classes, drawn from all of them."""
        fellows = self._fellows[self._record(index).vocabulary or ""]
        return self.scene(int(fellows[rng.randrange(len(fellows))]))[1]

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """A prompt for a scene."""
        drawn = self._sampler(
            scene.owners.tolist(),
            sorted(scene.known),
            rng,
            doubtful=scene.doubtful,
            mirrored=scene.mirrored,
        )
        if drawn is None:
            return None
        phrases = [drawn.rows.get(label, -1) for label in scene.owners.tolist()]
        return Worded(drawn.prompt, np.array(phrases, dtype=np.int64))

    def _record(self, index: int) -> DetectionRecord:
        return self.data.records[int(self._rows[index])]


class GroundingSource:
    """Captions with boxes for their phrases; the caption is the prompt (reference E.6).

    Args:
        data: As read.
        pictures: Where its pictures are.
        min_score: Only boxes of a teacher above this are taken. official: 0.5 (reference J.4).
        trust_scores: Weigh the boxes of a teacher by their scores.
        ignore_unsure: A phrase for which the teacher has boxes, but none above `min_score`, is
            taken for neither there nor absent. official: it counts as absent.
        packer: Puts captions of other pictures beside the true one, if any.
        cache: Where large pictures are kept small; None decodes them each time.
    Raises:
        DataError: no caption has a box, or `min_score` leaves none.
    """

    def __init__(
        self,
        data: GroundingData,
        pictures: Pictures,
        *,
        min_score: float = 0.5,
        trust_scores: bool = False,
        ignore_unsure: bool = False,
        packer: CaptionPacker | None = None,
        cache: PictureCache | None = None,
    ) -> None:
        self.data = data
        self.pictures = pictures
        self._cache = cache
        self.packer = packer
        self._min_score = min_score
        self._trust_scores = trust_scores
        self._ignore_unsure = ignore_unsure
        rows, tall = [], []
        for row, record in enumerate(data.records):
            kept = scene_boxes(record.boxes, record.image_hw)[1]
            if record.scores is not None:
                kept &= record.scores > min_score
            if kept.any():
                rows.append(row)
                tall.append(record.image_hw[0] > record.image_hw[1])
        if not rows:
            raise DataError(f"{data.path} has no caption with a box to learn from")
        if left_out := len(data) - len(rows):
            logger.info("%s: left out %d captions without boxes", data.path, left_out)
        self._rows = np.array(rows, dtype=np.int64)
        self._tall = np.array(tall, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._rows)

    def is_tall(self) -> npt.NDArray[np.bool_]:
        """(R,) of each picture whether it is higher than wide."""
        return self._tall

    def repeats(self) -> npt.NDArray[np.float64]:
        """(R,) all captions alike: once."""
        return np.ones(len(self))

    def scene(self, index: int) -> tuple[ImageId, Scene]:
        """A picture and its boxes, as they are in the file or as large as the cache keeps it."""
        record = self.data.records[int(self._rows[index])]
        boxes, kept = scene_boxes(record.boxes, record.image_hw)
        unsure: set[int] = set()
        if record.scores is not None:
            sure = record.scores > self._min_score
            if self._ignore_unsure:
                unsure = set(record.owners[~sure].tolist()) - set(record.owners[sure].tolist())
            kept &= sure
        read = _read(self.pictures, self._cache, record.file_name)
        _check_size(read, record.image_hw, self.data.path, record.file_name)
        scene = Scene(
            read.image,
            _in_pixels_of(read, boxes),
            record.owners,
            caption=record.caption,
            file_name=record.file_name,
            phrases=record.phrases,
            scores=record.scores if self._trust_scores else None,
            unsure=frozenset(unsure),
            pixel=read.image.width / read.original_hw[1],
        ).keep(kept)
        return record.image_id, scene

    def partner(self, index: int, rng: random.Random) -> Scene:
        """A picture with the same classes, drawn from all of them."""
        return self.scene(rng.randrange(len(self)))[1]

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """The caption as a prompt, perhaps among others."""
        assert scene.caption is not None
        prompt = Prompt(scene.caption, scene.phrases)
        if self.packer is not None:
            prompt = self.packer(prompt, partial(self._caption_of_another, scene, rng), rng)
        return Worded(prompt, scene.owners)

    def _caption_of_another(self, scene: Scene, rng: random.Random) -> str | None:
        """A caption; None if one of the same picture was drawn, which is true of it as well."""
        record = self.data.records[int(self._rows[rng.randrange(len(self))])]
        return None if record.file_name == scene.file_name else record.caption


def repeat_factors(
    classes: Sequence[npt.NDArray[np.int64]], class_count: int, threshold: float
) -> npt.NDArray[np.float64]:
    """How often each picture should be shown so that rare classes are seen (arXiv 1908.03195).

    A class in a share f of all pictures has the factor max(1, sqrt(threshold / f)), and a picture
    that of its rarest class.

    Args:
        classes: Of each picture, its class rows, each once.
        class_count: How many rows there are.
        threshold: Share of pictures below which a class counts as rare; official for LVIS: 0.001.
    Returns:
        A factor for each picture, 1 or more; 1 where it has no class.
    """
    seen = np.bincount(np.concatenate(classes), minlength=class_count)
    of_class = np.sqrt(threshold * len(classes) / np.maximum(seen, 1)).clip(min=1)
    return np.array([of_class[rows].max(initial=1) for rows in classes])


def _useful(record: DetectionRecord) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Boxes as training counts them, and which are targets: no crowds, nothing without extent."""
    boxes, kept = scene_boxes(record.boxes, record.image_hw)
    return boxes, kept & ~record.crowd


def _doubtful(record: DetectionRecord) -> frozenset[int]:
    """Class rows of which something may show: those of all boxes, and those not searched whole."""
    return frozenset([*record.labels.tolist(), *record.not_exhaustive])


def _read(pictures: Pictures, cache: PictureCache | None, name: str) -> Shrunk:
    if cache is not None:
        return cache.read(pictures, name)
    image = pictures.read(name)
    return Shrunk(image, (image.height, image.width))


def _in_pixels_of(read: Shrunk, boxes: Boxes) -> Boxes:
    """(N, 4) boxes of the original in pixels of what was read, scaled as points."""
    y, x = read.image.height / read.original_hw[0], read.image.width / read.original_hw[1]
    return boxes * np.array([x, y, x, y], dtype=np.float32)


def _check_size(read: Shrunk, image_hw: tuple[int, int], path: object, name: str) -> None:
    if read.original_hw != image_hw:
        (height, width), (other_height, other_width) = read.original_hw, image_hw
        raise DataError(
            f"{path}: {name} is {width} x {height} pixels (upright), but its boxes were drawn on "
            f"{other_width} x {other_height}; correct the file or the picture"
        )
