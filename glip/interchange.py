"""Detections in the forms of other programs, and back: plain tables, label files, other libraries.

Other libraries are recognised by the attributes of their objects and imported only to make some, so
none of them has to be installed. Knows nothing about models, and of detections only their columns.

Letters: N boxes of one picture.
"""

from __future__ import annotations

import base64
import html
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_SIDE = 800  # pixels of the longer side of a picture in a notebook
SHOWN_ROWS = 20


class Columns(NamedTuple):
    """What detections are made of, without their prompt."""

    boxes: npt.NDArray[np.float32]
    """(N, 4) float32 xyxy, pixels, far edges exclusive."""
    scores: npt.NDArray[np.float32]
    """(N,) float32."""
    names: list[str]
    """N names."""
    image_hw: tuple[int, int] | None
    """Height and width of the picture, where the other program keeps them."""


class Found(Protocol):
    """The columns of detections."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy, pixels."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) in [0, 1]."""

    @property
    def phrase_ids(self) -> npt.NDArray[np.int64]:
        """(N,) row of the prompt."""

    @property
    def phrases(self) -> Sequence[str]:
        """N names."""

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""

    @property
    def track_ids(self) -> npt.NDArray[np.int64] | None:
        """(N,) of the tracks of a video, or None."""


def yolo_lines(found: Found, *, scores: bool = False) -> str:
    """A YOLO label file: class, centre and size as shares of the picture, one line a box."""
    height, width = found.image_hw
    lines = []
    rows = zip(found.phrase_ids.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True)
    for row, (x1, y1, x2, y2), score in rows:
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width)
        numbers = [*values, (y2 - y1) / height, *([score] if scores else [])]
        lines.append(" ".join([str(row), *(f"{number:.6f}" for number in numbers)]) + "\n")
    return "".join(lines)


def voc_xml(found: Found, file_name: str) -> str:
    """A Pascal VOC annotation: pixels counted from 1, the last one counted in."""
    height, width = found.image_hw
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = file_name
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for phrase, (x1, y1, x2, y2) in zip(found.phrases, found.boxes.tolist(), strict=True):
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = phrase
        ElementTree.SubElement(entry, "difficult").text = "0"
        box = ElementTree.SubElement(entry, "bndbox")
        corners = (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2))
        for name, pixel in corners:
            ElementTree.SubElement(box, name).text = str(round(pixel))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def labelme_dict(found: Found, file_name: str) -> dict[str, Any]:
    """The content of a LabelMe file, ready for `json.dump`."""
    height, width = found.image_hw
    rows = zip(found.phrases, found.boxes.tolist(), found.scores.tolist(), strict=True)
    shapes: list[dict[str, Any]] = [
        {
            "label": phrase,
            "points": [box[:2], box[2:]],
            "shape_type": "rectangle",
            "group_id": None,
            "flags": {},
            "description": f"{score:.3f}",
        }
        for phrase, box, score in rows
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": file_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def data_frame(found: Found) -> Any:
    """A pandas table with one row a box.

    Raises:
        ConfigError: pandas is not installed.
    """
    x1, y1, x2, y2 = found.boxes.T.reshape(4, -1)
    columns = {"phrase": list(found.phrases), "score": found.scores}
    return _package("pandas").DataFrame({**columns, "x1": x1, "y1": y1, "x2": x2, "y2": y2})


def to_supervision(found: Found) -> Any:
    """A `supervision.Detections` with the phrases as `data["class_name"]`."""
    return _package("supervision").Detections(
        xyxy=found.boxes,
        confidence=found.scores,
        class_id=found.phrase_ids,
        data={"class_name": np.array(found.phrases, dtype=str)},
        tracker_id=found.track_ids,
    )


def to_fiftyone(found: Found) -> Any:
    """A `fiftyone.Detections`: corners and sizes as shares of the picture."""
    fiftyone, (height, width) = _package("fiftyone"), found.image_hw
    rows = zip(found.phrases, found.boxes.tolist(), found.scores.tolist(), strict=True)
    return fiftyone.Detections(
        detections=[
            fiftyone.Detection(
                label=phrase,
                bounding_box=[
                    x1 / width,
                    y1 / height,
                    (x2 - x1) / width,
                    (y2 - y1) / height,
                ],
                confidence=score,
            )
            for phrase, (x1, y1, x2, y2), score in rows
        ]
    )


def to_detectron2(found: Found) -> Any:
    """An `Instances` of detectron2 with `pred_boxes`, `scores` and `pred_classes`."""
    structures = _package("detectron2.structures", install="detectron2")
    instances = structures.Instances(found.image_hw)
    columns = tensors(found)
    instances.pred_boxes = structures.Boxes(columns["boxes"])
    instances.scores = columns["scores"]
    instances.pred_classes = columns["labels"]
    return instances


def tensors(found: Found) -> dict[str, Tensor]:
    """(N, 4) boxes, (N,) scores and (N,) labels, row of the prompt, for libraries on torch."""
    import torch

    return {
        "boxes": torch.tensor(found.boxes),
        "scores": torch.tensor(found.scores),
        "labels": torch.tensor(found.phrase_ids),
    }


def columns_of(
    value: Any, names: Sequence[str] | None, image_hw: tuple[int, int] | None
) -> Columns:
    """The columns of what another program found.

    Args:
        value: A `supervision.Detections`, `fiftyone.Detections` or `Instances` of detectron2, or a
            dict of torchvision or transformers.
        names: Of the classes, where the other program keeps numbers only.
        image_hw: Of the picture, where the other program keeps shares of it.
    Raises:
        ConfigError: None of them, or names or size are missing.
    """
    if hasattr(value, "xyxy") and hasattr(value, "class_id"):
        own = getattr(value, "data", {}).get("class_name")
        labels = own if own is not None else _named(value.class_id, names)
        return _columns(value.xyxy, value.confidence, labels, image_hw)
    if hasattr(value, "pred_boxes") and hasattr(value, "pred_classes"):
        boxes = getattr(value.pred_boxes, "tensor", value.pred_boxes)
        labels = _named(value.pred_classes, names)
        return _columns(boxes, value.scores, labels, tuple(value.image_size))
    if hasattr(value, "detections"):
        return _from_shares(value.detections, image_hw)
    if isinstance(value, Mapping) and {"boxes", "scores"} <= value.keys():
        labels = value.get("text_labels", value.get("labels"))
        return _columns(value["boxes"], value["scores"], _named(labels, names), image_hw)
    raise ConfigError(
        f"{type(value).__name__} is not known here: expected detections of supervision, FiftyOne "
        "or detectron2, or a dict with 'boxes', 'scores' and 'labels' or 'text_labels'"
    )


def _columns(
    boxes: Any, scores: Any, names: Sequence[Any], image_hw: tuple[int, int] | None
) -> Columns:
    corners = _array(boxes).reshape(-1, 4)
    given = np.ones(len(corners), np.float32) if scores is None else _array(scores)
    return Columns(corners, given, [str(name) for name in names], image_hw)


def _from_shares(entries: Sequence[Any], image_hw: tuple[int, int] | None) -> Columns:
    """Of FiftyOne's detections."""
    if image_hw is None:
        raise ConfigError("say image_hw=(height, width): these boxes are shares of the picture")
    height, width = image_hw
    shares = np.array([list(e.bounding_box) for e in entries], np.float32).reshape(-1, 4)
    near, size = shares[:, :2], shares[:, 2:]
    boxes = np.concatenate([near, near + size], 1) * np.array([width, height, width, height])
    scores = [1.0 if entry.confidence is None else entry.confidence for entry in entries]
    return _columns(boxes, scores, [entry.label for entry in entries], image_hw)


def _array(values: Any) -> npt.NDArray[np.float32]:
    """Of an array, a list, or a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float32)


def _named(labels: Any, names: Sequence[str] | None) -> list[str]:
    """Labels that are words already, or the names of their numbers."""
    if labels is None:
        raise ConfigError("these detections have no labels; each needs a number or a name")
    listed = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if all(isinstance(label, str) for label in listed):
        return listed
    if names is None or any(not 0 <= int(label) < len(names) for label in listed):
        raise ConfigError(
            f"say names=[...]: these labels are numbers up to {max(map(int, listed), default=0)}"
        )
    return [names[int(label)] for label in listed]


def notebook_html(found: Found, picture: Image.Image | None) -> str:
    """A picture, if there is one, above a table of the first rows."""
    rows = list(zip(found.phrases, found.scores.tolist(), found.boxes.tolist(), strict=True))
    lines = [
        f"<tr><td>{html.escape(phrase)}</td><td>{score:.2f}</td>"
        f"<td>{', '.join(f'{edge:.0f}' for edge in box)}</td></tr>"
        for phrase, score, box in rows[:SHOWN_ROWS]
    ]
    if len(rows) > SHOWN_ROWS:
        lines.append(f"<tr><td>and {len(rows) - SHOWN_ROWS} more</td></tr>")
    shown = ""
    if picture is not None:
        data = base64.b64encode(notebook_png(picture)).decode()
        shown = f'<img src="data:image/png;base64,{data}" alt="detections">'
    head = "<tr><th>phrase</th><th>score</th><th>x1, y1, x2, y2</th></tr>"
    return f"<div>{shown}<table>{head}{''.join(lines)}</table></div>"


def notebook_png(picture: Image.Image) -> bytes:
    """A picture as a notebook shows it, at most 800 pixels wide or high."""
    small = picture.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    file = io.BytesIO()
    small.save(file, format="PNG")
    return file.getvalue()


def _package(name: str, *, install: str | None = None) -> Any:
    """An optional package.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        wanted = install or name
        raise ConfigError(
            f"this needs the package {wanted}, which is not installed: pip install {wanted}"
        ) from error
