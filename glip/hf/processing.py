"""Pictures and words into inputs of `GlipForObjectDetection`, and its outputs into boxes.

`GlipImageProcessor` is `glip.pixels` behind transformers' interface, `GlipProcessor` that together
with the tokenizer and our prompts. Letters: B pictures, P phrases, T tokens, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from glip.boxes import to_edges
from glip.config import PixelConfig, PostprocessOptions
from glip.data.augment import scene_boxes
from glip.data.transforms import pad_batch, to_pixels
from glip.errors import ConfigError, PromptError
from glip.hf.modeling import GlipObjectDetectionOutput, head_output
from glip.images import load_image
from glip.model.text_encoder import Tokens
from glip.passes import Passes
from glip.pixels import resize, resized_hw
from glip.postprocess import rescale, select_candidates, suppress
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

TextLike = Prompt | str | Sequence[str]
"""A prompt as `glip.Detector.predict` takes it."""


class GlipImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Pictures resized, normalised and padded together.

    Args:
        size: "shortest_edge" and "longest_edge" in pixels, see `glip.config.PixelConfig`.
        image_mean: Subtracted from pixel values 0..255; R, G, B.
        image_std: Divides the difference; R, G, B.
        channel_order: "rgb" or "bgr", what the weights expect. Pictures are RGB in any case.
    Raises:
        ConfigError: Values that no picture can have.
    """

    model_input_names: ClassVar[Any] = ["pixel_values"]

    def __init__(
        self,
        size: Mapping[str, int] | None = None,
        image_mean: Sequence[float] = PixelConfig.mean,
        image_std: Sequence[float] = PixelConfig.std,
        channel_order: str = PixelConfig.order,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        usual = {"shortest_edge": PixelConfig.short_side, "longest_edge": PixelConfig.long_side}
        self.size = {**usual, **(size or {})}
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.channel_order = channel_order
        _ = self.pixels  # what cannot be is said here

    @classmethod
    def of(cls, pixels: PixelConfig) -> GlipImageProcessor:
        """The processor of a model."""
        size = {"shortest_edge": pixels.short_side, "longest_edge": pixels.long_side}
        return cls(size, pixels.mean, pixels.std, pixels.order)

    @property
    def pixels(self) -> PixelConfig:
        """The same numbers as ours."""
        mean, std = (tuple(map(float, values)) for values in (self.image_mean, self.image_std))
        return PixelConfig(
            int(self.size["shortest_edge"]),
            int(self.size["longest_edge"]),
            mean,  # type: ignore[arg-type]
            std,  # type: ignore[arg-type]
            self.channel_order,  # type: ignore[arg-type]
        )

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        """See `preprocess`."""
        return self.preprocess(images, **kwargs)

    def preprocess(
        self, images: Any, return_tensors: str | None = "pt", **kwargs: Any
    ) -> BatchFeature:
        """One picture or several as "pixel_values", (B, 3, H, W).

        Args:
            images: A path, an address, a Pillow image, an array (H, W, 3), a tensor (3, H, W), or a
                list of them; see `glip.images.load_image`.
            return_tensors: "pt" or "np".
            kwargs: None that would change anything.
        Raises:
            ImageError: A picture cannot be used.
            ConfigError: An option that is not known.
        """
        _refuse(kwargs, "GlipImageProcessor")
        several = list(images) if isinstance(images, (list, tuple)) else [images]
        config = self.pixels
        tensors = [to_pixels(resize(load_image(image), config), config) for image in several]
        return BatchFeature({"pixel_values": pad_batch(tensors)}, tensor_type=return_tensors)


class GlipProcessor(ProcessorMixin):  # type: ignore[misc]
    """Pictures, prompts and, for training, boxes.

    Args:
        image_processor: Makes "pixel_values".
        tokenizer: Of the text encoder, a fast one.
        max_tokens: What that takes, [CLS] and [SEP] included.
        threshold: Detections score above this unless a caller says otherwise.
    """

    attributes: ClassVar[Any] = ["image_processor", "tokenizer"]
    valid_kwargs: ClassVar[Any] = ["max_tokens", "threshold"]
    if Version(transformers.__version__) < Version("5.dev0"):  # later ones ask the auto classes
        image_processor_class = "AutoImageProcessor"
        tokenizer_class = "AutoTokenizer"

    def __init__(
        self, image_processor: Any, tokenizer: Any, max_tokens: int = 256, threshold: float = 0.3
    ) -> None:
        super().__init__(image_processor, tokenizer)
        self.max_tokens = max_tokens
        self.threshold = threshold
        self._words: Tokenizer | None = None
        self._passes: Passes | None = None

    @property
    def words(self) -> Tokenizer:
        """The tokenizer as one of ours."""
        if self._words is None:
            self._words = Tokenizer.from_json(self.tokenizer.backend_tokenizer.to_str())
        return self._words

    @property
    def passes(self) -> Passes:
        """Prompts less what the text encoder cannot read."""
        if self._passes is None:
            self._passes = Passes(self.words, self.max_tokens, None)
        return self._passes

    def __call__(
        self,
        images: Any = None,
        text: TextLike | Sequence[TextLike] | None = None,
        annotations: Sequence[Mapping[str, Any]] | None = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Inputs of the model.

        Args:
            images: See `GlipImageProcessor.preprocess`.
            text: One prompt for all pictures, a text ("cat. dog.") or class names; or a list with a
                prompt for each picture, of which at least one is a list or a `Prompt`.
            annotations: For each picture "boxes", (N, 4) xyxy in pixels of the original picture,
                far edges exclusive, and "phrases", (N,) rows of its prompt's phrases; they become
                "labels".
            return_tensors: "pt".
            kwargs: None that would change anything.
        Returns:
            "pixel_values" (B, 3, H, W), "input_ids" and "attention_mask" (B or 1, T), "labels".
        Raises:
            PromptError: A prompt that needs several passes; the pipeline and `glip.load(folder)`
                make them.
            ConfigError: Other options, or numbers that do not fit together.
        """
        _refuse(kwargs, "GlipProcessor")
        if return_tensors != "pt":
            raise ConfigError(
                f"return_tensors is {return_tensors!r}; there are tensors of torch, 'pt'"
            )
        if images is None and text is None:
            raise ConfigError("neither images nor text; give at least one")
        several = [] if images is None else _listed(images)
        result = {} if images is None else dict(self.image_processor(several))
        passes = [] if text is None else [self._pass(one) for one in _prompts(text, len(several))]
        if passes:
            tokens = Tokens.pad([part.token_ids for part in passes], self.words.pad_id)
            result |= {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
        if annotations is not None:
            result["labels"] = self._labels(several, passes, annotations)
        return BatchFeature(result)

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> BatchFeature:
        """A batch for `Trainer(data_collator=processor.collate)`.

        Args:
            samples: Each with "image", "text", "boxes" and "phrases", as of `__call__`.
        """
        text = [Prompt.of(sample["text"]) for sample in samples]
        annotations = [{k: sample[k] for k in ("boxes", "phrases")} for sample in samples]
        return self([sample["image"] for sample in samples], text, annotations)

    def post_process_grounded_object_detection(
        self,
        outputs: GlipObjectDetectionOutput,
        text: TextLike | Sequence[TextLike],
        target_sizes: Sequence[tuple[int, int]] | Tensor,
        threshold: float | None = None,
        nms: float = 0.6,
        max_detections: int = 100,
    ) -> list[dict[str, Any]]:
        """Boxes of each picture, best first: those that `glip.load(folder).predict` finds.

        A batch of pictures that are of several sizes once they are resized is padded to the
        largest, which changes scores and boxes somewhat.

        Args:
            outputs: Of the model.
            text: As of `__call__`.
            target_sizes: B (height, width) of the original pictures, pixels.
            threshold: Detections score above this; by default the processor's own.
            nms: IoU above which the lower-scored of two boxes of one phrase goes.
            max_detections: Of each picture.
        Returns:
            For each picture "scores" (N,), "labels" (N,) rows of its phrases, "text_labels", N
            phrases, and "boxes" (N, 4) xyxy in pixels, far edges exclusive.
        Raises:
            ConfigError: Sizes of another number of pictures, or an option out of range.
        """
        found = head_output(outputs)
        score = self.threshold if threshold is None else threshold
        options = PostprocessOptions(score=score, nms=nms, max_detections=max_detections)
        sizes = [(int(height), int(width)) for height, width in target_sizes]
        if len(sizes) != len(found.logits):
            raise ConfigError(f"{len(sizes)} target_sizes for {len(found.logits)} pictures")
        prompts = _prompts(text, len(sizes))
        prompts = prompts * len(sizes) if len(prompts) == 1 else prompts
        return [
            self._boxes(found, index, prompt, size, options)
            for index, (prompt, size) in enumerate(zip(prompts, sizes, strict=True))
        ]

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives, labels aside."""
        return ["pixel_values", "input_ids", "attention_mask"]

    def _pass(self, prompt: Prompt) -> PromptPass:
        passes = prompt.passes(self.words, self.max_tokens)
        if len(passes) > 1:
            raise PromptError(
                f"{len(prompt)} phrases need {len(passes)} passes of {self.max_tokens} tokens; the "
                "pipeline and glip.load(folder) make them, or ask for fewer at a time"
            )
        return passes[0]

    def _labels(
        self,
        images: Sequence[Any],
        passes: list[PromptPass],
        annotations: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Tensor]]:
        if not passes or not images or len(annotations) != len(images):
            raise ConfigError(
                f"{len(annotations)} annotations need as many images and a text, got {len(images)}"
            )
        each = passes * len(images) if len(passes) == 1 else passes
        return [self._label(*own) for own in zip(images, each, annotations, strict=True)]

    def _label(
        self, image: Any, part: PromptPass, annotation: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """What one picture shows, in its resized pixels, rows of its token map."""
        boxes = np.asarray(annotation["boxes"], np.float64).reshape(-1, 4)
        phrases = torch.as_tensor(np.asarray(annotation["phrases"], np.int64)).reshape(-1)
        if len(boxes) != len(phrases):
            raise ConfigError(f"{len(boxes)} boxes with {len(phrases)} phrases; give each box one")
        if len(phrases) and not 0 <= int(phrases.min()) <= int(phrases.max()) < len(part.rows):
            raise ConfigError(
                f"phrases {phrases.tolist()}: the prompt has {len(part.rows)}, from 0"
            )
        original = load_image(image)
        size = (original.height, original.width)
        counted, useful = scene_boxes(boxes, size)
        if not useful.all():
            raise ConfigError(
                f"box {boxes[~useful][0].tolist()} covers nothing of a picture of "
                f"{original.width}x{original.height}; boxes are x1, y1, x2, y2 in its pixels"
            )
        scaled = rescale(torch.from_numpy(counted), size, self._resized(size))
        token_map = torch.from_numpy(part.token_map)
        return {"boxes": scaled, "class_labels": phrases, "token_map": token_map}

    def _boxes(
        self,
        found: Any,
        index: int,
        prompt: Prompt,
        original_hw: tuple[int, int],
        options: PostprocessOptions,
    ) -> dict[str, Any]:
        whole = self._pass(prompt)
        readable = self.passes.of(prompt)
        part = readable[0] if readable else replace(whole, token_map=whole.token_map[:0], rows=())
        resized = self._resized(original_hw)
        token_map = torch.from_numpy(part.token_map).to(found.logits.device)
        kept = suppress(select_candidates(found, index, token_map, resized, options), options)
        boxes = to_edges(rescale(kept.boxes, resized, original_hw), original_hw)
        labels = torch.tensor(part.rows, device=kept.labels.device)[kept.labels]
        names = [prompt.names[row] for row in labels.tolist()]
        return {"scores": kept.scores, "labels": labels, "text_labels": names, "boxes": boxes}

    def _resized(self, original_hw: tuple[int, int]) -> tuple[int, int]:
        pixels = self.image_processor.pixels
        return resized_hw(original_hw, pixels.short_side, pixels.long_side)


def _listed(images: Any) -> list[Any]:
    return list(images) if isinstance(images, (list, tuple)) else [images]


def _prompts(text: TextLike | Sequence[TextLike], count: int) -> list[Prompt]:
    """One prompt for all pictures, or one for each."""
    if isinstance(text, (str, Prompt)) or all(isinstance(one, str) for one in text):
        return [Prompt.of(text)]  # type: ignore[arg-type]
    prompts = [Prompt.of(one) for one in text]
    if count and len(prompts) not in (1, count):
        raise PromptError(f"{len(prompts)} prompts for {count} pictures; give one or one for each")
    return prompts


def _refuse(options: Mapping[str, Any], who: str) -> None:
    """Refuse options that would be ignored; transformers passes some that say nothing."""
    strange = [name for name, value in options.items() if value not in (None, False, {})]
    if strange:
        raise ConfigError(f"{who} knows no option {strange[0]!r}")
