"""Precision and recall curves of boxes against boxes, by whichever COCO evaluator is installed.

The matching is that of pycocotools; hotcoco does the same some thirty times faster, and tests hold
it to equal numbers. Rows number images and classes from 0, so that ids of any kind, zero and
strings as well, mean nothing here. Knows nothing about files, prompts or vocabularies.

Letters: G boxes of the truth, D detections, I IoU thresholds, R recall points, K classes, S sizes,
M limits on the number of detections.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from glip.choices import Backend
from glip.errors import ConfigError

MODULES: dict[Backend, str] = {
    "hotcoco": "hotcoco",
    "pycocotools": "pycocotools",
}
"""Module of each, the fastest first."""

SIZES = ("", "s", "m", "l")
"""All, small (up to 32 x 32 pixels), medium and large (from 96 x 96)."""

UNLIMITED = 10**9


class Truth(NamedTuple):
    """What is in a set of pictures."""

    images: int
    """How many pictures there are, those without boxes included."""
    classes: int
    image: npt.NDArray[np.int64]
    """(G,) picture row."""
    label: npt.NDArray[np.int64]
    """(G,) class row."""
    xywh: npt.NDArray[np.float64]
    """(G, 4) x, y, width, height."""
    area: npt.NDArray[np.float64]
    """(G,) square pixels, for the sizes."""
    crowd: npt.NDArray[np.bool_]
    """(G,) regions where any number of detections is neither right nor wrong."""


class Detected(NamedTuple):
    """What was found in them."""

    image: npt.NDArray[np.int64]
    """(D,) picture row."""
    label: npt.NDArray[np.int64]
    """(D,) class row."""
    xywh: npt.NDArray[np.float64]
    """(D, 4)."""
    score: npt.NDArray[np.float64]
    """(D,)."""


class Curves(NamedTuple):
    """Precision at each recall, and the best recall; -1 where there is nothing to find."""

    precision: npt.NDArray[np.float64]
    """(I, R, K, S, M)."""
    recall: npt.NDArray[np.float64]
    """(I, K, S, M)."""


def curves(
    truth: Truth,
    detected: Detected,
    *,
    limits: tuple[int, ...] = (1, 10, 100),
    backend: Backend | None = None,
) -> Curves:
    """Match detections to boxes at IoU 0.5, 0.55, …, 0.95 and follow precision over recall.

    Args:
        truth: All that is there.
        detected: All that was found, in any order; of equal scores the earlier one counts as
            better.
        limits: Detections of a picture and class that count, best first; `UNLIMITED` for all.
        backend: By default the fastest one that is installed.
    Raises:
        ConfigError: The backend is unknown or not installed.
    """
    name = choose_backend(backend)
    if not len(detected.score):  # pycocotools cannot read a result without detections
        return _nothing_found(truth, len(limits))
    # Room is made for as many as the limit says.
    most = int(
        np.unique(detected.image * truth.classes + detected.label, return_counts=True)[1].max()
    )
    limits = tuple(most if limit == UNLIMITED else limit for limit in limits)
    evaluated = _BACKENDS[name](truth, detected, limits)
    return Curves(np.asarray(evaluated["precision"]), np.asarray(evaluated["recall"]))


def choose_backend(backend: Backend | None = None) -> Backend:
    """The evaluator to use.

    Raises:
        ConfigError: It is unknown or not installed, or none is.
    """
    if backend is not None and backend not in MODULES:
        raise ConfigError(f"backend {backend!r} is not one of {', '.join(get_args(Backend))}")
    for name in MODULES if backend is None else [backend]:
        if find_spec(MODULES[name]) is not None:
            return name
    wanted = backend or "hotcoco or pycocotools"
    raise ConfigError(f"average precision needs the package {wanted}: pip install it")


def backend_version(backend: Backend) -> str:
    """Name and version, for the record."""
    return f"{backend} {version(backend)}"


def mean_precision(
    precision: npt.NDArray[np.float64], classes: npt.NDArray[np.bool_] | None = None
) -> float:
    """The mean over everything that has something to find; NaN if nothing has.

    Args:
        precision: (I, R, K) or (I, R, K, …) of `Curves`, or recalls with K in the second place.
        classes: (K,) which classes count; by default all.
    """
    if classes is not None:
        precision = precision[:, :, classes] if precision.ndim > 2 else precision[:, classes]
    there = precision[precision > -1]
    return float(there.mean()) if there.size else float("nan")


def _pycocotools(truth: Truth, detected: Detected, limits: tuple[int, ...]) -> dict[str, Any]:
    coco = importlib.import_module("pycocotools.coco")
    evaluation = importlib.import_module("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        reference = coco.COCO()
        reference.dataset = _as_coco(truth)
        reference.createIndex()
        found = reference.loadRes(_as_rows(detected))
        evaluator = evaluation.COCOeval(reference, found, "bbox")
        evaluator.params.maxDets = list(limits)
        evaluator.evaluate()
        evaluator.accumulate()
    evaluated: dict[str, Any] = evaluator.eval
    return evaluated


def _hotcoco(truth: Truth, detected: Detected, limits: tuple[int, ...]) -> dict[str, Any]:
    hotcoco = importlib.import_module("hotcoco")
    reference = hotcoco.COCO(_as_coco(truth))
    found = reference.load_res(_as_rows(detected))
    evaluator = hotcoco.COCOeval(reference, found, "bbox")
    evaluator.params.max_dets = list(limits)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluated: dict[str, Any] = evaluator.eval
    return evaluated


_BACKENDS: dict[Backend, Callable[[Truth, Detected, tuple[int, ...]], dict[str, Any]]] = {
    "hotcoco": _hotcoco,
    "pycocotools": _pycocotools,
}


def _as_coco(truth: Truth) -> dict[str, Any]:
    """A COCO file with ids that are rows plus one: zero means "no match" to pycocotools."""
    columns = zip(
        truth.image.tolist(),
        truth.label.tolist(),
        truth.xywh.tolist(),
        truth.area.tolist(),
        truth.crowd.tolist(),
        strict=True,
    )
    return {
        "info": {},
        "images": [{"id": row + 1} for row in range(truth.images)],
        "categories": [{"id": row + 1, "name": str(row)} for row in range(truth.classes)],
        "annotations": [
            {
                "id": number,
                "image_id": image + 1,
                "category_id": label + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(columns, start=1)
        ],
    }


def _as_rows(detected: Detected) -> npt.NDArray[np.float64]:
    """(D, 7) image id, box, score, category id."""
    return np.column_stack(
        [detected.image + 1, detected.xywh, detected.score, detected.label + 1]
    ).astype(np.float64)


def _nothing_found(truth: Truth, limits: int) -> Curves:
    """Curves of zeros, and -1 where there is nothing to find."""
    bounds = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
    precision = np.full((10, 101, truth.classes, len(bounds), limits), -1.0)
    recall = np.full((10, truth.classes, len(bounds), limits), -1.0)
    for size, (low, high) in enumerate(bounds):
        counted = ~truth.crowd & (truth.area >= low) & (truth.area <= high)
        there = np.unique(truth.label[counted])
        precision[:, :, there, size] = 0.0
        recall[:, there, size] = 0.0
    return Curves(precision, recall)
