"""What readers leave out of a data set, and why: counted, named, and refused when it is too much.

One faulty entry of two hundred is left out with a word in the log; where it is a larger share than
somebody allowed, the data set is refused. The rule is the same in all formats, and the doctor reads
the same list. Knows nothing about formats.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from glip.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

MAX_BAD = 0.05
"""Share of entries that may be left out before a data set is refused."""

EXAMPLES = 3
"""Cases named of each kind; a page has to be enough."""

LONGEST = 300
"""Letters of a case that are shown; names of thousands of letters are met in the wild."""

Population = Literal["images", "boxes", "classes", "lines", "files"]
Kind = Literal[
    "image fields",
    "image ids",
    "pictures twice",
    "missing pictures",
    "unreadable pictures",
    "annotation fields",
    "unknown images",
    "unknown categories",
    "no boxes",
    "category fields",
    "category ids",
    "unknown in lists",
    "vocabularies",
    "captions",
    "spans",
    "lines",
    "files",
]


class Meaning(NamedTuple):
    """What a kind of fault says to a reader of the report."""

    message: str
    """The name of what is counted."""
    way_out: str
    of: Population
    """What cases are counted against."""


MEANINGS: dict[Kind, Meaning] = {
    "image fields": Meaning(
        "images without a needed field", "Each needs id, file_name, width and height.", "images"
    ),
    "image ids": Meaning(
        "image ids that occur more than once",
        "Number the images anew, and their annotations with them.",
        "images",
    ),
    "pictures twice": Meaning(
        "pictures that two entries claim", "Join the entries, or remove one of them.", "images"
    ),
    "missing pictures": Meaning(
        "missing pictures", "Say where they are (--images), or remove their entries.", "images"
    ),
    "unreadable pictures": Meaning(
        "pictures that cannot be read", "Fetch them again, or remove their entries.", "images"
    ),
    "annotation fields": Meaning(
        "annotations with a field of another type than it has to be",
        "Numbers are numbers, iscrowd is 0 or 1.",
        "boxes",
    ),
    "unknown images": Meaning(
        "annotations of no image", "Remove them, or add the images.", "boxes"
    ),
    "unknown categories": Meaning(
        "annotations of an unknown category", "Add it to the classes, or remove them.", "boxes"
    ),
    "no boxes": Meaning(
        "annotations whose bbox is not [x, y, width, height]",
        "Write four finite numbers in pixels.",
        "boxes",
    ),
    "category fields": Meaning(
        "categories without id or name",
        "A name is what the model looks for, so it has to be there.",
        "classes",
    ),
    "category ids": Meaning(
        "category ids that occur more than once",
        "Number the categories anew, and their annotations with them.",
        "classes",
    ),
    "unknown in lists": Meaning(
        "lists with a category that is not in the file",
        "Correct neg_category_ids, not_exhaustive_category_ids or vocabularies.",
        "images",
    ),
    "vocabularies": Meaning(
        "images or boxes that do not fit their vocabulary",
        "Each image names one of the vocabularies, and its boxes are of that one.",
        "images",
    ),
    "captions": Meaning("images without a caption", "Remove them, or write one.", "images"),
    "spans": Meaning(
        "annotations with spans that are not in their caption",
        "tokens_positive is [[start, end], …] in characters, the end not counted in.",
        "boxes",
    ),
    "lines": Meaning("lines that cannot be read", "Correct or remove them.", "lines"),
    "files": Meaning("files that cannot be read", "Correct or remove them.", "files"),
}


class Faults:
    """The entries of one data set that were left out, and how many there were in all.

    Args:
        path: Of the data set, for messages.
        max_bad: Share of a population, in [0, 1], that may be left out.
    Raises:
        ConfigError: `max_bad` is no share.
    """

    def __init__(self, path: Path, max_bad: float = MAX_BAD) -> None:
        if not 0 <= max_bad <= 1:
            raise ConfigError(
                f"the share that may be left out must lie in [0, 1], got {max_bad}; 0.05 is one of "
                "twenty"
            )
        self.path = path
        self.max_bad = max_bad
        self.counts: Counter[Kind] = Counter()
        self.examples: dict[Kind, list[str]] = {}
        self.notes: Counter[str] = Counter()
        """What was read in another way than it is written, and how often."""
        self._totals: Counter[Population] = Counter()

    def add(self, kind: Kind, where: str) -> None:
        """Something is left out; `where` names it and its place."""
        self.counts[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(where if len(where) <= LONGEST else f"{where[:LONGEST]}…")

    def count(self, of: Population, number: int = 1) -> None:
        """So many entries were looked at, faulty ones among them."""
        self._totals[of] += number

    def note(self, message: str, number: int = 1) -> None:
        """Something was read in another way than it is written, or passed over on purpose."""
        self.notes[message] += number

    def total(self, of: Population) -> int:
        """How many entries there were, at least one."""
        return max(1, self._totals[of])

    def is_too_much(self, kind: Kind) -> bool:
        """Whether faults of this kind and others of its population are a reason to refuse."""
        of = MEANINGS[kind].of
        bad = sum(count for other, count in self.counts.items() if MEANINGS[other].of == of)
        return bad > self.max_bad * self.total(of)

    def close(self) -> None:
        """Say in the log what was left out.

        Raises:
            DataError: It is more than what may be.
        """
        for kind, number in self.counts.items():
            what, of = self._listed(kind), MEANINGS[kind].of
            share = f"{number} of {self.total(of)} {of}"
            if self.is_too_much(kind):
                raise DataError(
                    f"{self.path}: {what}; {share} cannot be used, and a share of "
                    f"{self.max_bad:g} may be left out (--max-bad); 'glip doctor {self.path}' "
                    "lists all faults"
                )
            logger.warning("%s: left out %s: %s (%s)", self.path, share, what, kind)
        for message, number in self.notes.items():
            logger.warning("%s: %s (%d)", self.path, message, number)

    def close_if_nothing(self, found: object) -> None:
        """`close`, where nothing is left; so that the reason is said and not its consequence."""
        if found:
            return
        self.close()
        if kinds := list(self.counts):
            raise DataError(f"{self.path} holds nothing else: {self._listed(kinds[0])}")

    def _listed(self, kind: Kind) -> str:
        shown = self.examples[kind]
        return "; ".join(shown) + ("; …" if self.counts[kind] > len(shown) else "")
