"""What a model said about each picture, in memory and as JSON lines.

The first line of a file holds the settings it was made with; each further line one picture, so that
a run that was stopped goes on where it was. Boxes and scores are written as the shortest decimals
that give back the same float32. Knows nothing about models, truth or metrics. Letters: N boxes of
one picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glip.data.records import ImageId
from glip.errors import DataError
from glip.files import check_regular, failing_disk, parsed_json, whole_path
from glip.jobs.folder import check_same

FORMAT = "glip predictions 2"
"""Format 1 counted the last pixel in."""


class Prediction(NamedTuple):
    """The detections of one picture, or of one sentence about it."""

    image_id: ImageId
    boxes: npt.NDArray[np.float32]
    """(N, 4) xyxy, pixels of the original picture, far edges exclusive."""
    scores: npt.NDArray[np.float32]
    """(N,) in [0, 1]."""
    labels: npt.NDArray[np.int64]
    """(N,) category ids of the annotation file, or rows of the phrases of a sentence."""
    error: str | None = None
    """Why the picture could not be read, if so; then there are no detections."""


def prediction(
    image_id: ImageId,
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    error: str | None = None,
) -> Prediction:
    """A prediction of anything that numpy takes for arrays; empty lists as well."""
    return Prediction(
        image_id,
        np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        np.asarray(scores, dtype=np.float32).reshape(-1),
        np.asarray(labels, dtype=np.int64).reshape(-1),
        error,
    )


class PredictionWriter:
    """Appends predictions to a file, line by line, each handed to the system when `write` returns.

    Args:
        path: Made with its folders if it is not there; what follows its last whole line is cut off.
        settings: For the first line; JSON values.
    Raises:
        ConfigError: The file was made with other settings.
        StorageError: It cannot be written; likewise `write` and `close`.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        with failing_disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            existing = os.path.exists(self.path) and _cut_to_whole_lines(self.path) > 0
        if existing:
            check_settings(self.path, settings)
        with failing_disk(self.path):
            # A file name that is not Unicode keeps its bytes as JSON escapes.
            self._file: IO[str] = self.path.open("a", encoding="utf-8", errors="backslashreplace")
            if not existing:
                self._file.write(json.dumps({"format": FORMAT, "settings": settings}) + "\n")
                self._file.flush()

    def write(self, prediction: Prediction) -> None:
        """Append one prediction."""
        with failing_disk(self.path):
            self._file.write(_line(prediction) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Nothing more comes."""
        with failing_disk(self.path):
            self._file.close()

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_predictions(path: str | Path) -> Iterator[Prediction]:
    """The predictions of a file, in its order; an unfinished last line is left out.

    Raises:
        DataError: It is missing or no such file, or a line other than the last is damaged.
    """
    path = Path(path)
    read_settings(path)
    with path.open(encoding="utf-8") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            if not line.endswith("\n"):
                return
            try:
                content = parsed_json(line)
                yield prediction(
                    content["image_id"],
                    content["boxes"],
                    content["scores"],
                    content["labels"],
                    content.get("error"),
                )
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number} is no prediction: {error}") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a predictions file.

    Raises:
        DataError: The file is missing or no predictions file.
    """
    path = Path(path)
    try:
        check_regular(path)
        with path.open(encoding="utf-8") as file:
            content = parsed_json(file.readline())
        if content["format"] != FORMAT:
            raise DataError(f"{path} has format {content['format']!r}, expected {FORMAT!r}")
        settings: dict[str, Any] = content["settings"]
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is no predictions file; its first line must say its format"
        ) from error
    return settings


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Whether a file was made with these settings.

    Raises:
        ConfigError: It was not; the message names what differs.
    """
    check_same(path, read_settings(path), settings)


def write_predictions(
    predictions: Iterable[Prediction], path: str | Path, settings: Mapping[str, Any]
) -> Path:
    """Write a file of predictions, whole or not at all."""
    path = Path(path)
    with whole_path(path) as unfinished, PredictionWriter(unfinished, settings) as writer:
        for one in predictions:
            writer.write(one)
    return path


def _line(prediction: Prediction) -> str:
    content: dict[str, Any] = {
        "image_id": prediction.image_id,
        "boxes": [_decimals(box) for box in prediction.boxes],
        "scores": _decimals(prediction.scores),
        "labels": prediction.labels.tolist(),
    }
    if prediction.error is not None:
        content["error"] = prediction.error
    return json.dumps(content, ensure_ascii=False)


def _decimals(values: npt.NDArray[np.float32]) -> list[float]:
    """Nine digits tell every float32 from its neighbours."""
    return [float(f"{value:.9g}") for value in values.tolist()]


def _cut_to_whole_lines(path: Path) -> int:
    """Cut off a last line that was never finished; the number of bytes that stay."""
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            if (newline := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return end
