"""Training samples, and batches of them: sources, mixture, workers.

A sample is decided by its `Draw` alone: the source, the record and a seed that the sampler made of
run seed, epoch and position. So a run gives the same batches with any number of workers, and a
resumed run those of a run that never stopped; nothing is drawn from a worker's own generators.
Letters: N boxes, P phrases, T tokens of one sample.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from glip.config import PixelConfig
from glip.data.augment import AugmentConfig, Scene, augment, scene_boxes
from glip.data.batch import Batch, Target
from glip.data.caption_packing import CaptionPacker
from glip.data.formats.coco import DetectionData, DetectionRecord, ImageId
from glip.data.formats.mdetr import GroundingData
from glip.data.pictures import Pictures
from glip.data.sampling import PromptSampler, SamplingConfig
from glip.data.transforms import pad_batch, to_pixels
from glip.errors import ConfigError, DataError
from glip.model.text_encoder import Tokens
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Draw(NamedTuple):
    """What to make a sample of."""

    source: int
    record: int
    seed: int


@dataclass(frozen=True, eq=False)
class Sample:
    """One training picture with its prompt and what is to be found."""

    pixels: Tensor
    """(3, h, w), normalised."""
    token_ids: tuple[int, ...]
    """T tokens of the prompt."""
    token_map: Tensor
    """(P, T) bool."""
    target: Target
    image_id: ImageId


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
        """One of them, as it is in its file."""

    def partner(self, index: int, rng: random.Random) -> Scene:
        """Another one with the same classes, for a mosaic."""

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """A prompt for a scene; None if there is nothing to ask for."""

    def is_tall(self) -> npt.NDArray[np.bool_]:
        """Of each whether it is higher than wide."""

    def repeats(self) -> npt.NDArray[np.float64]:
        """Of each how often an epoch should hold it, 1 or more; fractions are chances."""


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
    ) -> None:
        self.data = data
        self.pictures = pictures
        self.sampling = sampling
        self._sampler = PromptSampler(data.names, tokenizer, sampling, max_tokens=max_tokens)
        rows, tall, vocabularies, classes = [], [], [], []
        for row, record in enumerate(data.records):
            useful = _useful(record)[1]
            if useful.any() or (keep_empty and data.absent(record)):
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
        """Of each picture whether it is higher than wide."""
        return self._tall

    def repeats(self) -> npt.NDArray[np.float64]:
        """Of each picture how often an epoch should hold it."""
        return self._repeats

    def scene(self, index: int) -> tuple[ImageId, Scene]:
        """A picture and its boxes, as they are in the file."""
        record = self._record(index)
        boxes, kept = _useful(record)
        scene = Scene(
            self.pictures.read(record.file_name),
            boxes[kept],
            record.labels[kept],
            # A class with nothing but a crowd is not absent either: `absent` looks at all labels.
            known=frozenset(self.data.absent(record)),
        )
        _check_size(scene, record.image_hw, self.data.path, record.file_name)
        return record.image_id, scene

    def partner(self, index: int, rng: random.Random) -> Scene:
        """A picture with the same classes, drawn from all of them."""
        fellows = self._fellows[self._record(index).vocabulary or ""]
        return self.scene(int(fellows[rng.randrange(len(fellows))]))[1]

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """A prompt for a scene."""
        drawn = self._sampler(
            scene.owners.tolist(), sorted(scene.known), rng, mirrored=scene.mirrored
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
    ) -> None:
        self.data = data
        self.pictures = pictures
        self._packer = packer
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
        """Of each picture whether it is higher than wide."""
        return self._tall

    def repeats(self) -> npt.NDArray[np.float64]:
        """All captions alike: once."""
        return np.ones(len(self))

    def scene(self, index: int) -> tuple[ImageId, Scene]:
        """A picture and its boxes, as they are in the file."""
        record = self.data.records[int(self._rows[index])]
        boxes, kept = scene_boxes(record.boxes, record.image_hw)
        unsure: set[int] = set()
        if record.scores is not None:
            sure = record.scores > self._min_score
            if self._ignore_unsure:
                unsure = set(record.owners[~sure].tolist()) - set(record.owners[sure].tolist())
            kept &= sure
        scene = Scene(
            self.pictures.read(record.file_name),
            boxes,
            record.owners,
            caption=record.caption,
            phrases=record.phrases,
            scores=record.scores if self._trust_scores else None,
            unsure=frozenset(unsure),
        ).keep(kept)
        _check_size(scene, record.image_hw, self.data.path, record.file_name)
        return record.image_id, scene

    def partner(self, index: int, rng: random.Random) -> Scene:
        """A picture with the same classes, drawn from all of them."""
        return self.scene(rng.randrange(len(self)))[1]

    def worded(self, scene: Scene, rng: random.Random) -> Worded | None:
        """The caption as a prompt, perhaps among others."""
        assert scene.caption is not None
        prompt = Prompt(scene.caption, scene.phrases)
        if self._packer is not None:
            prompt = self._packer(prompt, partial(self._any_caption, rng), rng)
        return Worded(prompt, scene.owners)

    def _any_caption(self, rng: random.Random) -> str:
        return self.data.records[int(self._rows[rng.randrange(len(self))])].caption


class TrainingSet(Dataset[Sample]):
    """Samples of several sources; indexed by `Draw`.

    Args:
        sources: What to draw from.
        tokenizer: Of the text encoder.
        pixels: Of the model.
        augmentation: What may happen to pictures.
        max_tokens: What the text encoder takes. Of a longer caption, one of the passes that
            `Prompt.passes` makes is drawn. official: cut off behind the limit.
        passes: What a prompt becomes, where learned words take the place of its text.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tokenizer: Tokenizer,
        pixels: PixelConfig,
        augmentation: AugmentConfig,
        *,
        max_tokens: int = 256,
        passes: Callable[[Prompt], Sequence[PromptPass]] | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self._passes = passes
        self._tokenizer = tokenizer
        self._pixels = pixels
        self.augmentation = augmentation
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def augmented(self, augmentation: AugmentConfig) -> TrainingSet:
        """The same samples with other changes of their pictures."""
        return TrainingSet(
            self.sources,
            self._tokenizer,
            self._pixels,
            augmentation,
            max_tokens=self._max_tokens,
            passes=self._passes,
        )

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw, always the same.

        Raises:
            ImageError: the picture is missing or damaged. official: another one is taken in
                silence.
        """
        rng = random.Random(draw.seed)
        source = self.sources[draw.source]
        image_id, original = source.scene(draw.record)

        def partner() -> Scene:
            return source.partner(draw.record, rng)

        scene = augment(original, self.augmentation, self._pixels, rng, partner)
        worded = source.worded(scene, rng)
        assert worded is not None, f"image {image_id}: nothing to ask for"
        if self._passes is not None:
            passes = self._passes(worded.prompt)
        else:
            passes = worded.prompt.passes(self._tokenizer, self._max_tokens)
        asked = set(worded.phrases.tolist())
        chosen = rng.choice([p for p in passes if asked & set(p.rows)] or passes)
        place = {row: number for number, row in enumerate(chosen.rows)}
        phrases = [place.get(phrase, -1) for phrase in worded.phrases.tolist()]
        kept = np.array(phrases, dtype=np.int64) >= 0
        scene = scene.keep(kept)
        target = Target(
            torch.from_numpy(scene.boxes),
            torch.tensor([phrase for phrase in phrases if phrase >= 0], dtype=torch.int64),
            None if scene.scores is None else torch.from_numpy(scene.scores),
            torch.tensor([place[row] for row in scene.unsure if row in place], dtype=torch.int64)
            if scene.unsure
            else None,
        )
        pixels = to_pixels(scene.image, self._pixels)
        return Sample(pixels, chosen.token_ids, chosen.token_map, target, image_id)


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


class MixtureSampler(Sampler[list[Draw]]):
    """Batches of draws from weighted sources, for any number of epochs and from any step on.

    An epoch holds each record as often as its factor and the weight of its source say (a fraction
    is a chance, drawn anew for every epoch), all sources shuffled together; what is left over after
    the last full batch is dropped. Everything follows from seed and step, so `start` costs nothing.

    Args:
        sizes: Number of records of each source.
        batch_size: Draws of one process for one step.
        steps: Of the whole run; iteration goes from `start` to here.
        seed: Of the run.
        weights: How often an epoch goes through each source; by default once.
        repeats: Of each source and record, a factor of its own; by default 1.
        start: Step to begin with, that is, how many are done.
        rank: Number of this process.
        world_size: How many processes share the batches.
        is_tall: Of each source and record, whether it is higher than wide: a batch then holds tall
            or wide pictures only, but for the last ones of an epoch, which saves padding.
    Raises:
        ConfigError: no records, or a size or weight that is not positive.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        steps: int,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        repeats: Sequence[npt.NDArray[np.float64]] | None = None,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        is_tall: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        weights = [1.0] * len(sizes) if weights is None else list(weights)
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"sources need at least one record each, got {list(sizes)}")
        if len(weights) != len(sizes) or min(weights) <= 0:
            raise ConfigError(f"weights {weights} must be above zero, one for each of {len(sizes)}")
        if batch_size < 1 or not 0 <= start <= steps:
            raise ConfigError(
                f"batch_size {batch_size} must be positive and start {start} lie between 0 "
                f"and {steps}"
            )
        repeats = [np.ones(size) for size in sizes] if repeats is None else repeats
        self._counts, self._shares = [], []
        for weight, factors in zip(weights, repeats, strict=True):
            total = float(factors.sum())
            self._counts.append(max(1, round(weight * total)))
            self._shares.append(factors * (self._counts[-1] / total))
        self._batch = batch_size * world_size
        self._steps, self._start, self._seed = steps, start, seed
        self._rank, self._world_size = rank, world_size
        self._is_tall = is_tall
        self.steps_per_epoch = max(1, sum(self._counts) // self._batch)

    def __len__(self) -> int:
        return self._steps - self._start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, plan = -1, np.zeros((0, 0, 2), dtype=np.int64)
        for step in range(self._start, self._steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                plan = self._plan(epoch)
            batch = plan[step % self.steps_per_epoch]
            yield [
                Draw(int(source), int(index), _seed_of(self._seed, step, place))
                for place, (source, index) in enumerate(batch)
                if place % self._world_size == self._rank
            ]

    def _plan(self, epoch: int) -> npt.NDArray[np.int64]:
        """(S, B, 2): source and record of each draw of each step of an epoch, over all
        processes.
        """
        rng = np.random.default_rng([self._seed, epoch])
        parts = []
        for source, (shares, count) in enumerate(zip(self._shares, self._counts, strict=True)):
            # Records laid end to end in random order, each as long as its share, and a ruler of
            # unit steps over them: so each is met as often as its share, rounded up or down, and
            # all epochs are equally long.
            order = rng.permutation(len(shares))
            met = shares[order].cumsum().searchsorted(rng.random() + np.arange(count), side="right")
            records = order[np.minimum(met, len(shares) - 1)]
            parts.append(np.stack([np.full(count, source), records], 1))
        draws = rng.permutation(np.concatenate(parts))
        if len(draws) < self._batch:  # a data set smaller than one batch
            draws = np.resize(draws, (self._batch, 2))
        if self._is_tall is None:
            return draws[: self.steps_per_epoch * self._batch].reshape(-1, self._batch, 2)
        tall = np.array([self._is_tall[source][record] for source, record in draws])
        batches, rests = [], []
        for group in (draws[tall], draws[~tall]):
            full = len(group) // self._batch * self._batch
            batches.append(group[:full].reshape(-1, self._batch, 2))
            rests.append(group[full:])
        rest = np.concatenate(rests)
        full = len(rest) // self._batch * self._batch
        batches.append(rest[:full].reshape(-1, self._batch, 2))
        return rng.permutation(np.concatenate(batches))


def collate(samples: Sequence[Sample], pad_id: int = 0) -> Batch:
    """A batch of samples: pictures padded to a common size, prompts to a common length."""
    return Batch(
        pixels=pad_batch([sample.pixels for sample in samples]),
        tokens=Tokens.pad([sample.token_ids for sample in samples], pad_id),
        token_maps=[sample.token_map for sample in samples],
        targets=[sample.target for sample in samples],
        image_ids=[sample.image_id for sample in samples],
    )


def training_loader(
    dataset: TrainingSet,
    sampler: Sampler[list[Draw]],
    *,
    pad_id: int = 0,
    workers: int = 2,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Batches in the order of the sampler, the same for any number of workers.

    Args:
        dataset: Of samples.
        sampler: Of batches of draws, such as `MixtureSampler`.
        pad_id: The token that fills a batch.
        workers: Processes that read pictures; 0 reads them in this one.
        pin_memory: Faster copies to a GPU.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # its items are batches once they are collated
        batch_sampler=sampler,
        collate_fn=partial(collate, pad_id=pad_id),
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=seed_worker,
    )


def seed_worker(worker: int) -> None:
    """Give a worker's global generators a seed of its own, for code of users that draws from them.

    Our own samples never do. PyTorch seeds its own generator and, of late, the others as well;
    official runs with older versions repeated the same numbers in all workers (reference K.3).
    """
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, the very generator that such code draws from


def _useful(record: DetectionRecord) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Boxes as training counts them, and which are targets: no crowds, nothing without extent."""
    boxes, kept = scene_boxes(record.boxes, record.image_hw)
    return boxes, kept & ~record.crowd


def _check_size(scene: Scene, image_hw: tuple[int, int], path: object, name: str) -> None:
    height, width = image_hw
    if scene.image.size != (width, height):
        raise DataError(
            f"{path}: {name} is {scene.image.width} x {scene.image.height} pixels (upright), but "
            f"its boxes were drawn on {width} x {height}; correct the file or the picture"
        )


def _seed_of(seed: int, step: int, place: int) -> int:
    """A seed for one draw of a run, unrelated to that of its neighbours."""
    digest = hashlib.blake2b(f"{seed}/{step}/{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
