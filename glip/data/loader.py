"""Training samples, and batches of them.

A sample is decided by its `Draw` alone: the source, the record and a seed that the sampler made of
run seed, epoch and position. So a run gives the same batches with any number of workers, and a
resumed run those of a run that never stopped; nothing is drawn from a worker's own generators.
Letters: N boxes, P phrases, T tokens of one sample.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from glip.config import PixelConfig
from glip.data.augment import AugmentConfig, Scene, augment
from glip.data.batch import Batch, Target, Targets
from glip.data.mixture import Draw
from glip.data.records import ImageId
from glip.data.sources import Source, Worded
from glip.data.transforms import RawPixels, pad_batch, raw_pixels, to_pixels
from glip.errors import DataError, ImageError, PromptError
from glip.model.text_encoder import Tokens
from glip.processors import usable
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

TRIES = 20
"""Pictures that are drawn, one after the other, in the place of one that cannot be read."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One training picture with its prompt and what is to be found."""

    pixels: Tensor
    """(3, h, w), normalised, or 8-bit RGB."""
    token_ids: tuple[int, ...]
    """T tokens of the prompt."""
    token_map: Tensor
    """(P, T) bool."""
    target: Target
    image_id: ImageId
    unreadable: tuple[str, ...] = ()
    """Why pictures that were drawn before it could not be read."""


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
        raw: Leave pictures 8-bit RGB, to be normalised where they are trained on.
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
        raw: bool = False,
    ) -> None:
        self.sources = tuple(sources)
        self._passes = passes
        self._raw = raw
        self._tokenizer = tokenizer
        self.pixels = pixels
        self.augmentation = augmentation
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def augmented(self, augmentation: AugmentConfig) -> TrainingSet:
        """The same samples with other changes of their pictures."""
        return TrainingSet(
            self.sources,
            self._tokenizer,
            self.pixels,
            augmentation,
            max_tokens=self._max_tokens,
            passes=self._passes,
            raw=self._raw,
        )

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw, always the same.

        In the place of a picture that cannot be used stands another one of its source, and the
        sample says so. official: the same, in silence.

        Raises:
            DataError: none of `TRIES` pictures in a row can be used.
        """
        unreadable: list[str] = []
        for _ in range(TRIES):
            try:
                sample = self._sample(draw)
            except (ImageError, DataError) as error:
                unreadable.append(str(error))
                rng = random.Random(draw.seed)
                record = rng.randrange(len(self.sources[draw.source]))
                draw = Draw(draw.source, record, rng.getrandbits(63))
            else:
                return replace(sample, unreadable=tuple(unreadable))
        raise DataError(f"{TRIES} pictures in a row cannot be used, the last one: {unreadable[-1]}")

    def _sample(self, draw: Draw) -> Sample:
        """Raises ImageError for a picture that cannot be read, DataError if it has another size, or
        nothing that the text encoder can be asked for.
        """
        rng = random.Random(draw.seed)
        source = self.sources[draw.source]
        image_id, original = source.scene(draw.record)

        def partner() -> Scene:
            return source.partner(draw.record, rng)

        scene = augment(original, self.augmentation, self.pixels, rng, partner)
        try:
            worded = source.worded(scene, rng)
            if worded is None:
                raise PromptError("there is nothing to ask for")
            chosen = self._pass(worded, rng)
        except PromptError as error:
            raise DataError(f"image {image_id}: {error}") from error
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
        pixels = raw_pixels(scene.image) if self._raw else to_pixels(scene.image, self.pixels)
        return Sample(
            pixels, chosen.token_ids, torch.from_numpy(chosen.token_map), target, image_id
        )

    def _pass(self, worded: Worded, rng: random.Random) -> PromptPass:
        """One of the passes of a prompt, with a phrase that is there if any has one."""
        if self._passes is not None:
            passes = self._passes(worded.prompt)
        else:
            passes = worded.prompt.passes(self._tokenizer, self._max_tokens)
        asked = set(worded.phrases.tolist())
        return rng.choice([p for p in passes if asked & set(p.rows)] or list(passes))


def collate(samples: Sequence[Sample], pad_id: int = 0, pixels: PixelConfig | None = None) -> Batch:
    """A batch of samples: pictures padded to a common size, prompts to a common length.

    Args:
        samples: Of one set.
        pad_id: The token that fills a batch.
        pixels: How the weights want pictures that are not normalised yet.
    """
    pictures = [sample.pixels for sample in samples]
    raw = pictures[0].dtype == torch.uint8
    assert not raw or pixels is not None, "raw pictures are normalised by the model's config"
    tokens = Tokens.pad([sample.token_ids for sample in samples], pad_id)
    return Batch(
        pixels=RawPixels.of(pictures, pixels) if raw and pixels else pad_batch(pictures),
        tokens=tokens,
        targets=Targets.pad(
            [sample.target for sample in samples],
            [sample.token_map for sample in samples],
            tokens.mask,
        ),
        image_ids=[sample.image_id for sample in samples],
        unreadable=tuple(reason for sample in samples for reason in sample.unreadable),
    )


class Samples(Protocol):
    """What a loader draws from: `TrainingSet`, or another that makes samples of its own kind."""

    pixels: PixelConfig
    """How pictures become numbers."""

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw, always the same."""


def training_loader(
    dataset: Samples,
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
        workers: Processes that read pictures, no more than there are processors; 0 reads them in
            this one.
        pin_memory: Faster copies to a GPU.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # its items are batches once they are collated
        batch_sampler=sampler,
        collate_fn=partial(collate, pad_id=pad_id, pixels=dataset.pixels),
        num_workers=min(workers, usable()),
        pin_memory=pin_memory,
        worker_init_fn=seed_worker,
    )


def seed_worker(worker: int) -> None:
    """Give a worker's global generators a seed of its own, for code of users that draws from them.

    Our own samples never do. PyTorch seeds its own generator and, of late, the others as well;
    official runs with older versions repeated the same numbers in all workers (reference K.3).
    Ctrl-C, which the terminal sends to workers as well, is for the process that reads from them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, the very generator that such code draws from
