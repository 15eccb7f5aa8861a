"""The model side of a prediction: prepared pixels and prompts in, detections out.

Prompts become passes that fit the text encoder, each text is encoded once and remembered, pictures
of one padded size go through the model together, and what the passes of a prompt found is put
together in pixels of the original picture. Knows nothing about files, or what else users hand in.

Letters: B pictures of a batch, T tokens, D text width.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast, get_args

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from glip.boxes import to_edges
from glip.checkpoint import Weights, assemble, fingerprint, naming, read
from glip.choices import DType
from glip.config import ModelConfig, PostprocessOptions
from glip.data.transforms import RawPixels, pad_batch, raw_pixels, to_pixels
from glip.errors import CheckpointError, ConfigError, DeviceError, NotFiniteError
from glip.model.glip import GLIP, Pyramid
from glip.model.head import HeadOutput
from glip.model.ops.transfer import Arriving, uploaded
from glip.model.presets import preset
from glip.model.prompt_table import PromptTable
from glip.model.replayed import ReplayedGLIP
from glip.model.text_encoder import Tokens, Words
from glip.passes import Passes, keep
from glip.pixels import Prepared, resize
from glip.postprocess import (
    Found,
    cap,
    merge,
    one_phrase_each,
    rescale,
    select_candidates,
    select_on_device,
    suppress,
    tokens_of_phrases,
    without_negatives,
)
from glip.structures import Detections
from glip.task_prompt import TaskPrompt, read_prompt
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

FORCE_DTYPE = "GLIP_FORCE_DTYPE"
"""The environment variable that keeps a number format which this processor is slow in."""
CUDA_GRAPHS = "GLIP_CUDA_GRAPHS"
"""The environment variable that, set to 0, launches everything anew for each GPU prediction."""

TEXTS_AT_ONCE = 16
"""New texts that a GPU encodes together."""
BATCHES_AT_ONCE = 3
"""Of a GPU: one that is stacked, one that it works at, one whose detections are made."""

logger = logging.getLogger(__name__)


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


def usable_dtype(wanted: DType | torch.dtype, device: torch.device) -> torch.dtype:
    """The number format to load a model in.

    bfloat16 on a processor without instructions for it takes 5 to 15 times as long as float32, so
    float32 is taken there and a warning says so, unless `GLIP_FORCE_DTYPE=1` is set.

    Args:
        wanted: A name or torch's own, such as `torch.bfloat16`.
        device: Where the model will run.
    Raises:
        ConfigError: None of the three.
    """
    name = str(wanted).removeprefix("torch.")
    if name not in get_args(DType):
        raise ConfigError(f"dtype {wanted!r} is not one of {', '.join(get_args(DType))}")
    dtype = cast(torch.dtype, getattr(torch, name))
    if dtype != torch.bfloat16 or device.type != "cpu" or os.environ.get(FORCE_DTYPE) == "1":
        return dtype
    if _cpu_has_bfloat16():
        return dtype
    logger.warning(
        "this processor has no instructions for bfloat16 and would be many times slower in it: the "
        "model is loaded in float32 instead; set %s=1 to have bfloat16 all the same",
        FORCE_DTYPE,
    )
    return torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where nobody says so, it does not."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: Apple's processors from the second generation on do
        return platform.machine() == "arm64" and "M1" not in platform.processor()
    return any(name in flags for name in ("avx512_bf16", "amx_bf16", " bf16"))


def load_engine(
    path: Path,
    device: str | torch.device | None,
    dtype: DType | torch.dtype,
    prompt: str | os.PathLike[str] | None,
    *,
    architecture: str | None = None,
) -> Engine:
    """An engine for weights on disk; `device`, `dtype`, `prompt` and errors are as of `glip.load`.

    Args:
        path: What `glip.released.find` gives.
        architecture: Name of the model that it must hold.
    """
    target = usable_device(device)
    number_format = usable_dtype(dtype, target)
    task = None if prompt is None else read_prompt(prompt)
    content = read(path, number_format)
    if architecture is not None:
        expected, got = preset(architecture), content.config
        if (expected.backbone, expected.head) != (got.backbone, got.head):
            raise CheckpointError(f"{path} holds a {got.name}, not a {expected.name}")
    with naming(path):
        return Engine.from_weights(content, device=target, dtype=number_format, task=task)


class Engine:
    """A model on its device, with the tokenizer and the passes that its text encoder needs.

    Encoded texts are remembered, and on a GPU what the model launches for sizes that come again
    (`GLIP_CUDA_GRAPHS=0` turns that off): after a change of the model's weights make a new engine.
    Any number of threads may use one engine at the same time.

    Args:
        model: It is put into evaluation mode.
        config: What the model was built from.
        tokenizer: Of its text encoder.
        device: Where it runs; the model moves there.
        dtype: Number format of its features.
        task: The learned prompt that it answers; None for a free choice of words.
        fingerprint: Of the weights, if it is known, see `glip.checkpoint.fingerprint`.
        encode_image: In the place of `model.encode_image`, such as one that remembers
            (`glip.training.features`): (B, 3, H, W) to (B, C, H_l, W_l).
    """

    kind = "glip"
    """What tells engines of other people's detectors apart."""

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
        # With its number: which GPU is the current one, each thread has for itself.
        self.device = next(self.model.parameters()).device
        self.dtype = dtype
        self.task = task
        self.encode_image = encode_image
        graphs = self.device.type == "cuda" and os.environ.get(CUDA_GRAPHS) != "0"
        self._runner = ReplayedGLIP(self.model) if graphs else self.model
        self._launching = threading.Lock()  # held by the thread that gives a GPU a batch
        self._fingerprint = fingerprint
        self._texts: dict[tuple[int, ...], Words] = {}
        self.passes = Passes(tokenizer, config.text.max_tokens, task)

    @classmethod
    def from_weights(
        cls,
        weights: Weights,
        *,
        device: torch.device | str = "cpu",
        dtype: DType | torch.dtype = "float32",
        task: TaskPrompt | None = None,
    ) -> Engine:
        """An engine for weights that were read already (`glip.checkpoint.read`).

        Args:
            weights: Their tensors become the model's where they need not change.
            device: As of the constructor.
            dtype: By name or torch's own.
            task: A learned prompt; there is no text encoder in the model then.
        Raises:
            CheckpointError: The prompt was learned for other weights.
        """
        number_format = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
        # Of the weights before they are rounded, so that it does not depend on the number format.
        rounded = number_format != torch.float32
        exact = weights.exact
        if exact is None and (rounded or task is not None):
            exact = fingerprint(weights.state)
        table = None
        if task is not None and exact is not None:
            width = weights.state["head.outputs.project.weight"].shape[1]
            task.check(exact, width, weights.config.name)
            table = _table(task)
        model = assemble(weights, number_format, table)
        if torch.device(device).type == "cpu":  # faster there by a tenth, most of it depthwise
            model.backbone.to(memory_format=torch.channels_last)
            model.neck.to(memory_format=torch.channels_last)
        return cls(
            model,
            weights.config,
            tokenizer_of(weights),
            device=device,
            dtype=number_format,
            task=task,
            fingerprint=exact,
        )

    @property
    def at_once(self) -> int:
        """How many threads should ask it at the same time, for it to be busy all the time."""
        return BATCHES_AT_ONCE if self.device.type == "cuda" else 1

    @property
    def fingerprint(self) -> str:
        """What tells this model from others, for the prompts that are learned for it."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.model.state_dict())
        return self._fingerprint

    def with_task(self, task: TaskPrompt) -> Engine:
        """An engine on the same weights with a learned prompt in the place of the text encoder.

        Raises:
            CheckpointError: It was learned for other weights.
        """
        head = self.model.head
        task.check(self.fingerprint, head.outputs.project.in_features, self.config.name)
        table = _table(task).to(self.device, self.dtype)
        return Engine(
            GLIP(self.model.backbone, self.model.neck, table, head),
            self.config,
            self.tokenizer,
            device=self.device,
            dtype=self.dtype,
            task=task,
            fingerprint=self.fingerprint,
            encode_image=self.encode_image,
        )

    def with_encoder(self, encode_image: Callable[[Tensor], Pyramid] | None) -> Engine:
        """The same model behind another way to its image features, with no text remembered."""
        return Engine(
            self.model,
            self.config,
            self.tokenizer,
            device=self.device,
            dtype=self.dtype,
            task=self.task,
            fingerprint=self._fingerprint,
            encode_image=encode_image,
        )

    def prepare(self, image: Image.Image, number: int = 0) -> Prepared:
        """An upright RGB picture resized and normalised: what any thread can do.

        Args:
            image: As `glip.images.load_image` gives it.
            number: Whatever the caller tells pictures apart by.
        """
        resized = resize(image, self.config.pixels)
        if self.device.type == "cuda":  # the rest is done there
            pixels = raw_pixels(resized)
        else:
            pixels = to_pixels(resized, self.config.pixels)
        return Prepared(number, pixels, (image.height, image.width))

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        options: PostprocessOptions,
        *,
        batch_size: int | None = None,
    ) -> list[list[Detections]]:
        """Several prompts over each picture, such as its captions; the backbone sees it once.

        Args:
            pictures: Any sizes; those of one padded size go through the model together.
            prompts: For each picture its own, of any length and number.
            options: What becomes of the model's output.
            batch_size: Most pictures at a time; by default all of one size.
        Returns:
            For each picture one `Detections` for each of its prompts, best first, in pixels of the
            original picture.
        Raises:
            PromptError: See `glip.passes.Passes.of`.
            DeviceError: Too little memory, or numbers that overflow in float16.
            NotFiniteError: The model gives no numbers.
        """
        found: list[list[Detections]] = [[] for _ in pictures]
        for places in _batches(pictures, batch_size):
            batch = [pictures[place] for place in places]
            try:
                results = self._detect_batch(batch, [prompts[place] for place in places], options)
            except torch.cuda.OutOfMemoryError as error:
                raise DeviceError(
                    f"{self.device} has too little memory for {len(batch)} pictures at a time; "
                    "lower batch_size, or load the model with dtype='bfloat16'"
                ) from error
            for place, own in zip(places, results, strict=True):
                found[place] = own
        return found

    @torch.inference_mode()
    def _detect_batch(
        self,
        batch: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        options: PostprocessOptions,
    ) -> list[list[Detections]]:
        """Detections of pictures of one padded size, for each prompt of each."""
        asked = [
            [(which, part) for which, prompt in enumerate(own) for part in self.passes.of(prompt)]
            for own in prompts
        ]
        each = options
        if self._has_rivals(options):  # what goes because of others goes before boxes are counted
            each = replace(options, max_detections=sys.maxsize)
        found: list[list[list[Found]]] = [[[] for _ in own] for own in prompts]
        passes = [[part for _, part in own] for own in asked]
        look = self._looked_here if self.device.type == "cpu" else self._looked_there
        for place, number, candidates in look(batch, passes, each):
            which, part = asked[place][number]
            kept = suppress(candidates, each)
            labels = torch.tensor(part.rows)[kept.labels]
            found[place][which].append(kept._replace(labels=labels))
        return [
            [self._finished(picture, *one, options) for one in zip(own, parts, strict=True)]
            for picture, own, parts in zip(batch, prompts, found, strict=True)
        ]

    def _looked_here(
        self,
        batch: Sequence[Prepared],
        passes: Sequence[Sequence[PromptPass]],
        options: PostprocessOptions,
    ) -> Iterator[tuple[int, int, Found]]:
        """Place of a picture, number of one of its passes, and candidates: on a CPU, as they come.

        Args:
            batch: B pictures of one padded size.
            passes: Of each picture.
            options: Of a pass, see `select_candidates`.
        """
        for places, number, output in self._outputs(self._stacked(batch), passes):
            if not torch.stack([part.isfinite().all() for part in output[:3]]).all():
                raise self._not_finite()
            for index, place in enumerate(places):
                token_map = torch.from_numpy(passes[place][number].token_map)
                size_hw = batch[place].resized_hw
                yield place, number, select_candidates(output, index, token_map, size_hw, options)

    def _looked_there(
        self,
        batch: Sequence[Prepared],
        passes: Sequence[Sequence[PromptPass]],
        options: PostprocessOptions,
    ) -> Iterator[tuple[int, int, Found]]:
        """`_looked_here` on a GPU: all is launched, then the candidates are fetched, all at once.

        What is launched is one batch at a time, so another thread's comes behind it, and its
        memory is used again. Meanwhile and while the GPU works others stack pictures or make
        detections of what they have.
        """
        stacked = self._stacked(batch)
        with self._launching:
            tokens = self._tokens_of(passes, options)
            launched = [
                (
                    places,
                    number,
                    select_on_device(
                        output, [tokens[id(passes[place][number])] for place in places], options
                    ),
                )
                for places, number, output in self._outputs(stacked, passes)
            ]
            arriving = Arriving([one for *_, selection in launched for one in selection.numbers])
        here = iter(arriving.wait())
        for places, number, selection in launched:
            numbers = list(islice(here, len(selection.groups)))
            sizes = [batch[place].resized_hw for place in places]
            candidates = selection.candidates(numbers, sizes)
            if candidates is None:
                raise self._not_finite()
            for place, own in zip(places, candidates, strict=True):
                yield place, number, own

    def _outputs(
        self, stacked: RawPixels | Tensor, passes: Sequence[Sequence[PromptPass]]
    ) -> Iterator[tuple[list[int], int, HeadOutput]]:
        """Places of pictures that have a pass of a number, the number, and the model's output.

        Args:
            stacked: B pictures.
            passes: Of each of them.
        """
        pyramid = (self.encode_image or self._runner.encode_image)(self._pixels(stacked))
        for places, numbers in _rounds([len(own) for own in passes]):
            seen = pyramid if len(places) == len(passes) else pyramid.of(places)
            words = self._words([[passes[place][number] for place in places] for number in numbers])
            outputs = self._runner.predict_prompts(seen, words)
            for number, output in zip(numbers, outputs, strict=True):
                yield places, number, output

    def _stacked(self, batch: Sequence[Prepared]) -> RawPixels | Tensor:
        """Pictures of one padded size as one batch, where the device can copy it from."""
        pictures = [picture.pixels for picture in batch]
        if pictures[0].dtype == torch.uint8:
            return RawPixels.of(pictures, self.config.pixels, pin=self.device.type == "cuda")
        return pad_batch(pictures)

    def _pixels(self, stacked: RawPixels | Tensor) -> Tensor:
        """(B, 3, H, W) normalised, on the device."""
        return stacked.to(self.device, self.dtype, non_blocking=self.device.type == "cuda")

    def _tokens_of(
        self, passes: Sequence[Sequence[PromptPass]], options: PostprocessOptions
    ) -> dict[int, Tensor]:
        """By the ids of passes, `tokens_of_phrases` of each on the device."""
        parts = {id(part): part for own in passes for part in own}
        maps = {key: torch.from_numpy(part.token_map) for key, part in parts.items()}
        return {
            key: uploaded(tokens_of_phrases(token_map, options.aggregate), self.device)
            for key, token_map in maps.items()
        }

    def _words(self, rows: Sequence[Sequence[PromptPass]]) -> list[Words]:
        """(B, T, D) of each row of one pass a picture, (1, T, D) if it is the same for them all."""
        needed = dict.fromkeys(part.token_ids for row in rows for part in row)
        known = {ids: self._texts.get(ids) for ids in needed}
        new = [ids for ids, words in known.items() if words is None]
        # On a CPU padding costs what it takes, and a GPU hardly notices more texts at a time.
        step = 1 if self.device.type == "cpu" else TEXTS_AT_ONCE
        for start in range(0, len(new), step):
            some = new[start : start + step]
            tokens = Tokens.pad(some, self.tokenizer.pad_id, self.device)
            states, mask = self.model.encode_text(tokens)
            for row, ids in enumerate(some):
                place = slice(row, row + 1), slice(len(ids))
                known[ids] = keep(self._texts, ids, Words(states[place], mask[place]))
        return [_together([cast(Words, known[part.token_ids]) for part in row]) for row in rows]

    def _finished(
        self,
        picture: Prepared,
        prompt: Prompt,
        parts: Sequence[Found],
        options: PostprocessOptions,
    ) -> Detections:
        """What the passes of a prompt found, in pixels of the original picture."""
        if not parts:
            return Detections.empty(prompt, picture.original_hw)
        if self._has_rivals(options):
            found = self._without_rivals(merge(parts, sys.maxsize), prompt, options)
        else:
            found = parts[0] if len(parts) == 1 else merge(parts, options.max_detections)
        inclusive = rescale(found.boxes, picture.resized_hw, picture.original_hw)
        columns = (to_edges(inclusive, picture.original_hw), found.scores, found.labels)
        boxes, scores, labels = (column.cpu().numpy() for column in columns)
        return Detections(boxes, scores, labels, prompt, picture.original_hw)

    def _has_rivals(self, options: PostprocessOptions) -> bool:
        """Whether a box may go because of another phrase's."""
        return options.exclusive or (self.task is not None and len(self.task.negatives) > 0)

    def _without_rivals(self, found: Found, prompt: Prompt, options: PostprocessOptions) -> Found:
        """What is left when phrases and negatives have taken boxes from each other."""
        if self.task is not None and len(self.task.negatives):
            found = without_negatives(found, len(prompt), options.nms)
        if options.exclusive:
            found = one_phrase_each(found, options)
        return cap(found, options.max_detections)

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


def _batches(pictures: Sequence[Prepared], most: int | None) -> Iterator[list[int]]:
    """Places of pictures of one padded size: together, each gives what it gives alone."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(picture.padded_hw, []).append(place)
    for places in groups.values():
        step = most or len(places)
        yield from (places[start : start + step] for start in range(0, len(places), step))


def _rounds(counts: Sequence[int]) -> list[tuple[list[int], range]]:
    """Which pictures have a pass of which numbers: `counts` passes each, taken side by side.

    (2, 0, 5) gives ([0, 2], passes 0 and 1) and ([2], passes 2, 3 and 4).
    """
    ends = sorted({count for count in counts if count})
    return [
        ([place for place, count in enumerate(counts) if count >= end], range(start, end))
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _together(words: Sequence[Words]) -> Words:
    """(B, T, D) of one-row texts, padded to the longest; (1, T, D) if all are the same one."""
    if all(w is words[0] for w in words):
        return words[0]
    longest = max(w.mask.shape[1] for w in words)
    pads = [longest - w.mask.shape[1] for w in words]
    states = [F.pad(w.states, (0, 0, 0, pad)) for w, pad in zip(words, pads, strict=True)]
    masks = [F.pad(w.mask, (0, pad)) for w, pad in zip(words, pads, strict=True)]
    return Words(torch.cat(states), torch.cat(masks))


def tokenizer_of(weights: Weights) -> Tokenizer:
    """The tokenizer that the text encoder of some weights was trained with.

    Raises:
        ConfigError: Its file cannot be read.
    """
    if weights.tokenizer_json is not None:
        return Tokenizer.from_json(weights.tokenizer_json)
    if weights.config.text.tokenizer == "bert-base-uncased":
        return Tokenizer.bert_uncased()
    return Tokenizer.from_file(weights.config.text.tokenizer)


def _table(task: TaskPrompt) -> PromptTable:
    return PromptTable.from_arrays(task.token_ids, task.states, task.offsets)
