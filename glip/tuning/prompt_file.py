"""A learned prompt out of words alone, in a file: all that are named, or those that help on photos.

Nothing is trained; see `glip.tuning.wording` and `glip.tuning.word_search`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from glip.choices import Ensemble
from glip.data.formats.recognise import read_annotated, train_and_val
from glip.data.records import DetectionData
from glip.detector import Detector, load
from glip.errors import ConfigError, DataError
from glip.files import make_folder, write_json
from glip.progress import Progress
from glip.task_prompt import SUFFIX, save_prompt
from glip.training.words import check_names
from glip.tuning.few_shot import select
from glip.tuning.word_search import Photos, SearchResult, search
from glip.tuning.wording import Said, Wordings, in_templates, read_wordings, worded


def write_words(
    out: Path,
    wordings: Path,
    *,
    weights: str | None = None,
    device: str | None = None,
    ensemble: Ensemble | None = None,
) -> None:
    """Take all wordings of a file.

    Args:
        out: NAME.prompt.safetensors, written whole or not at all.
        wordings: The YAML file; it must name its classes.
        weights: The model, see `glip.load`.
        device: Where it runs.
        ensemble: Average scores, in one sentence, or features, one row for a class; by default
            scores.
    Raises:
        ConfigError, PromptError: No class is named, or words that cannot be put together.
    """
    words, model = _begun(out, wordings, weights, device)
    if not words.names:
        raise ConfigError(f"{wordings} names no class")
    check_names(words.names)
    words.check(words.names)
    said = Said(
        {name: in_templates(words, name) for name in words.names},
        negatives=words.negatives,
        ensemble=ensemble or "scores",
    )
    save_prompt(out, worded(model(), said))


def search_words(
    out: Path,
    wordings: Path,
    data: Path,
    *,
    images: Path | None = None,
    max_bad: float = 0.05,
    shots: int | None = 10,
    seed: int = 0,
    weights: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> tuple[SearchResult, Path]:
    """Take those wordings that help on labelled photos.

    Args:
        out: As of `write_words`.
        wordings: As there; names are those of the data.
        data: Labelled photos, a folder with a train part or a file.
        images: Folder or tar; by default beside the data.
        max_bad: Share of entries that cannot be used; more are refused.
        shots: Photos of each class; None for all.
        seed: Of the shots.
        weights: As of `write_words`.
        device: As of `write_words`.
        progress: Told of each trial.
    Returns:
        What was tried, and the report, NAME.json beside `out`.
    Raises:
        DataError: Captions, or data that cannot be read.
    """
    words, model = _begun(out, wordings, weights, device)
    train, _ = train_and_val(data)
    annotated = read_annotated(train.path, images, split=train.split, max_bad=max_bad)
    if not isinstance(annotated.data, DetectionData):
        raise DataError(f"{train.path} holds captions; a search needs boxes with classes")
    check_names(annotated.data.names)
    words.check(annotated.data.names)
    drawn, selection = select(annotated.data, shots, seed)
    found = search(Photos(model(), drawn, annotated.pictures), words, progress=progress)
    save_prompt(out, found.task)
    report = out.with_name(out.name.removesuffix(SUFFIX) + ".json")
    write_json(report, {**found.to_dict(), "selection": selection.to_dict()})
    return found, report


def _begun(
    out: Path, wordings: Path, weights: str | None, device: str | None
) -> tuple[Wordings, Callable[[], Detector]]:
    """What is cheap to check comes first: the words, and the model when it is asked for."""
    if not out.name.endswith(SUFFIX):
        raise ConfigError(f"--out {out} must be called NAME{SUFFIX}")
    words = read_wordings(wordings)
    make_folder(out.parent)
    return words, lambda: load(weights, device=device)
