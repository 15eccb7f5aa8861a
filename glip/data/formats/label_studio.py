"""Label Studio: tasks with corners and sizes in per cent, to be annotated or annotated."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from glip.data.formats.layout import (
    DataSet,
    XmlFile,
    clipped,
    hull,
    place_all,
    text_file,
    write_array,
)
from glip.data.labels import Label, Labelled
from glip.data.pictures import PictureFolder
from glip.errors import DataError

logger = logging.getLogger(__name__)


def write_label_studio(data: DataSet, folder: Path) -> None:
    """Write `tasks.json`, or one for each part, and `label_config.xml`."""
    with text_file(folder / "label_config.xml") as file:
        xml = XmlFile(file)
        with xml.element("View"):
            xml.text("Image", name="image", value="$image")
            with xml.element("RectangleLabels", name="label", toName="image"):
                for name in data.names:
                    xml.text("Label", value=name)
    for part in data.parts:
        with text_file(folder / f"{part or 'tasks'}.json") as file:
            write_array(file, (_task(data, picture) for picture in data.of(part)))
            file.write("\n")
    place_all(data, folder)


def _task(data: DataSet, picture: Labelled) -> dict[str, Any]:
    height, width = picture.image_hw
    results = []
    for number, label in enumerate(picture.labels):
        x1, y1, x2, y2 = label.box
        result: dict[str, Any] = {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": 100 * x1 / width,
                "y": 100 * y1 / height,
                "width": 100 * (x2 - x1) / width,
                "height": 100 * (y2 - y1) / height,
                "rotation": 0,
                "rectanglelabels": [label.name],
            },
        }
        if label.score is not None:
            result["score"] = label.score
        results.append(result)
    scores = [label.score for label in picture.labels if label.score is not None]
    prediction: dict[str, Any] = {"model_version": data.source, "result": results}
    if scores:
        prediction["score"] = min(scores)  # sorts the doubtful pictures to one end
    address = data.prefix + quote(picture.picture)
    # `file_name` comes back with the corrections, whatever the address has become.
    return {"data": {"image": address, "file_name": picture.picture}, "predictions": [prediction]}


def read_label_studio(
    tasks: Sequence[Any], path: Path, pictures: PictureFolder
) -> Iterator[Labelled]:
    """The pictures of the tasks that somebody has annotated; the log says what is left out."""
    unseen = others = 0
    for number, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', number) if isinstance(task, Mapping) else number}"
        try:
            labelled, without_box = _label_studio_task(task, pictures, where)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where} is not as Label Studio exports it: {error!r}") from error
        others += without_box
        if labelled is None:
            unseen += 1
        else:
            yield labelled
    if unseen:
        logger.warning("%s: left out %d tasks that nobody has annotated", path, unseen)
    if others:
        logger.warning("%s: left out %d results that are no boxes", path, others)


def _label_studio_task(
    task: Mapping[str, Any], pictures: PictureFolder, where: str
) -> tuple[Labelled | None, int]:
    """The picture of a task, None if nobody has annotated it, and how many results are no boxes."""
    if not isinstance(task, Mapping):
        raise DataError(f"{where} is not an object")
    results = _results(task)
    if results is None:
        return None, 0
    name = _picture_name(task.get("data", task), pictures, where)
    size = next(
        (
            (int(r["original_height"]), int(r["original_width"]))
            for r in results
            if r.get("original_height") and r.get("original_width")
        ),
        None,
    )
    size = size or pictures.size_hw(name)
    labels: list[Label] = []
    others = 0
    for result in results:
        value = result.get("value", result)
        if "rectanglelabels" not in value:
            others += 1
            continue
        box = _percent_box(value, size, where)
        labels += [Label(str(label), box) for label in value["rectanglelabels"]]
    return Labelled(name, size, tuple(labels)), others


def _results(task: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What the last person who submitted a task left there; None if nobody has."""
    if "annotations" in task:
        submitted = [a for a in task["annotations"] if not a.get("was_cancelled")]
        if not submitted:
            return None
        newest = max(submitted, key=lambda a: str(a.get("updated_at", "")))
        return list(newest["result"])
    if "predictions" in task:  # a task as it was made
        return None
    # JSON-MIN: results under the name that the labelling set-up gives them, none if there are none.
    return [
        result
        for value in task.values()
        if isinstance(value, list)
        for result in value
        if isinstance(result, Mapping)
    ]


def _picture_name(data: Mapping[str, Any], pictures: PictureFolder, where: str) -> str:
    """As it was written, or else what of the address is a picture in the folder."""
    if data.get("file_name"):
        return str(data["file_name"])
    address = str(data.get("image", ""))
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].strip("/")
    pieces = path.split("/")
    for first in range(len(pieces)):
        name = "/".join(pieces[first:])
        if name and name in pictures:
            return name
    raise DataError(f"{where}: no picture in {pictures.root} fits its address {address!r}")


def _percent_box(
    value: Mapping[str, Any], image_hw: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        turn = float(value.get("rotation", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: a box lacks or has a wrong {error}") from error
    across, down = image_hw[1] / 100, image_hw[0] / 100
    corner = x * across, y * down
    box = hull(corner, (width * across, height * down), turn, corner)
    return clipped(box, image_hw)
