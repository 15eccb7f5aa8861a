"""Photos and an ontology -> labels in a journal, and the journal as pictures with labels.

The middle of the labelling factory: `run` reads and stores, `ontology` decides, `writers` and
`review` take what comes out here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from glip.detector import Detector
from glip.labelling.journal import Journal
from glip.labelling.labels import Labelled
from glip.labelling.ontology import Ontology
from glip.labelling.run import Read, Tally, list_pictures, work_through
from glip.postprocess import Aggregate, PostprocessOptions
from glip.text.prompt import Prompt


def label_photos(
    detector: Detector,
    root: str | os.PathLike[str],
    ontology: Ontology,
    journal: Journal,
    *,
    nms: float = 0.6,
    max_detections: int = 100,
    aggregate: Aggregate = "mean",
    batch_size: int = 1,
    workers: int = 2,
    without: Path | None = None,
    progress: Callable[[Tally], object] = lambda tally: None,
) -> None:
    """Label the pictures of a folder that the journal does not have yet.

    Args:
        detector: the teacher.
        root: the folder; pictures are named by their paths below it.
        ontology: what to look for.
        journal: of this process; `Labelled.to_json` with status "done", or the reason with status
            "rejected".
        nms: IoU above which the lower-scored of two boxes of one phrase, or of one group, goes.
        max_detections: for each picture, before the ontology decides.
        aggregate: see `Detector.predict`.
        batch_size, workers, progress: see `work_through`.
        without: a folder below the root that is left out.
    Raises:
        GlipError: what `work_through`, `list_pictures` and `Detector.ground` say.
    """
    options = PostprocessOptions(
        score=ontology.lowest_threshold,
        nms=nms,
        max_detections=max_detections,
        aggregate=aggregate,
    )
    prompt = Prompt.from_classes(ontology.phrases)

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        pictures = [read.picture for read in batch]
        found = detector.ground(pictures, [[prompt]] * len(batch), options=options)
        return [
            (
                "done",
                Labelled(read.key, one.image_hw, ontology.labels(one, nms=nms)).to_json(),
            )
            for read, (one,) in zip(batch, found, strict=True)
        ]

    base = Path(root)
    work_through(
        ((name, base / name) for name in list_pictures(base, without=without)),
        answer,
        detector.prepare,
        journal,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )


class JournalPictures:
    """The labelled pictures of a journal, by name; may be run through any number of times."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[Labelled]:
        for name, _, record in self._journal.read("done"):
            yield Labelled.from_json(name, record)
