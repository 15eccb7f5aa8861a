"""`pipeline("zero-shot-object-detection")` for GLIP: all labels in one pass, as in the paper.

Transformers' own pipeline asks for one label after the other, so that no label knows of the others;
every other model keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import ZeroShotObjectDetectionPipeline
from transformers.image_utils import load_image as fetch_image

from glip.config import PostprocessOptions
from glip.engine import Engine
from glip.errors import PromptError
from glip.hf.modeling import GlipForObjectDetection
from glip.images import load_image
from glip.pixels import Prepared
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, eq=False)
class _Asked:
    """One picture with its prompt; no tuple, which pipelines would take apart on the way."""

    picture: Prepared
    prompt: Prompt


class GlipZeroShotPipeline(ZeroShotObjectDetectionPipeline):  # type: ignore[misc]
    """Transformers' pipeline, but that a GLIP is asked for all labels together.

    Vocabularies longer than the text encoder takes become several passes over one look at the
    picture. `threshold` is the model's own unless it is given.
    """

    _engine: Engine | None = None

    @property
    def _is_glip(self) -> bool:
        return isinstance(self.model, GlipForObjectDetection)

    @property
    def engine(self) -> Engine:
        """The model behind our own predictions; made once."""
        if self._engine is None:
            model = self.model
            self._engine = Engine(
                model.glip,
                model.config.numbers,
                Tokenizer.from_json(self.tokenizer.backend_tokenizer.to_str()),
                device=next(model.parameters()).device,
                dtype=next(model.glip.backbone.parameters()).dtype,
            )
            outputs = model.glip.head.outputs
            outputs.float()
        return self._engine

    def __call__(self, image: Any, candidate_labels: Any = None, **options: Any) -> Any:
        """What is found in a picture, or for each of a list of pictures.

        Args:
            image: A picture, path or URL; a list of them; or a list of
                `{"image": ..., "candidate_labels": ...}`.
            candidate_labels: Names to look for, in all pictures; or a list of names for each.
            options: `threshold`, `top_k`, `batch_size`, `timeout`.
        Raises:
            PromptError: No labels, or not as many lists of them as pictures.
        """
        if self._is_glip and isinstance(image, (list, tuple)):
            rows = _with_labels(image, candidate_labels)
            return super().__call__(rows, **options) if rows else []
        return super().__call__(image, candidate_labels=candidate_labels, **options)

    def check_model_type(self, supported_models: Any) -> None:
        """GLIP is known here; of others as ever."""
        if not self._is_glip:
            super().check_model_type(supported_models)

    def preprocess(self, inputs: dict[str, Any], timeout: float | None = None) -> Iterator[Any]:
        """One item for a picture, whatever its labels."""
        if not self._is_glip:
            yield from super().preprocess(inputs, timeout=timeout)
            return
        if (labels := inputs.get("candidate_labels")) is None:
            raise PromptError("say what to look for: candidate_labels=['person', 'dog']")
        if isinstance(labels, str):  # as transformers reads it
            labels = [label.strip() for label in labels.split(",")]
        prompt = Prompt.of(labels)
        self.engine.passes.of(prompt)
        image = load_image(fetch_image(inputs["image"], timeout=timeout))
        yield {"asked": _Asked(self.engine.prepare(image), prompt), "is_last": True}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        if not self._is_glip:
            return super()._forward(model_inputs)
        asked = model_inputs["asked"]
        several = asked if isinstance(asked, list) else [asked]
        answers = self.engine.detect(
            [one.picture for one in several],
            [[one.prompt] for one in several],
            PostprocessOptions(),
        )
        found = [own for (own,) in answers]
        return {
            "found": found if isinstance(asked, list) else found[0],
            "is_last": model_inputs["is_last"],
        }

    def postprocess(
        self, model_outputs: list[Any], threshold: float | None = None, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """Score, label and box of each detection, best first; boxes in whole pixels."""
        if not self._is_glip:
            usual = {} if threshold is None else {"threshold": threshold}
            return super().postprocess(model_outputs, top_k=top_k, **usual)
        least = self.engine.config.threshold if threshold is None else threshold
        results = [
            {"score": score, "label": label, "box": dict(zip(_SIDES, map(int, box), strict=True))}
            for output in model_outputs
            for score, label, box in _rows(output["found"])
            if score > least
        ]
        return results[:top_k] if top_k else results


def _with_labels(images: Sequence[Any], labels: Any) -> list[dict[str, Any]]:
    """Each picture with what is looked for in it."""
    rows = [one for one in images if isinstance(one, dict)]
    if rows:
        if len(rows) != len(images) or labels is not None:
            raise PromptError("pictures have their labels in a dict each, or none of them has")
        return rows
    each = isinstance(labels, (list, tuple)) and any(isinstance(x, (list, tuple)) for x in labels)
    if each and len(labels) != len(images):
        raise PromptError(f"{len(labels)} lists of candidate_labels for {len(images)} pictures")
    own = labels if each else [labels] * len(images)
    return [
        {"image": image, "candidate_labels": names}
        for image, names in zip(images, own, strict=True)
    ]


def _rows(found: Detections) -> Iterator[tuple[float, str, list[float]]]:
    """Score, phrase and xyxy of each detection, best first."""
    return zip(found.scores.tolist(), found.phrases, found.boxes.tolist(), strict=True)
