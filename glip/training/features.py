"""What no trained parameter touches is computed once for each picture, and kept.

How far a picture can go before it meets a parameter that moves follows from the model as it is
frozen: through backbone and pyramid (`Pyramid`), or through the whole tower as well (`Fused`), when
only the output layers are trained. Words that come from a resting text encoder are kept too.
Pictures go through the model one by one, so that each is seen as prediction sees it, and the
gradients of a step are accumulated. Knows nothing about how the trained part learns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal

import torch
from torch import Tensor, nn

from glip.data.augment import AugmentConfig
from glip.data.batch import Batch
from glip.data.caption_packing import PackingConfig
from glip.data.loader import TrainingSet, collate
from glip.data.mixture import Draw, MixtureSampler
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource, GroundingSource
from glip.errors import ConfigError
from glip.model.glip import GLIP, Fused, Pyramid
from glip.model.head import HeadOutput
from glip.model.text_encoder import Tokens, Words
from glip.training.freezing import to_training

Depth = Literal["pixels", "pyramid", "fused"]
GIB = 2**30


def depth(model: GLIP, resting: Sequence[str]) -> tuple[Depth, bool]:
    """How far pictures get before the first trained parameter, and whether words are fixed.

    Args:
        model: Frozen as it will be trained.
        resting: From `glip.training.freezing.freeze`.
    """
    to_training(model, resting)
    words = _is_fixed(model.text)
    if not (_is_fixed(model.backbone) and _is_fixed(model.neck)):
        return "pixels", words
    if words and all(_is_fixed(stage) for stage in model.head.stages):
        return "fused", words
    return "pyramid", words


def _is_fixed(part: nn.Module) -> bool:
    """Whether a part gives the same each time: nothing in it is trained or left to chance."""
    if any(parameter.requires_grad for parameter in part.parameters()):
        return False
    # Parts of the head have no other chance than dropout; encoders have kinds of their own.
    return not part.training or all(
        not module.training or getattr(module, "p", 0.0) == 0.0
        for module in part.modules()
        if isinstance(module, nn.Dropout)
    )


def check_cacheable(
    augmentation: AugmentConfig,
    sampling: Sequence[SamplingConfig],
    packing: Sequence[PackingConfig] = (),
) -> None:
    """Refuse settings under which a picture looks or is asked for differently each time.

    Raises:
        ConfigError: One of them, with the value that would do.
    """
    wanted = {
        "data.augment.short_sides": (len(augmentation.short_sides or ()) == 1, "a single size"),
        "data.augment.jitter": (augmentation.jitter is None, "null"),
        "data.augment.mosaic": (augmentation.mosaic == 0, "0"),
        "data.augment.brightness, contrast, saturation and hue": (
            not any(
                getattr(augmentation, name)
                for name in ("brightness", "contrast", "saturation", "hue")
            ),
            "0",
        ),
        "data.sources.*.sampling.negatives": (
            all(config.negatives == "all" for config in sampling),
            "all",
        ),
        "data.sources.*.sampling.shuffle": (
            not any(config.shuffle for config in sampling),
            "false",
        ),
        "data.sources.*.sampling.partial_probability": (
            not any(config.partial_probability for config in sampling),
            "0",
        ),
        "data.sources.*.sampling.wordings": (
            not any(config.wordings for config in sampling),
            "none",
        ),
        "data.sources.*.packing.captions": (not any(config.captions for config in packing), "0"),
    }
    for name, (fits, value) in wanted.items():
        if not fits:
            raise ConfigError(
                f"data.cache keeps features of pictures that stay the same: set {name} to {value}, "
                "or data.cache to false"
            )


class FromFeatures(nn.Module):
    """A model that goes on from features that were kept: the rest of the way for each batch.

    Args:
        module: The model; its parameters are the only ones.
    """

    def __init__(self, module: GLIP) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor | Pyramid | Fused, tokens: Tokens | Words) -> HeadOutput:
        """As `GLIP.forward`, from wherever the features of a batch stand.

        Args:
            pixels: (B, 3, H, W), or (B, C, H_l, W_l), or (B, A, C) behind the tower, which has
                met the tokens already.
            tokens: (B, T) ids, or (B, T, D) states.
        """
        model = self.module
        if isinstance(pixels, Fused):
            return model.predict_regions(pixels)
        pyramid = pixels if isinstance(pixels, Pyramid) else model.encode_image(pixels)
        words = tokens if isinstance(tokens, Words) else model.encode_text(tokens)
        return model.predict_regions(model.fuse(pyramid, words))


class FeatureCache:
    """Tensors by key up to a number of bytes; what comes after that is not kept.

    Args:
        gib: The limit.
    """

    def __init__(self, gib: float) -> None:
        self._room = int(gib * GIB)
        self._kept: dict[object, Batch | Pyramid] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: object) -> Batch | Pyramid | None:
        """What was kept."""
        return self._kept.get(key)

    def keep(self, key: object, value: Batch | Pyramid, size: int) -> None:
        """Keep something of a size in bytes, if there is room."""
        if self.bytes + size <= self._room:
            self._kept[key] = value
            self.bytes += size


class CachedBatches:
    """Batches of one picture for the training loop, in the order of a sampler.

    A flip is the only chance that is left: a picture and its mirror image are two entries.

    Args:
        dataset: Of samples; its augmentation is made certain here, see `check_cacheable`.
        sampler: Of batches of a single draw.
        model: What computes the features, frozen as it is trained, on `device`.
        resting: See `depth`.
        cache: Where they go.
        device: Of the model.
    Raises:
        ConfigError: Nothing can be kept, as pictures meet trained parameters at once.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        sampler: MixtureSampler,
        model: GLIP,
        resting: Sequence[str],
        cache: FeatureCache,
        device: torch.device,
    ) -> None:
        sampling = [s.sampling for s in dataset.sources if isinstance(s, DetectionSource)]
        captions = [s.packer for s in dataset.sources if isinstance(s, GroundingSource)]
        packing = [packer.config for packer in captions if packer is not None]
        check_cacheable(dataset.augmentation, sampling, packing)
        self.depth, self._fixed_words = depth(model, resting)
        if self.depth == "pixels":
            raise ConfigError(
                "data.cache: backbone or neck is trained, so no feature can be kept; freeze them "
                "(freeze.parts) or set data.cache to false"
            )
        self._flip = dataset.augmentation.flip
        self._sets = {
            mirrored: dataset.augmented(replace(dataset.augmentation, flip=float(mirrored)))
            for mirrored in (False, True)
        }
        self._sampler, self._model = sampler, model
        self._cache, self._device = cache, device

    def __iter__(self) -> Iterator[Batch]:
        for (draw,) in self._sampler:
            mirrored = Random(draw.seed).random() < self._flip
            key = (draw.source, draw.record, mirrored)
            batch = self._cache.get(key)
            if batch is None:
                batch = self._compute(Draw(draw.source, draw.record, 0), mirrored)
                self._cache.keep(key, batch, _size(batch))
            assert isinstance(batch, Batch)
            yield batch

    @torch.no_grad()
    def _compute(self, draw: Draw, mirrored: bool) -> Batch:
        batch = collate([self._sets[mirrored][draw]]).to(self._device)
        assert isinstance(batch.pixels, Tensor) and not isinstance(batch.tokens, Words)
        pyramid = self._model.encode_image(batch.pixels)
        words = self._model.encode_text(batch.tokens) if self._fixed_words else None
        if words is not None:
            # The loop looks at the mask of a batch's tokens alone, which words have too.
            batch = replace(batch, tokens=words)
        if self.depth == "fused" and words is not None:
            return replace(batch, pixels=self._model.fuse(pyramid, words))
        return replace(batch, pixels=pyramid)


class CachedPyramids:
    """Pyramids of pictures that are looked at again and again, as in evaluations of one run.

    Args:
        model: Its backbone and neck do not change.
        cache: Where they go; keys are digests of the pixels.
    """

    def __init__(self, model: GLIP, cache: FeatureCache) -> None:
        self._encode_image, self._cache = model.encode_image, cache

    def __call__(self, pixels: Tensor) -> Pyramid:
        """As `GLIP.encode_image`: (B, 3, H, W) to (B, C, H_l, W_l)."""
        data = pixels.to("cpu", torch.float32).contiguous().numpy().tobytes()
        key = (tuple(pixels.shape), hashlib.blake2b(data, digest_size=16).digest())
        pyramid = self._cache.get(key)
        if pyramid is None:
            pyramid = self._encode_image(pixels)
            self._cache.keep(key, pyramid, sum(_bytes(level) for level in pyramid.levels))
        assert isinstance(pyramid, Pyramid)
        return pyramid


def _size(batch: Batch) -> int:
    """Bytes of its features."""
    if isinstance(batch.pixels, Fused):
        return _bytes(batch.pixels.tower.regions) + _bytes(batch.pixels.tower.words.states)
    if isinstance(batch.pixels, Pyramid):
        return sum(_bytes(level) for level in batch.pixels.levels)
    assert isinstance(batch.pixels, Tensor), "kept batches are made of normalised samples"
    return _bytes(batch.pixels)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
