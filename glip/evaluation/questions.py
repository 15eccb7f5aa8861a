"""What is asked about which picture: prompts of detection data and of sentences.

Knows nothing about detectors or truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from glip.data.formats.flickr import FlickrData
from glip.data.packed import Packed
from glip.data.records import DetectionData, ImageId
from glip.data.sampling import class_prompt
from glip.errors import ConfigError
from glip.evaluation.flickr import boxed_phrases, sentence_id
from glip.text.prompt import Prompt


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt and what its phrases are called in predictions."""

    prompt: Prompt
    labels: tuple[int, ...]
    """Of each phrase its category id, or its row in a sentence."""


@dataclass(frozen=True, eq=False)
class Question:
    """One picture and all that is asked about it; prompts share nothing but the picture."""

    image_id: ImageId
    file_name: str
    asked: tuple[Asked, ...]


def detection_questions(
    data: DetectionData,
    *,
    chunk: int | None = None,
    decorations: Mapping[str, Sequence[str]] | None = None,
    wordings: Mapping[str, str] | None = None,
) -> list[Question]:
    """Every picture with the names of its vocabulary, in the order of category ids (reference E.2).

    Args:
        data: Pictures and classes.
        chunk: Ask for this many consecutive names at a time, each in a run of its own, as the
            official evaluation of LVIS does with 40. By default all names are one prompt, which the
            detector takes in as many passes as it has to.
        decorations: Class name -> text before and after it, see `glip.data.sampling.class_prompt`.
        wordings: Class name -> what to ask for instead.
    """
    words = [(wordings or {}).get(name, name) for name in data.names]
    asked: dict[tuple[int, ...], tuple[Asked, ...]] = {}
    questions = []
    for record in data.records:
        rows = data.vocabulary(record)
        if rows not in asked:
            size = chunk or len(rows)
            groups = [rows[start : start + size] for start in range(0, len(rows), size)]
            asked[rows] = tuple(
                Asked(
                    class_prompt([words[row] for row in group], decorations),
                    tuple(data.category_ids[row] for row in group),
                )
                for group in groups
            )
        questions.append(Question(record.image_id, record.file_name, asked[rows]))
    return questions


def flickr_questions(data: FlickrData) -> list[Question]:
    """Every sentence that has a phrase with a box, with those phrases."""
    questions = []
    for sentence in data.sentences:
        phrases = boxed_phrases(sentence)
        if phrases:
            prompt = Prompt(sentence.text, tuple((phrase.span,) for phrase in phrases))
            asked = Asked(prompt, tuple(range(len(phrases))))
            questions.append(Question(sentence_id(sentence), sentence.file_name, (asked,)))
    return questions


def by_picture(questions: Sequence[Question]) -> list[list[Question]]:
    """Questions in a row that are about one picture, such as the sentences of Flickr30k."""
    return [list(sharing) for _, sharing in groupby(questions, key=lambda q: q.file_name)]


def detection_only(data: object, path: Path) -> DetectionData:
    """The data that was read from a path, if it has classes.

    Raises:
        ConfigError: It holds captions.
    """
    if not isinstance(data, DetectionData):
        raise ConfigError(f"{path} holds captions; average precision needs boxes with classes")
    return data


def limited(data: DetectionData, limit: int | None) -> DetectionData:
    """The first pictures of a data set."""
    if limit is None:
        return data
    return replace(data, records=Packed(data.records[row] for row in range(min(limit, len(data)))))
