"""Captions -> pseudo-grounding: the teacher of GLIP (arXiv 2112.03857, section 3.2) at work.

    captions -> filters -> noun phrases -> teacher -> boxes -> journal -> ODVG parts and a report

What comes out trains a student like any other grounding data (`glip.data.formats.odvg`): a
caption, the spans of its phrases, boxes with the teacher's scores. Every input entry has one record
in the journal, whatever became of it, so that a run that is stopped at any moment goes on where it
was, and the counts of the report are those of the whole job.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from glip import distributed
from glip.data.formats.odvg import write_grounding
from glip.data.records import GroundingRecord, Span
from glip.errors import ConfigError, PromptError
from glip.files import failing_disk, whole_file
from glip.images import unusable_name
from glip.jobs.journal import Journal, check_spared
from glip.jobs.pipeline import Read, Settled, work_through
from glip.pixels import Prepared
from glip.progress import Progress
from glip.pseudo.captions import Captioned, CaptionSet
from glip.pseudo.config import (
    DATA,
    DONE,
    HEADER,
    JOURNAL,
    PART,
    REFUSED,
    REJECTED,
    REPORT,
    SURVEY,
    GroundingConfig,
)
from glip.pseudo.filters import Survey, refuse_picture, survey
from glip.pseudo.summary import Summary, summarise, write_summary_page
from glip.pseudo.teacher import Teacher
from glip.pseudo.views import View, teach, views
from glip.settings import within
from glip.structures import Detections
from glip.text.nouns import noun_phrases
from glip.text.prompt import Prompt
from glip.version import __version__

logger = logging.getLogger(__name__)

MARKED = "\t"
"""Before the name of the picture in the mark of a record."""


def ground_captions(
    captions: CaptionSet,
    teacher: Teacher,
    config: GroundingConfig,
    output: Path,
    *,
    leave_out: Sequence[str] = (),
    limit: int | None = None,
    survey_only: bool = False,
    load_left_out: Callable[[], Iterator[Image.Image]] = lambda: iter(()),
    progress: Progress | None = None,
) -> Summary | None:
    """Ground the phrases of all captions, and write data and report.

    In a job of several processes each calls this with the same arguments; the first one surveys and
    writes. Stopped at any moment, the same call goes on where it was.

    Args:
        captions: The input.
        teacher: Who finds the boxes.
        config: See there.
        output: Folder; `data` in it is what training reads.
        leave_out: Names of picture sets near duplicates of which are left out.
        limit: Only the first entries of the input, to try things out.
        survey_only: Stop when the input is surveyed. Before a job of several processes over an
            input that takes longer to read than they wait for each other.
        load_left_out: The pictures of those sets.
        progress: Is told of the survey for the filters, and then of what is done.
    Returns:
        The report; None on other processes than the first one, or without grounding.
    Raises:
        ConfigError: The folder holds another job, or data of somebody else.
        StorageError: The disk is full or fails; what is done stays.
        GlipError: What the teacher says.
    """
    if leave_out and config.filters.near_duplicates is None:
        raise ConfigError(
            "pictures to leave out are recognised by their looks: set filters.near_duplicates "
            "(4 is a good number)"
        )
    within("limit", limit, least=1, way_out="leave it out for all pictures")
    job = {
        "glip": __version__,
        "captions": captions.fingerprint,
        "teacher": teacher.identity(),
        "leave_out": list(leave_out),
        "limit": limit,
        **config.job(),
    }

    def begin() -> Survey:
        """What one process does before the others: the folder may be wrong, the survey long."""
        check_spared(output / JOURNAL, (output / DATA, output / SURVEY, output / REPORT))
        with Journal(output / JOURNAL, job) as journal:
            if os.path.isdir(captions.root):
                journal.forget_changed(lambda mark: _mark(captions, mark.partition(MARKED)[2]))
            return survey(
                captions,
                config.filters,
                output / SURVEY,
                leave_out=load_left_out(),
                left_out=leave_out,
                progress=progress,
            )

    distributed.on_main(begin)
    known = Survey(config.filters, output / SURVEY if config.filters.needs_survey else None)
    if survey_only:
        return None
    total = known.entries if limit is None else min(limit, known.entries or limit)
    with Journal(output / JOURNAL, job, rank=distributed.rank()) as journal:
        asker = _Asker(captions, teacher, config, known)
        rejected = journal.count(REJECTED)
        work_through(
            ((entry.key, entry) for entry in _entries(captions, limit, journal)),
            asker.answer,
            asker.prepare,
            journal,
            batch_size=config.batch_size,
            pace=teacher.pace.with_workers(config.workers),
            mark=lambda entry: _mark(captions, entry.picture),
            what="grounding",
            total=total,
            progress=progress,
        )
        if not distributed.is_main():
            return None
        report = _finish(captions, config, job, journal, output)
        return replace(report, newly_rejected=journal.count(REJECTED) - rejected)


def _mark(captions: CaptionSet, picture: str) -> str:
    """The state of a picture, and which it is, if it is a file of its own."""
    state = captions.state(picture)
    return "" if state is None else f"{state}{MARKED}{picture}"


def _entries(captions: CaptionSet, limit: int | None, journal: Journal) -> Iterator[Captioned]:
    """Those of the input that are not done."""
    if limit is None:
        return captions.read(lambda key: not journal.is_done(key))
    return (entry for entry in islice(captions, limit) if not journal.is_done(entry.key))


class _Asked(NamedTuple):
    """An entry on its way to the teacher."""

    entry: Captioned
    views: list[View]
    refused: dict[str, int]


class _Asker:
    """The two ends of the model: entries to questions, detections to records."""

    def __init__(
        self, captions: CaptionSet, teacher: Teacher, config: GroundingConfig, known: Survey
    ) -> None:
        self._captions, self._teacher, self._config = captions, teacher, config
        self._known = known
        self._asked: dict[str, _Asked] = {}  # those that are read and not answered yet

    def prepare(self, entry: Captioned) -> Prepared | Settled:
        """Filter the captions of an entry, find their phrases and read the picture.

        Raises:
            ImageError: The picture cannot be used.
        """
        fault = entry.fault or unusable_name(entry.picture)
        if fault is not None:
            return Settled(REJECTED, fault)
        reason = self._known.refuse_entry(entry)
        if reason is not None:
            return _refused(entry, Counter({reason: len(entry.captions)}))
        prompts, refused = self._prompts(entry)
        if not prompts:
            return _refused(entry, refused)
        image = self._captions.load(entry)
        reason = refuse_picture(self._config.filters, image.size)
        if reason is not None:
            return _refused(entry, refused + Counter({reason: len(prompts)}))
        seen = views(self._teacher, image, prompts, self._config.boxes)
        self._asked[entry.key] = _Asked(entry, seen, dict(refused))
        return seen[0].picture

    def answer(self, batch: Sequence[Read]) -> list[tuple[str, Any]]:
        """Records of what the teacher finds in a batch."""
        asked = [self._asked.pop(read.key) for read in batch]
        found = teach(self._teacher, [one.views for one in asked], self._config.boxes)
        return [
            (DONE, _record(one, detections)) for one, detections in zip(asked, found, strict=True)
        ]

    def _prompts(self, entry: Captioned) -> tuple[list[Prompt], Counter[str]]:
        """A prompt for each caption that passes, and how many each filter refused."""
        prompts: dict[str, Prompt] = {}
        refused: Counter[str] = Counter()
        for caption in entry.captions:
            reason = self._known.refuse_caption(caption)
            if reason is None and caption in prompts:
                reason = "repeated"
            if reason is None:
                spans = [
                    span
                    for span in noun_phrases(caption, self._config.chunker)
                    if any(map(str.isalnum, caption[slice(*span)]))
                ]
                reason = None if spans else "no_phrase"
            if reason is None:
                prompt = self._readable(caption, spans)
                if prompt is None:
                    reason = "unreadable"
                else:
                    prompts[caption] = prompt
            if reason is not None:
                refused[reason] += 1
        return list(prompts.values()), refused

    def _readable(self, caption: str, spans: Sequence[Span]) -> Prompt | None:
        """A caption with those of its phrases that the teacher can read, if there are any."""

        def can_read(spans: Sequence[Span]) -> bool:
            try:
                self._teacher.check(Prompt(caption, tuple((span,) for span in spans)))
            except PromptError:
                return False
            return True

        if not can_read(spans):
            spans = [span for span in spans if can_read([span])]
        return Prompt(caption, tuple((span,) for span in spans)) if spans else None


def _refused(entry: Captioned, refused: Counter[str]) -> Settled:
    return Settled(REFUSED, {"picture": entry.picture, "refused": dict(refused)})


def _record(asked: _Asked, detections: Sequence[Detections]) -> dict[str, Any]:
    """What the journal keeps of an entry, in the pixels of `GroundingRecord`."""
    image_hw = asked.views[0].picture.original_hw
    captions = []
    for found in detections:
        captions.append(
            {
                "caption": found.prompt.text,
                "phrases": [list(spans[0]) for spans in found.prompt.phrases],
                "boxes": [[round(x, 2) for x in box] for box in found.boxes.tolist()],
                "scores": [round(score, 4) for score in found.scores.tolist()],
                "owners": found.phrase_ids.tolist(),
            }
        )
    return {
        "picture": asked.entry.picture,
        "hw": list(image_hw),
        "refused": asked.refused,
        "captions": captions,
    }


def records_of(journal: Journal) -> Iterator[GroundingRecord]:
    """The captions with boxes of all entries that are done, in order of the input."""
    for key, _, record in journal.read(DONE):
        for number, caption in enumerate(record["captions"]):
            if not caption["boxes"]:
                continue
            yield GroundingRecord(
                image_id=f"{key}-{number}",
                file_name=record["picture"],
                image_hw=(record["hw"][0], record["hw"][1]),
                caption=caption["caption"],
                phrases=tuple(((start, end),) for start, end in caption["phrases"]),
                boxes=np.array(caption["boxes"], dtype=np.float64).reshape(-1, 4),
                owners=np.array(caption["owners"], dtype=np.int64),
                scores=np.array(caption["scores"], dtype=np.float32),
            )


# The end of a run.


def _finish(
    captions: CaptionSet,
    config: GroundingConfig,
    job: dict[str, Any],
    journal: Journal,
    output: Path,
) -> Summary:
    """Write the data and the report."""
    parts = _write_data(journal, output, config.captions_per_part)
    report = summarise(journal)
    if not report.boxes:
        logger.warning(
            "no phrase was grounded: the report says what was refused; lower boxes.min_score, or "
            "take a larger teacher"
        )
    with whole_file(output / DATA / HEADER) as file:
        json.dump(
            {
                "format": "ODVG JSON lines with scores and tokens_positive",
                "images": str(captions.root),
                "prompt": "the caption, asked for its noun phrases",
                "parts": parts,
                **job,
                "report": asdict(report),
            },
            file,
            indent=1,
            ensure_ascii=False,
        )
    with whole_file(output / "report.txt") as file:
        file.write(report.text() + "\n")
    write_summary_page(captions, config, job, journal, report, output / REPORT)
    return report


def _write_data(journal: Journal, output: Path, captions_per_part: int) -> dict[str, int]:
    """Write the parts into a new folder that then takes the place of the old one."""
    unfinished, folder = output / f".{DATA}.part", output / DATA
    parts: dict[str, int] = {}
    with failing_disk(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        records = records_of(journal)
        # One part at least, so that nothing found is a data set, too.
        while True:
            name = PART.format(len(parts))
            parts[name] = _write_part(islice(records, captions_per_part), unfinished / name)
            if parts[name] < captions_per_part:
                break
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)
    return parts


def _write_part(records: Iterator[GroundingRecord], path: Path) -> int:
    written = 0

    def counted() -> Iterator[GroundingRecord]:
        nonlocal written
        for record in records:
            written += 1
            yield record

    write_grounding(counted(), path)
    return written
