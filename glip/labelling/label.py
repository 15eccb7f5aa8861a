"""Photos and an ontology -> labels in a journal, and the journal as pictures with labels.

The middle of the labelling factory: `glip.jobs.pipeline` reads and stores, `ontology` decides,
`export` and `review` take what comes out here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glip.config import PostprocessOptions
from glip.data.labels import Labelled
from glip.detector import Detector
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Answer, Read, file_mark, work_through
from glip.labelling.ontology import Ontology
from glip.progress import Progress
from glip.text.prompt import Prompt


def label_photos(
    detector: Detector,
    root: str | os.PathLike[str],
    names: Iterable[str],
    ontology: Ontology,
    journal: Journal,
    *,
    options: PostprocessOptions | None = None,
    shortlist: int | None = None,
    batch_size: int = 1,
    workers: int | None = None,
    total: int | None = None,
    before: int = 0,
    progress: Progress | None = None,
) -> None:
    """Label the pictures of a folder that the journal does not have yet, or not as they are now.

    Args:
        detector: the teacher.
        root: the folder that the names of pictures start from.
        names: of the pictures; run through once.
        ontology: what to look for.
        journal: of this process; `Labelled.to_json` with status "done", or the reason with status
            "rejected".
        options: of the detections, before the ontology decides; see `photo_answers`.
        shortlist: most phrases that are looked for in a whole picture; None for all.
        batch_size, total, before, progress: see `work_through`.
        workers: threads that read pictures; None for as many as the detector's device wants.
    Raises:
        GlipError: what `work_through` and `Detector.detect` say.
    """
    base = Path(root)
    if shortlist is not None:
        detector = detector.with_shortlist(shortlist)
    work_through(
        ((name, base / name) for name in names),
        photo_answers(detector, ontology, options or PostprocessOptions()),
        detector.prepare,
        journal,
        batch_size=batch_size,
        pace=detector.pace.with_workers(workers),
        mark=file_mark,
        total=total,
        before=before,
        progress=progress,
    )


def photo_answers(detector: Detector, ontology: Ontology, options: PostprocessOptions) -> Answer:
    """The part of the work that needs the model: pictures -> records of their labels.

    Args:
        detector: the teacher.
        ontology: what to look for; its lowest threshold takes the place of the options' `score`.
        options: `nms` is also the IoU above which the lower-scored of two boxes of a group goes.
    """
    options = replace(options, score=ontology.lowest_threshold)
    prompt = Prompt.from_classes(ontology.phrases)

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        pictures = [read.picture for read in batch]
        found = detector.detect(pictures, [[prompt]] * len(batch), options=options)
        return [
            (
                "done",
                Labelled(read.key, one.image_hw, ontology.labels(one, nms=options.nms)).to_json(),
            )
            for read, (one,) in zip(batch, found, strict=True)
        ]

    return answer


class JournalPictures:
    """The labelled pictures of a journal, by name; may be run through any number of times.

    Args:
        journal: With records of the status "done".
        root: Folder of the pictures; those that are no longer there are left out. None: all stay.
    """

    def __init__(self, journal: Journal, root: str | os.PathLike[str] | None = None) -> None:
        self._journal = journal
        self._root = None if root is None else Path(root)

    def __iter__(self) -> Iterator[Labelled]:
        for name, _, record in self._journal.read("done"):
            if self._root is None or os.path.exists(self._root / name):
                yield Labelled.from_json(name, record)
