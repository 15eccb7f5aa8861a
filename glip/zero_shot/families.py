"""How the zero-shot detectors of transformers are asked: what each kind takes, and what it gives.

Grounding DINO (arXiv 2303.05499), MM-Grounding-DINO (arXiv 2401.02361) and LLMDet (arXiv
2501.18954) read a text, as GLIP does. OWL-ViT (arXiv 2205.06230) and OWLv2 (arXiv 2306.09683) are
asked for all phrases side by side, OmDet-Turbo (arXiv 2403.06892) for as many as its task sentence
holds, and SAM 3 (arXiv 2511.16719) for one after the other. Only their public classes are used.
Knows nothing about files, pictures or suppression.

Letters: N regions, P phrases, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from glip.choices import Aggregate
from glip.errors import PromptError
from glip.postprocess import phrase_probabilities
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

TEXTS_AT_ONCE = 4
"""Passes of one picture that go through a model together on a GPU; each sees the picture anew, so
a CPU takes them one by one, in a quarter of the memory."""


class Answer(NamedTuple):
    """What a model says about some phrases of a prompt."""

    rows: tuple[int, ...]
    """P rows of `Prompt.phrases`."""
    scores: Tensor
    """(N, P) float32 in [0, 1], on the CPU."""
    shares: Tensor
    """(N, 4) float32 xyxy, in shares of what the model saw, on the CPU."""


class Family(Protocol):
    """One way to ask; any number of threads may."""

    tokenizer: Tokenizer
    max_tokens: int
    """Of one text, the tokens around it included."""

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""

    def answers(
        self, pixels: Tensor, prompts: Sequence[Prompt], aggregate: Aggregate | None
    ) -> list[list[Answer]]:
        """For each prompt its answers, every phrase in exactly one of them.

        Args:
            pixels: (1, 3, H, W) on the model's device, in its number format.
            prompts: What is asked of this picture.
            aggregate: How scores of tokens become a phrase's, where tokens have any; None: as the
                model was trained.
        """


class Texts:
    """Models that score the tokens of a text: a prompt is one pass, or as few as it takes.

    Args:
        model: Of transformers.
        tokenizer: Its own.
        max_tokens: What its text encoder takes.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        self._model = model
        self.tokenizer = Tokenizer.from_json(tokenizer.backend_tokenizer.to_str())
        self.max_tokens = max_tokens

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""
        self.passes(prompt)

    def passes(self, prompt: Prompt) -> tuple[PromptPass, ...]:
        """The prompt in pieces that fit; a text ends with a period, as in training."""
        if not prompt.text.rstrip().endswith((".", "?", "!")):
            prompt = replace(prompt, text=f"{prompt.text} .")
        return prompt.passes(self.tokenizer, self.max_tokens)

    def answers(
        self, pixels: Tensor, prompts: Sequence[Prompt], aggregate: Aggregate | None
    ) -> list[list[Answer]]:
        """All passes of all prompts of a picture (1, 3, H, W), a few at a time."""
        asked = [(n, part) for n, prompt in enumerate(prompts) for part in self.passes(prompt)]
        found: list[list[Answer]] = [[] for _ in prompts]
        step = 1 if pixels.device.type == "cpu" else TEXTS_AT_ONCE
        for start in range(0, len(asked), step):
            some = asked[start : start + step]
            output = self._forward(pixels, [part for _, part in some])
            for (which, part), logits, boxes in zip(
                some, output.logits.float().cpu(), output.pred_boxes.float().cpu(), strict=True
            ):
                token_map = torch.from_numpy(part.token_map)
                own = logits[:, : len(part.token_ids)]
                scores = phrase_probabilities(own, token_map, aggregate or "max")
                found[which].append(Answer(part.rows, scores, _corners(boxes)))
        return found

    def _forward(self, pixels: Tensor, parts: Sequence[PromptPass]) -> Any:
        longest = max(len(part.token_ids) for part in parts)
        ids = torch.full((len(parts), longest), self.tokenizer.pad_id)
        for row, part in zip(ids, parts, strict=True):
            row[: len(part.token_ids)] = torch.tensor(part.token_ids)
        mask = torch.arange(longest) < torch.tensor([[len(part.token_ids)] for part in parts])
        return self._model(
            pixel_values=pixels.expand(len(parts), -1, -1, -1),
            input_ids=ids.to(pixels.device),
            attention_mask=mask.long().to(pixels.device),
            token_type_ids=torch.zeros_like(ids).to(pixels.device),
        )


class Names:
    """Models that are asked for each phrase by its own words; a base for those below.

    Args:
        model: Of transformers.
        tokenizer: Its own.
        max_tokens: What its text encoder takes.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        self._model = model
        self._words = tokenizer
        self.tokenizer = Tokenizer.from_json(tokenizer.backend_tokenizer.to_str())
        self.max_tokens = max_tokens

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""
        for words in _words_of(prompt):
            tokens = len(self.tokenizer.encode(words))
            if tokens > self.max_tokens:
                raise PromptError(
                    f"phrase {words!r} needs {tokens} tokens, this model takes {self.max_tokens}; "
                    "shorten it"
                )

    def answers(
        self, pixels: Tensor, prompts: Sequence[Prompt], aggregate: Aggregate | None
    ) -> list[list[Answer]]:
        """Every different phrase of all prompts once, over a picture (1, 3, H, W)."""
        words = [_words_of(prompt) for prompt in prompts]
        distinct = list(dict.fromkeys(name for names in words for name in names))
        place = {name: number for number, name in enumerate(distinct)}
        numbers = [[place[name] for name in names] for names in words]
        found: list[list[Answer]] = [[] for _ in prompts]
        for group, scores, shares in self._ask(pixels, distinct):
            column = {number: place for place, number in enumerate(group)}
            for own, asked in zip(found, numbers, strict=True):
                rows = tuple(row for row, number in enumerate(asked) if number in column)
                if rows:
                    columns = [column[asked[row]] for row in rows]
                    own.append(Answer(rows, scores[:, columns], shares))
        return found

    def _ask(self, pixels: Tensor, names: Sequence[str]) -> Iterator[tuple[range, Tensor, Tensor]]:
        """Runs of the names, (N, P) their scores, and (N, 4) boxes as of `Answer`."""
        raise NotImplementedError

    def _encoded(self, texts: Sequence[str], device: torch.device) -> Any:
        """(P, T) ids and mask, padded to the longest that there may be."""
        length = {"padding": "max_length", "max_length": self.max_tokens}
        return self._words(list(texts), return_tensors="pt", **length).to(device)


class Queries(Names):
    """OWL-ViT and OWLv2: all phrases side by side, none of which knows of the others."""

    def _ask(self, pixels: Tensor, names: Sequence[str]) -> Iterator[tuple[range, Tensor, Tensor]]:
        words = self._encoded(names, pixels.device)
        output = self._model(
            pixel_values=pixels,
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        )
        shares = _corners(output.pred_boxes[0].float().cpu())
        yield range(len(names)), output.logits[0].float().sigmoid().cpu(), shares


class Tasks(Names):
    """OmDet-Turbo: as many phrases at a time as a sentence holds, "Detect a cat, a dog."."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int) -> None:
        super().__init__(model, tokenizer, max_tokens)
        self._one_at_a_time = Lock()  # the model remembers texts in a way that threads disturb

    def _ask(self, pixels: Tensor, names: Sequence[str]) -> Iterator[tuple[range, Tensor, Tensor]]:
        for group in self._groups(names):
            asked = [names[number] for number in group]
            task = self._encoded([_task(asked)], pixels.device)
            classes = self._encoded(asked, pixels.device)
            output = self._locked(
                pixel_values=pixels,
                classes_input_ids=classes["input_ids"],
                classes_attention_mask=classes["attention_mask"],
                tasks_input_ids=task["input_ids"],
                tasks_attention_mask=task["attention_mask"],
                classes_structure=torch.tensor([len(asked)], device=pixels.device),
            )
            scores = output.decoder_class_logits[0].float().sigmoid().cpu()
            shares = _corners(output.decoder_coord_logits[0].float().cpu())
            yield group, scores[:, : len(asked)], shares

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase, or its sentence alone is too long."""
        super().check(prompt)
        for words in _words_of(prompt):
            if not self._fits([words]):
                raise PromptError(
                    f"phrase {words!r} leaves no room in the sentence {_task([words])!r} of "
                    f"{self.max_tokens} tokens; shorten it"
                )

    def _locked(self, **inputs: Any) -> Any:
        with self._one_at_a_time:
            return self._model(**inputs)

    def _groups(self, names: Sequence[str]) -> Iterator[range]:
        """Runs of names whose sentence fits the text encoder."""
        start = 0
        for stop in range(1, len(names) + 1):
            if stop == len(names) or not self._fits(names[start : stop + 1]):
                yield range(start, stop)
                start = stop

    def _fits(self, names: Sequence[str]) -> bool:
        return len(self.tokenizer.encode(_task(names))) <= self.max_tokens


class Concepts(Names):
    """SAM 3: one phrase after the other over one look at the picture."""

    def _ask(self, pixels: Tensor, names: Sequence[str]) -> Iterator[tuple[range, Tensor, Tensor]]:
        seen = self._model.get_vision_features(pixel_values=pixels)
        words = self._encoded(names, pixels.device)
        for number in range(len(names)):
            output = self._model(
                vision_embeds=seen,
                input_ids=words["input_ids"][number : number + 1],
                attention_mask=words["attention_mask"][number : number + 1],
            )
            scores = output.pred_logits[0].float().sigmoid()  # (N,)
            if output.presence_logits is not None:
                scores = scores * output.presence_logits[0].float().sigmoid()
            shares = output.pred_boxes[0].float().cpu()
            yield range(number, number + 1), scores[:, None].cpu(), shares


class Kind(NamedTuple):
    """What is known of one `model_type` of transformers."""

    family: Callable[[Any, Any, int], Family]
    threshold: float
    """Of its authors: detections score above this unless a caller says otherwise."""
    max_tokens: Callable[[Any], int]
    """Of its configuration."""
    on_square: bool = False
    """Whether boxes are shares of the longer side: the picture is padded to a square."""


def _of_text_config(config: Any) -> int:
    return int(config.text_config.max_position_embeddings)


KINDS: dict[str, Kind] = {
    "grounding-dino": Kind(Texts, 0.3, lambda config: int(config.max_text_len)),
    "mm-grounding-dino": Kind(Texts, 0.3, lambda config: int(config.max_text_len)),
    "owlvit": Kind(Queries, 0.1, _of_text_config),
    "owlv2": Kind(Queries, 0.1, _of_text_config, on_square=True),
    "omdet-turbo": Kind(Tasks, 0.3, _of_text_config),
    "sam3": Kind(Concepts, 0.5, _of_text_config),
    "sam3_video": Kind(Concepts, 0.5, _of_text_config),
}
"""By `model_type`. LLMDet is a "mm-grounding-dino", and the released SAM 3 a "sam3_video"."""


def _task(names: Sequence[str]) -> str:
    """The sentence that OmDet-Turbo was trained with."""
    return f"Detect {', '.join(names)}."


def _words_of(prompt: Prompt) -> list[str]:
    """The words of each phrase, as they stand in the text."""
    return [
        " ".join(prompt.text[start:stop] for start, stop in spans).strip()
        for spans in prompt.phrases
    ]


def _corners(boxes: Tensor) -> Tensor:
    """(N, 4) centres and sizes as xyxy."""
    centre, size = boxes.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)
