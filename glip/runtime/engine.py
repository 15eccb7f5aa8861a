"""`glip.engine` for exported models: prepared pictures and prompts in, detections out, no torch.

    encode image once -> words of each pass -> head -> `glip.runtime.postprocess`

Letters: B pictures of a batch, T tokens, D text width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.config import ModelConfig, PostprocessOptions
from glip.errors import NotFiniteError
from glip.passes import Passes, keep
from glip.pixels import Prepared
from glip.runtime import postprocess
from glip.runtime.manifest import TOKENIZER, WORDS, read_manifest
from glip.runtime.pictures import batches, padded, prepare
from glip.runtime.postprocess import Found
from glip.runtime.sessions import Floats, Graphs, RegionOutput
from glip.structures import Detections
from glip.task_prompt import TaskPrompt, read_prompt
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer


class GraphEngine:
    """An exported model with its tokenizer; any number of threads may use one.

    Args:
        folder: What `glip export` wrote.
        device, threads: See `glip.runtime.sessions.Graphs`.
    Raises:
        CheckpointError: No exported model, or damaged.
        ExportError: Its runtime is not installed.
        DeviceError: The runtime cannot use the device.
    """

    kind = "glip"
    at_once = 1
    """How many threads should ask it at the same time: each of them needs memory of its own."""

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        self.manifest = read_manifest(folder)
        self.config: ModelConfig = self.manifest.model
        self.tokenizer = Tokenizer.from_file(folder / TOKENIZER)
        self.task: TaskPrompt | None = read_prompt(folder / WORDS) if self.manifest.baked else None
        self.graphs = Graphs(folder, self.manifest, device=device, threads=threads)
        self.device = device
        self.dtype: str = self.manifest.dtype
        self.fingerprint: str = self.manifest.fingerprint
        self.passes = Passes(self.tokenizer, self.config.text.max_tokens, self.task)
        self.folder = folder
        self._texts: dict[tuple[int, ...], Floats] = {}
        if self.task is not None:
            self._texts[self.task.token_ids] = (self.task.states + self.task.offsets)[None]

    def prepare(self, image: Image.Image, number: int = 0) -> Prepared:
        """An upright RGB picture resized and normalised: what any thread can do.

        Args:
            image: As `glip.images.load_image` gives it.
            number: Whatever the caller tells pictures apart by.
        """
        return prepare(image, self.config.pixels, self.manifest.size_hw, number)

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        options: PostprocessOptions,
        *,
        batch_size: int | None = None,
    ) -> list[list[Detections]]:
        """Several prompts over each picture; the image encoder sees it once.

        Arguments and results are those of `glip.engine.Engine.detect`.

        Raises:
            PromptError: See `glip.passes.Passes.of`.
            NotFiniteError: The model gives no numbers.
        """
        found: list[list[Detections]] = [[] for _ in pictures]
        for places in batches(pictures, batch_size):
            batch = padded([pictures[place] for place in places], self.manifest.size_hw)
            levels = self.graphs.encode_image(batch)
            for row, place in enumerate(places):
                own = [level[row : row + 1] for level in levels]
                found[place] = [
                    self._detect(pictures[place], own, prompt, options) for prompt in prompts[place]
                ]
        return found

    def _detect(
        self,
        picture: Prepared,
        levels: Sequence[Floats],
        prompt: Prompt,
        options: PostprocessOptions,
    ) -> Detections:
        """One prompt over five (1, C, H_l, W_l)."""
        rivals = options.exclusive or (self.task is not None and len(self.task.negatives) > 0)
        # What goes because of other phrases goes before boxes are counted.
        each = replace(options, max_detections=sys.maxsize) if rivals else options
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        parts: list[Found] = []
        for part in self.passes.of(prompt):
            output = self._regions(levels, part)
            candidates = postprocess.select(
                output, 0, shapes, part.token_map, picture.resized_hw, each
            )
            kept = postprocess.suppress(candidates, each)
            parts.append(kept._replace(labels=np.array(part.rows, np.int64)[kept.labels]))
        if not parts:
            return Detections.empty(prompt, picture.original_hw)
        found = postprocess.merged(parts, each.max_detections)
        if rivals:
            found = self._without_rivals(found, prompt, options)
        boxes = postprocess.rescaled(found.boxes, picture.resized_hw, picture.original_hw)
        boxes = postprocess.edges(boxes, picture.original_hw)
        return Detections(boxes, found.scores, found.labels, prompt, picture.original_hw)

    def _without_rivals(self, found: Found, prompt: Prompt, options: PostprocessOptions) -> Found:
        if self.task is not None and len(self.task.negatives):
            found = postprocess.without_negatives(found, len(prompt), options.nms)
        if options.exclusive:
            found = postprocess.one_phrase_each(found, options)
        return postprocess.cap(found, options.max_detections)

    def _regions(self, levels: Sequence[Floats], part: PromptPass) -> RegionOutput:
        states = self._words(part.token_ids)
        mask: npt.NDArray[np.bool_] = np.ones(states.shape[:2], np.bool_)
        output = self.graphs.predict_regions(levels, states, mask)
        if not all(np.isfinite(values).all() for values in output):
            raise NotFiniteError(
                f"{self.folder} gives NaN or infinity; its weights are damaged, or their training "
                "diverged"
            )
        return output

    def _words(self, token_ids: tuple[int, ...]) -> Floats:
        """(1, T, D), encoded once."""
        known = self._texts.get(token_ids)
        if known is None:
            ids = np.array([token_ids], np.int64)
            states = self.graphs.encode_text(ids, np.ones(ids.shape, np.bool_))
            known = keep(self._texts, token_ids, states)
        return known
