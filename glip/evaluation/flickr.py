"""Phrase grounding on Flickr30k Entities: recall of phrases at 1, 5 and 10 boxes (reference H.3).

A phrase is found if one of its best k boxes overlaps by an IoU of at least 0.5 with *any* of its
true boxes, or, in the other protocol, with the one box around all of them ("merged"). Phrases
without a box are not asked for. Knows nothing about models or prompts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from glip.data.formats.flickr import FlickrData, FlickrPhrase, FlickrSentence
from glip.errors import DataError
from glip.evaluation.predictions import Prediction

RANKS = (1, 5, 10)
FLICKR_METRICS = (*(f"R@{rank}" for rank in RANKS), "R@all")
IOU = 0.5


def boxed_phrases(sentence: FlickrSentence) -> list[FlickrPhrase]:
    """The phrases of a sentence that are asked for; labels of predictions are rows of this list."""
    return [phrase for phrase in sentence.phrases if len(phrase.boxes)]


def sentence_id(sentence: FlickrSentence) -> str:
    """What a prediction about a sentence has as its image id."""
    return f"{sentence.image_id}#{sentence.number}"


class FlickrEvaluator:
    """Recall at k; `update` with a prediction for each sentence, then `compute`.

    Args:
        data: The truth.
    Raises:
        DataError: No phrase of it has a box.
    """

    version = "recall at k of glip"

    def __init__(self, data: FlickrData) -> None:
        self.data = data
        self._truth = {sentence_id(s): boxed_phrases(s) for s in data.sentences}
        if not any(self._truth.values()):
            raise DataError(f"{data.path} has no phrase with a box")
        self._predictions: dict[str, Prediction] = {}

    def update(self, prediction: Prediction) -> None:
        """Add the detections for one sentence; of two for one sentence the last one counts."""
        self._predictions[str(prediction.image_id)] = prediction

    def compute(self) -> dict[str, float]:
        """R@1, R@5, R@10 and R@all (an upper bound), the same under "merged/" for the other
        protocol.

        A phrase that nothing was predicted for counts as missed.
        """
        return self._recalls(by_kind=False)

    def per_class(self) -> dict[str, float]:
        """The same for each kind of phrase, as in "people/R@1"; a phrase of two kinds counts in
        both.
        """
        return self._recalls(by_kind=True)

    def _recalls(self, *, by_kind: bool) -> dict[str, float]:
        hits: dict[str, list[bool]] = defaultdict(list)
        for kind, protocol, rank in self._ranks():
            prefix = f"{kind}/{protocol}" if by_kind else protocol
            if by_kind == bool(kind):
                for limit in RANKS:
                    hits[f"{prefix}R@{limit}"].append(rank < limit)
                hits[f"{prefix}R@all"].append(rank < np.inf)
        return {name: float(np.mean(values)) for name, values in hits.items()}

    def _ranks(self) -> Iterator[tuple[str, str, float]]:
        """Of each phrase once and once for each of its kinds: kind or "", protocol, first hit."""
        for key, phrases in self._truth.items():
            found = self._predictions.get(key)
            for row, phrase in enumerate(phrases):
                boxes = _ranked(found, row)
                for protocol, truth in (("", phrase.boxes), ("merged/", _merged(phrase.boxes))):
                    rank = first_hit(boxes, truth)
                    yield from ((kind, protocol, rank) for kind in ("", *phrase.kinds))


def first_hit(boxes: npt.NDArray[np.floating], truth: npt.NDArray[np.floating]) -> float:
    """Place, from 0, of the first box with an IoU of at least 0.5 with any true one; else infinity.

    official: here IoU counts no plus one.

    Args:
        boxes: (N, 4) xyxy, best first.
        truth: (M, 4) xyxy.
    """
    near = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    inner = np.clip(far - near, 0, None).prod(-1)  # (N, M)
    area = [np.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (boxes, truth)]
    union = area[0][:, None] + area[1][None] - inner
    hits = (inner >= IOU * union).any(1) & (area[0] > 0)
    return float(hits.argmax()) if hits.any() else float("inf")


def _ranked(prediction: Prediction | None, row: int) -> npt.NDArray[np.float64]:
    """(N, 4) boxes of one phrase, best first."""
    if prediction is None:
        return np.zeros((0, 4))
    own = prediction.labels == row
    order = np.argsort(-prediction.scores[own], kind="stable")
    # official: without plus one, a pixel smaller than they are.
    return prediction.boxes[own][order].astype(np.float64) - np.array([0, 0, 1, 1])


def _merged(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(1, 4) the box around all of them."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])[None]
