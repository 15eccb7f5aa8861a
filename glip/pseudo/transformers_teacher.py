"""The zero-shot detectors of transformers as teachers, through its public classes.

Grounding DINO (arXiv 2303.05499), which reads the caption as GLIP does, and OWL-ViT and OWLv2
(arXiv 2306.09683), which are asked for each phrase by itself. Weights are read from disk, never
downloaded. Letters: N regions, P phrases, T tokens, Q queries.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glip.boxes import clip_boxes, to_edges
from glip.checkpoint import file_sha256
from glip.choices import DType
from glip.config import PostprocessOptions
from glip.errors import CheckpointError, PromptError
from glip.pixels import Prepared
from glip.postprocess import Found, merge, phrase_probabilities, suppress
from glip.pseudo.teacher import BoxConfig
from glip.structures import Detections
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

TOKEN_DETECTORS = ("grounding-dino", "mm-grounding-dino")
"""Model types of transformers that score the tokens of a text."""
QUERY_DETECTORS = ("owlv2", "owlvit")
"""Those that score whole texts, one for each thing."""
_PADDED_SQUARE = frozenset({"owlv2"})  # boxes are shares of the longer side


class TransformersTeacher:
    """A zero-shot detector of transformers.

    Args:
        folder: As `save_pretrained` writes it, processor and model.
        device: By default a GPU if there is one.
        dtype: Number format of the model.
    Raises:
        CheckpointError: The folder cannot be read, or holds a model of another kind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str | torch.device | None = None,
        dtype: DType = "float32",
    ) -> None:
        # Transformers' models take seconds to import, so only those who name one wait.
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}/config.json cannot be read: {error}") from error
        if kind not in TOKEN_DETECTORS + QUERY_DETECTORS:
            raise CheckpointError(
                f"{folder} holds a {kind}, which is no teacher that is known: "
                f"{', '.join(TOKEN_DETECTORS + QUERY_DETECTORS)}, or GLIP weights"
            )
        try:
            processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, local_files_only=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{folder} cannot be loaded by transformers: {reason}") from error
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._model = model.to(self._device, self._dtype).eval()
        self._images = processor.image_processor
        self._words = processor.tokenizer
        self._kind = str(kind)
        self._tokenizer: Tokenizer | None = None
        if kind in TOKEN_DETECTORS:
            self._tokenizer = Tokenizer.from_json(self._words.backend_tokenizer.to_str())
            self._max_tokens = int(model.config.max_text_len)
        else:
            self._max_tokens = int(model.config.text_config.max_position_embeddings)
        self._identity = {
            "kind": self._kind,
            "name": folder.resolve().name,
            "sha256": _fingerprint(folder),
            "dtype": dtype,
        }

    def identity(self) -> dict[str, Any]:
        """Name, kind, SHA-256."""
        return dict(self._identity)

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""
        if self._tokenizer is not None:
            self._passes(prompt)
            return
        for name in prompt.names:
            tokens = len(self._words(name)["input_ids"])
            if tokens > self._max_tokens:
                raise PromptError(
                    f"phrase {name!r} needs {tokens} tokens, {self._kind} takes {self._max_tokens}"
                )

    def prepare(self, image: Image.Image) -> Prepared:
        """As the model's own image processor makes it."""
        pixels = self._images(images=image, return_tensors="pt")["pixel_values"][0]
        return Prepared(0, pixels, (image.height, image.width))

    @torch.inference_mode()
    def ground(
        self, pictures: Sequence[Prepared], prompts: Sequence[Sequence[Prompt]], boxes: BoxConfig
    ) -> list[list[Detections]]:
        """Boxes of the phrases of each caption; pictures go through the model one by one."""
        options = boxes.options("max")
        ask = self._by_tokens if self._tokenizer is not None else self._by_queries
        return [
            [
                _detections(found, picture.original_hw, prompt)
                for prompt, found in zip(
                    asked, ask(picture, asked, options) if asked else (), strict=True
                )
            ]
            for picture, asked in zip(pictures, prompts, strict=True)
        ]

    def _passes(self, prompt: Prompt) -> tuple[PromptPass, ...]:
        """The prompt in pieces that fit; a sentence ends with a period, as in training."""
        assert self._tokenizer is not None
        if not prompt.text.rstrip().endswith((".", "?", "!")):
            prompt = replace(prompt, text=f"{prompt.text} .")
        return prompt.passes(self._tokenizer, self._max_tokens)

    def _by_tokens(
        self, picture: Prepared, prompts: Sequence[Prompt], options: PostprocessOptions
    ) -> list[Found]:
        """All captions of a picture as one batch of texts."""
        assert self._tokenizer is not None
        parts = [
            (which, part) for which, prompt in enumerate(prompts) for part in self._passes(prompt)
        ]
        longest = max(len(part.token_ids) for _, part in parts)
        ids = torch.full((len(parts), longest), self._tokenizer.pad_id)
        for row, (_, part) in zip(ids, parts, strict=True):
            row[: len(part.token_ids)] = torch.tensor(part.token_ids)
        mask = torch.arange(longest) < torch.tensor([[len(p.token_ids)] for _, p in parts])
        output = self._model(
            pixel_values=self._batch(picture, len(parts)),
            input_ids=ids.to(self._device),
            attention_mask=mask.long().to(self._device),
            token_type_ids=torch.zeros_like(ids).to(self._device),
        )
        found: list[list[Found]] = [[] for _ in prompts]
        for (which, part), logits, shares in zip(
            parts, output.logits.float().cpu(), output.pred_boxes.float().cpu(), strict=True
        ):
            logits = logits[:, : len(part.token_ids)]
            scores = phrase_probabilities(
                logits, torch.from_numpy(part.token_map), options.aggregate
            )
            kept = _selected(scores, shares, self._scale(picture), picture.original_hw, options)
            found[which].append(kept._replace(labels=torch.tensor(part.rows)[kept.labels]))
        return [merge(pieces, options.max_detections) for pieces in found]

    def _by_queries(
        self, picture: Prepared, prompts: Sequence[Prompt], options: PostprocessOptions
    ) -> list[Found]:
        """Every different phrase of all captions once."""
        names = list(dict.fromkeys(name for prompt in prompts for name in prompt.names))
        words = self._words(
            names, padding="max_length", max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        output = self._model(
            pixel_values=self._batch(picture, 1),
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        )
        scores = output.logits[0].float().sigmoid().cpu()  # (N, Q)
        shares = output.pred_boxes[0].float().cpu()
        place = {name: row for row, name in enumerate(names)}
        return [
            _selected(
                scores[:, [place[name] for name in prompt.names]],
                shares,
                self._scale(picture),
                picture.original_hw,
                options,
            )
            for prompt in prompts
        ]

    def _batch(self, picture: Prepared, copies: int) -> Tensor:
        pixels = picture.pixels.to(self._device, self._dtype)
        return pixels.expand(copies, -1, -1, -1)

    def _scale(self, picture: Prepared) -> tuple[int, int]:
        """Width and height, in pixels of the original, of what the model saw."""
        height, width = picture.original_hw
        longest = max(height, width)
        return (longest, longest) if self._kind in _PADDED_SQUARE else (width, height)


def _selected(
    scores: Tensor,
    shares: Tensor,
    scale_wh: tuple[int, int],
    image_hw: tuple[int, int],
    options: PostprocessOptions,
) -> Found:
    """(N, P) scores and (N, 4) centres and sizes, in shares, as detections in pixels."""
    region, label = (scores > options.score).nonzero(as_tuple=True)
    best, order = scores[region, label].topk(min(len(region), options.candidates_per_level))
    centre, size = shares[region[order]].split(2, dim=-1)
    scale = torch.tensor([*scale_wh, *scale_wh], dtype=torch.float32)
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1) * scale
    boxes[:, 2:] -= 1  # ours count the last pixel in
    return suppress(Found(clip_boxes(boxes, image_hw), best, label[order]), options)


def _detections(found: Found, image_hw: tuple[int, int], prompt: Prompt) -> Detections:
    boxes = to_edges(found.boxes, image_hw)
    return Detections(boxes.numpy(), found.scores.numpy(), found.labels.numpy(), prompt, image_hw)


def _fingerprint(folder: Path) -> str:
    """Of all weights of a folder together with their configuration."""
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".bin") or path.name == "config.json"
    ]
    if len(files) < 2:
        logging.getLogger(__name__).warning("%s: no file of weights to tell it by", folder)
    digests = "".join(file_sha256(path) for path in files)
    return hashlib.sha256(digests.encode()).hexdigest()
