"""Pictures and words in, boxes out: the border between users' pixels and the model's.

`load` makes a `Detector` from weights; `Detector.predict` walks a picture through the pieces:
prompt, tokens, pixels, model, post-processing, pixels of the original picture.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.checkpoint import Weights, assemble, find, fingerprint, naming, read
from glip.choices import Aggregate, DType
from glip.config import ModelConfig
from glip.data.transforms import pad_batch, to_pixels
from glip.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    ImageError,
    NotFiniteError,
    PromptError,
)
from glip.images import ImageLike, ImageLikes, expand_sources, load_image
from glip.model.glip import GLIP, Pyramid
from glip.model.presets import preset
from glip.model.text_encoder import Tokens, Words
from glip.pixels import padded_hw, resize
from glip.postprocess import (
    Found,
    PostprocessOptions,
    cap,
    merge,
    one_phrase_each,
    rescale,
    select_candidates,
    suppress,
    without_negatives,
)
from glip.structures import Detections
from glip.task_prompt import TaskPrompt, read_prompt, rows_of
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

PromptLike = Prompt | str | Sequence[str]
logger = logging.getLogger(__name__)

CACHED_TEXTS = 256  # of at most 256 tokens each: below 200 MB for BERT-base


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: DType = "float32",
    prompt: str | os.PathLike[str] | None = None,
) -> Detector:
    """A detector, ready to predict.

    Args:
        source: A weights file (ours or an official one), or the name of a model; by default the
            small model that ships with the package. For a name, a local file is looked for first,
            then the Hugging Face Hub (see `glip.checkpoint.find`).
        weights: The file to take for the named model instead; it must hold that architecture.
        device: Such as "cpu" or "cuda:1"; by default a GPU if there is one.
        dtype: Number format of the model. Alignment, boxes and scores stay in float32 in any case.
        prompt: A learned prompt (NAME.prompt.safetensors) to answer, and nothing else: there is no
            text encoder in the model then. `Detector.with_prompt` puts one beside it instead.
    Raises:
        CheckpointError: No such weights, or they are damaged, unsafe, or of another model; a prompt
            that was made for others.
        DeviceError: The device is not on this machine.
        ConfigError: `dtype` is none of the three.
    """
    target = usable_device(device)
    if dtype not in get_args(DType):
        raise ConfigError(f"dtype {dtype!r} is not one of {', '.join(get_args(DType))}")
    task = None if prompt is None else read_prompt(prompt)
    path = find(weights if weights is not None else source)
    content = read(path)
    if weights is not None and source is not None:
        expected, got = preset(os.fspath(source)), content.config
        if (expected.backbone, expected.head) != (got.backbone, got.head):
            raise CheckpointError(f"{path} holds a {got.name}, not a {expected.name}")
    with naming(path):
        return Detector.from_weights(content, device=target, dtype=dtype, task=task)


def usable_device(wanted: str | torch.device | None) -> torch.device:
    """A device that is there: the named one, or else a GPU, or else the CPU.

    Raises:
        DeviceError: The named one is not on this machine.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeviceError(
            f"device '{wanted}' cannot be used on this machine ({reason}); 'cpu' always can"
        ) from error
    if device.type == "meta":
        raise DeviceError("device 'meta' holds no numbers; 'cpu' always can")
    return device


class Prepared(NamedTuple):
    """One picture on its way through the model."""

    number: int
    """Place in the caller's list."""
    pixels: Tensor
    """(3, h, w), normalised."""
    original_hw: tuple[int, int]

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width that the model sees."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class Outcome:
    """What became of one picture of a stream: detections, or the reason why there are none."""

    index: int
    """Place in the list of pictures, folders expanded."""
    source: ImageLike
    detections: Detections | None
    error: ImageError | None = None


class Detector:
    """A model with all it needs around it.

    Encoded texts are remembered: after a change of the model's weights make a new detector.

    Attributes:
        model: In evaluation mode on `device`.
        config: What the model was built from.
        tokenizer: Of its text encoder.
        device: Where it runs.
        dtype: Number format of its features.
        task: The learned prompt that it answers, see `with_prompt`; None for a free choice of
            words.
    """

    def __init__(
        self,
        model: GLIP,
        config: ModelConfig,
        tokenizer: Tokenizer,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        task: TaskPrompt | None = None,
        fingerprint: str | None = None,
        encode_image: Callable[[Tensor], Pyramid] | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.config = config
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.dtype = dtype
        self.task = task
        self._fingerprint = fingerprint
        # What makes features of pixels may remember them (`glip.training.features`).
        self._encode_image = encode_image
        self._texts: OrderedDict[tuple[int, ...], Words] = OrderedDict()
        self._passes: OrderedDict[Prompt, tuple[PromptPass, ...]] = OrderedDict()

    @classmethod
    def from_weights(
        cls,
        weights: Weights,
        *,
        device: torch.device | str = "cpu",
        dtype: DType = "float32",
        task: TaskPrompt | None = None,
    ) -> Detector:
        """A detector from weights that were read already (`glip.checkpoint.read`).

        With a learned prompt there is no text encoder in it, see `load`.
        """
        number_format: torch.dtype = getattr(torch, dtype)
        if weights.tokenizer_json is not None:
            tokenizer = Tokenizer.from_json(weights.tokenizer_json)
        elif weights.config.text.tokenizer == "bert-base-uncased":
            tokenizer = Tokenizer.bert_uncased()
        else:
            tokenizer = Tokenizer.from_file(weights.config.text.tokenizer)
        # Of the weights before they are rounded, so that it does not depend on the number format.
        exact = None if dtype == "float32" and task is None else fingerprint(weights.state)
        if task is not None and exact is not None:
            width = weights.state["head.outputs.project.weight"].shape[1]
            task.check(exact, width, weights.config.name)
        model = assemble(weights, number_format, None if task is None else task.table())
        return cls(
            model,
            weights.config,
            tokenizer,
            device=device,
            dtype=number_format,
            task=task,
            fingerprint=exact,
        )

    @property
    def fingerprint(self) -> str:
        """What tells this model from others, for the prompts that are learned for it."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.model.state_dict())
        return self._fingerprint

    def with_prompt(self, prompt: str | os.PathLike[str] | TaskPrompt) -> Detector:
        """This detector with a learned prompt in the place of its text encoder, which then rests.

        The new one shares all other weights with this one, which stays as it is; so one model holds
        any number of tasks, and switching costs nothing. Without words, `predict` looks for all
        classes of the task; class names choose some of them, in any order.

        Args:
            prompt: A file that `glip tune --mode prompt` wrote (NAME.prompt.safetensors), or its
                content.
        Raises:
            CheckpointError: No such file, or it was made for another model.
        """
        task = prompt if isinstance(prompt, TaskPrompt) else read_prompt(prompt)
        head = self.model.head
        task.check(self.fingerprint, head.outputs.project.in_features, self.config.name)
        table = task.table().to(self.device, self.dtype)
        model = GLIP(self.model.backbone, self.model.neck, table, head)
        return Detector(
            model,
            self.config,
            self.tokenizer,
            device=self.device,
            dtype=self.dtype,
            task=task,
            fingerprint=self.fingerprint,
            encode_image=self._encode_image,
        )

    def predict(
        self,
        images: ImageLikes,
        prompts: PromptLike | Sequence[PromptLike] | None = None,
        *,
        threshold: float | None = None,
        nms: float = 0.6,
        max_detections: int = 100,
        aggregate: Aggregate = "mean",
        exclusive: bool = False,
        batch_size: int = 1,
    ) -> list[Detections]:
        """Boxes for the phrases of a prompt in each picture.

        A list of pictures gives what its pictures give one by one, up to rounding: batches hold
        pictures of one padded size only.

        Args:
            images: A path, a folder, a Pillow image, an array (H, W, 3), a tensor (3, H, W), all in
                RGB, or a list of any of them; see `glip.images.load_image`.
            prompts: One prompt for all pictures: a text ("person. bicycle.", or a caption), a list
                of class names, or a `Prompt`. Or one for each picture: a list as long as the
                pictures whose members are prompts; as a plain list of strings is class names, at
                least one member must be a list or a `Prompt` (`Prompt.of("a cat on a mat")`).
                By default all classes of the learned prompt, if there is one.
            threshold: Detections score above this, in [0, 1]; by default that of the model's
                config, or what was fitted for each class of a learned prompt. official: a region
                whose phrase has a probability of 0.05 or less is none, whatever the threshold.
            nms: IoU above which the lower-scored of two boxes of one phrase goes.
            max_detections: For each picture. official: equals of the last one stay as well.
            aggregate: How the scores of a phrase's tokens become one: "mean", "max" or "first".
            exclusive: Boxes of different phrases suppress each other as well, so that each thing
                gets one phrase, the best. Leave it off where phrases name parts or kinds of others.
            batch_size: Pictures that go through the model together; more than one helps on a GPU.
        Returns:
            One `Detections` for each picture, best first, boxes in pixels of the original picture.
        Raises:
            ImageError: A picture cannot be used.
            PromptError: A prompt is empty or a phrase of it longer than the encoder.
            ConfigError: An option out of range.
            DeviceError: Too little memory, or numbers that overflow in float16.
        """
        options = PostprocessOptions(
            score=self.lowest_threshold if threshold is None else threshold,
            nms=nms,
            max_detections=max_detections,
            aggregate=aggregate,
            exclusive=exclusive,
        )
        found = []
        for outcome in self.stream(images, prompts, options=options, batch_size=batch_size):
            if outcome.detections is None:
                assert outcome.error is not None
                raise outcome.error
            detections = outcome.detections
            found.append(self.above_fitted(detections) if threshold is None else detections)
        return found

    @property
    def lowest_threshold(self) -> float:
        """The model's own, or the lowest of those fitted for the classes of a learned prompt."""
        fitted = () if self.task is None else self.task.thresholds
        return min(fitted, default=self.config.threshold)

    def above_fitted(self, found: Detections) -> Detections:
        """The detections above what was fitted for their classes; without that, all of them."""
        if self.task is None or not self.task.thresholds:
            return found
        rows = rows_of(found.prompt.names, self.task.names)
        limits = torch.tensor([self.task.thresholds[row] for row in rows])
        return found[found.scores > limits[found.phrase_ids]]

    def stream(
        self,
        images: ImageLikes,
        prompts: PromptLike | Sequence[PromptLike] | None = None,
        *,
        options: PostprocessOptions | None = None,
        batch_size: int = 1,
    ) -> Iterator[Outcome]:
        """`predict` for many pictures: results come in order as they are ready, in constant memory.

        A picture that cannot be used is an outcome with an error; the rest goes on.

        Args:
            images: As in `predict`.
            prompts: As in `predict`.
            options: By default the official test settings, which keep scores down to 0.
            batch_size: As in `predict`.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size must be a whole number from 1, got {batch_size!r}")
        options = options or PostprocessOptions()
        if prompts is None:
            if self.task is None:
                raise PromptError("say what to look for: class names, a text, or a learned prompt")
            prompts = self.task.prompt
        sources = expand_sources(images)
        each = self._one_for_each(prompts, len(sources))
        for prompt in dict.fromkeys(each):
            self._passes_of(prompt)  # a prompt that cannot be used fails before any work is done
        # A window of several batches lets pictures of one size find each other.
        window = batch_size * 4 if batch_size > 1 else 1
        for start in range(0, len(sources), window):
            numbers = range(start, min(start + window, len(sources)))
            errors: dict[int, ImageError] = {}
            pictures = []
            for index in numbers:
                try:
                    pictures.append(self.prepare(sources[index], index))
                except ImageError as error:
                    errors[index] = error
            found: dict[int, Detections] = {}
            for places in _of_one_size(pictures):
                for first in range(0, len(places), batch_size):
                    batch = [pictures[place] for place in places[first : first + batch_size]]
                    asked = [[each[picture.number]] for picture in batch]
                    results = self._detect(batch, asked, options)
                    for picture, (detections,) in zip(batch, results, strict=True):
                        found[picture.number] = detections
            for index in numbers:
                yield Outcome(index, sources[index], found.get(index), errors.get(index))

    def prepare(self, source: ImageLike, number: int = 0) -> Prepared:
        """A picture decoded, resized and normalised: the part of the work that any thread can do.

        Args:
            source: As one of the `images` of `predict`.
            number: Whatever the caller tells pictures apart by.
        Raises:
            ImageError: The picture cannot be used.
        """
        image = load_image(source)
        pixels = to_pixels(resize(image, self.config.pixels), self.config.pixels)
        return Prepared(number, pixels, (image.height, image.width))

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        *,
        options: PostprocessOptions | None = None,
    ) -> list[list[Detections]]:
        """Several prompts over each picture, such as its captions; the backbone sees it once.

        Args:
            pictures: As `prepare` makes them; those of one padded size go through the model
                together, all of them at a time.
            prompts: For each picture its own, of any length and number.
            options: By default the official test settings, which keep scores down to 0.
        Returns:
            For each picture one `Detections` for each of its prompts, best first.
        Raises:
            PromptError: A phrase is longer than the encoder.
            DeviceError: Too little memory, or numbers that overflow in float16.
        """
        options = options or PostprocessOptions()
        found: list[list[Detections]] = [[] for _ in pictures]
        for places in _of_one_size(pictures):
            batch = [pictures[place] for place in places]
            results = self._detect(batch, [prompts[place] for place in places], options)
            for place, detections in zip(places, results, strict=True):
                found[place] = detections
        return found

    def _one_for_each(self, prompts: PromptLike | Sequence[PromptLike], count: int) -> list[Prompt]:
        """The prompt of each picture; equal ones are one object."""
        if isinstance(prompts, (Prompt, str)) or (
            isinstance(prompts, Sequence) and all(isinstance(p, str) for p in prompts)
        ):
            return [Prompt.of(prompts)] * count  # type: ignore[arg-type]
        if not isinstance(prompts, Sequence) or isinstance(prompts, (bytes, bytearray)):
            return [Prompt.of(prompts)] * count  # which says what a prompt is
        if len(prompts) != count:
            strange = [p for p in prompts if not isinstance(p, (str, Prompt, Sequence))]
            if strange:
                raise PromptError(f"a name must be text, got {strange[0]!r} among {prompts!r}")
            raise PromptError(
                f"got {len(prompts)} prompts for {count} pictures; give one prompt for all of them "
                "or one for each"
            )
        return [Prompt.of(prompt) for prompt in prompts]

    def _passes_of(self, prompt: Prompt) -> tuple[PromptPass, ...]:
        """The prompt in pieces that fit the text encoder, remembered."""
        if prompt not in self._passes:
            if self.task is None:
                passes = tuple(prompt.passes(self.tokenizer, self.config.text.max_tokens))
                self._warn_of_unknown_words(prompt, passes)
            else:
                passes = (self.task.answer(prompt),)
            self._passes[prompt] = passes
            if len(self._passes) > CACHED_TEXTS:
                self._passes.popitem(last=False)
        self._passes.move_to_end(prompt)
        return self._passes[prompt]

    def _warn_of_unknown_words(self, prompt: Prompt, passes: Sequence[PromptPass]) -> None:
        """All such words are one token, so what is found for them has nothing to do with them."""
        strange = [
            prompt.names[row]
            for one in passes
            for row, tokens in zip(one.rows, one.token_map, strict=True)
            if {one.token_ids[place] for place in tokens.nonzero().flatten().tolist()}
            == {self.tokenizer.unknown_id}
        ]
        if strange:
            logger.warning(
                "the text encoder cannot read %s: what is found for that means nothing; use words "
                "of the language it was trained on",
                ", ".join(map(repr, strange[:5])),
            )

    def _words(self, token_ids: tuple[int, ...]) -> Words:
        """Encoded text of one pass, (1, T, D); the text encoder runs once for each."""
        if token_ids not in self._texts:
            tokens = Tokens.pad([token_ids], self.tokenizer.pad_id).to(self.device)
            self._texts[token_ids] = self.model.encode_text(tokens)
            if len(self._texts) > CACHED_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(token_ids)
        return self._texts[token_ids]

    def _not_finite(self) -> NotFiniteError | DeviceError:
        """Why the model may have given NaN or infinity."""
        if self.dtype == torch.float16:
            return DeviceError(
                "the model's numbers overflow in float16; load it with dtype='bfloat16' or "
                "'float32'"
            )
        return NotFiniteError(
            f"{self.config.name} gives NaN or infinity in "
            f"{str(self.dtype).removeprefix('torch.')}; its weights are damaged, or their training "
            "diverged"
        )

    @torch.inference_mode()
    def _detect(
        self,
        batch: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        options: PostprocessOptions,
    ) -> list[list[Detections]]:
        """Detections of pictures of one padded size, for each prompt of each."""
        passes = [
            [(which, part) for which, own in enumerate(asked) for part in self._passes_of(own)]
            for asked in prompts
        ]
        found: list[list[list[Found]]] = [[[] for _ in asked] for asked in prompts]
        try:
            pixels = pad_batch([picture.pixels for picture in batch])
            encode_image = self._encode_image or self.model.encode_image
            pyramid = encode_image(pixels.to(self.device, self.dtype))
            for places, numbers in _rounds([len(own) for own in passes]):
                seen = pyramid if len(places) == len(batch) else pyramid.of(places)
                rows = [[passes[place][number] for place in places] for number in numbers]
                words = [_stack([self._words(part.token_ids) for _, part in row]) for row in rows]
                for row, output in zip(rows, self.model.predict_prompts(seen, words), strict=True):
                    if not torch.stack([part.isfinite().all() for part in output[:3]]).all():
                        raise self._not_finite()
                    for index, (place, (which, part)) in enumerate(zip(places, row, strict=True)):
                        token_map, size = part.token_map.to(self.device), batch[place].resized_hw
                        candidates = select_candidates(output, index, token_map, size, options)
                        kept = suppress(candidates, self._uncapped(options))
                        phrases = torch.tensor(part.rows, device=self.device)
                        found[place][which].append(kept._replace(labels=phrases[kept.labels]))
        except torch.cuda.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has too little memory for {len(batch)} pictures at a time; "
                "lower batch_size, or load the model with dtype='bfloat16'"
            ) from error
        return [
            [
                self._finished(picture, prompt, parts, options)
                for prompt, parts in zip(asked, own, strict=True)
            ]
            for picture, asked, own in zip(batch, prompts, found, strict=True)
        ]

    def _uncapped(self, options: PostprocessOptions) -> PostprocessOptions:
        """What goes because of other phrases has to go before detections are counted."""
        negatives = self.task is not None and len(self.task.negatives)
        if not negatives and not options.exclusive:
            return options
        return replace(options, max_detections=sys.maxsize)

    def _finished(
        self,
        picture: Prepared,
        prompt: Prompt,
        parts: Sequence[Found],
        options: PostprocessOptions,
    ) -> Detections:
        """What the passes of a prompt found, in pixels of the original picture."""
        found = merge(parts, self._uncapped(options).max_detections)
        if self.task is not None and len(self.task.negatives):
            found = without_negatives(found, len(prompt), options.nms)
        if options.exclusive:
            found = one_phrase_each(found, options)
        found = cap(found, options.max_detections)
        boxes = rescale(found.boxes, picture.resized_hw, picture.original_hw)
        return Detections(
            boxes.cpu(), found.scores.cpu(), found.labels.cpu(), prompt, picture.original_hw
        )


def _of_one_size(pictures: Sequence[Prepared]) -> list[list[int]]:
    """Places of pictures of one padded size: together, each gives what it gives alone."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(padded_hw(picture.resized_hw), []).append(place)
    return list(groups.values())


def _rounds(counts: Sequence[int]) -> list[tuple[list[int], range]]:
    """Which pictures have a pass of which numbers: `counts` passes each, taken side by side.

    (2, 0, 5) gives ([0, 2], passes 0 and 1) and ([2], passes 2, 3 and 4).
    """
    ends = sorted({count for count in counts if count})
    return [
        ([place for place, count in enumerate(counts) if count >= end], range(start, end))
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _stack(words: Sequence[Words]) -> Words:
    """(B, T, D) of one-row texts, padded to the longest; a single row if all are the same."""
    if all(w is words[0] for w in words):
        return words[0]
    longest = max(w.mask.shape[1] for w in words)
    pads = [longest - w.mask.shape[1] for w in words]
    states = [F.pad(w.states, (0, 0, 0, pad)) for w, pad in zip(words, pads, strict=True)]
    masks = [F.pad(w.mask, (0, pad)) for w, pad in zip(words, pads, strict=True)]
    return Words(torch.cat(states), torch.cat(masks))
