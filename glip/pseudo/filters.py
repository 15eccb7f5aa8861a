"""Which captions are worth a teacher's time: the filters of ALIGN (arXiv 2102.05918, section 3).

Some need to know all of the input first (how many pictures share a text). That is what `survey`
counts: 64-bit hashes on disk, sorted part by part, so that memory stays the same for a billion
pairs. Two texts count as one if they differ in nothing but case and blanks; that two others share a
hash by chance is to be expected once among some billions.

Knows nothing about phrases, boxes or models.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.choices import Preset
from glip.errors import ConfigError, ImageError, StorageError
from glip.progress import Counter, Progress
from glip.pseudo.captions import Captioned, CaptionSet
from glip.settings import one_of, within

Hashes = npt.NDArray[np.uint64]


_COUNTS = "counts.json"  # the last file of a survey to be written

FILTERS = {
    "blank": "no words",
    "short": "fewer words than min_words",
    "long": "more words than max_words",
    "left_out": "a word of leave_out_words",
    "shared": "text of more than max_pictures_per_text pictures",
    "rare": "a word or pair of words that is not among the vocabulary most frequent ones",
    "many_texts": "picture with more than max_texts_per_picture texts",
    "small": "picture whose shorter side is not above min_side pixels",
    "elongated": "picture whose sides are not in a ratio below max_aspect",
    "duplicate": "picture that looks like an earlier one, or like one to leave out",
}
"""Name of each filter, as it is counted, and what it refuses."""


@dataclass(frozen=True)
class CaptionFilters:
    """What is let through; the defaults are those of ALIGN, None switches a filter off."""

    min_words: int = 3
    max_words: int | None = 20
    max_pictures_per_text: int | None = 10
    """A text of more pictures than this says nothing about any of them."""
    vocabulary: int | None = 100_000_000
    """So many of the most frequent words and pairs of neighbouring words are known ones; a caption
    with any other is left out."""
    max_texts_per_picture: int | None = 1000
    min_side: int | None = 200
    """Pixels that the shorter side of a picture has to exceed."""
    max_aspect: float | None = 3.0
    """The longer side is less than so many times the shorter one."""
    near_duplicates: int | None = None
    """Not in ALIGN but for test pictures: leave out a picture whose `perceptual_hash` differs in no
    more than so many of its 64 bits from that of an earlier one. Of 200 photos at a third of their
    size, darker, or as JPEG of quality 30, 19 in 20 differed in 4 bits or fewer; of 19,900 pairs
    of different photos none in fewer than 13."""

    leave_out_words: tuple[str, ...] | None = None
    """Not in ALIGN but for test words: captions with any of these words or pairs of words, or their
    plural in s, are left out, so that they can measure whether a model reads what it never saw."""

    def __post_init__(self) -> None:
        for word in self.leave_out_words or ():
            if not 1 <= len(_words(word)) <= 2:
                raise ConfigError(f"filters.leave_out_words: {word!r} is not a word or two")
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            least = 0 if name in ("min_words", "min_side", "near_duplicates") else 1
            if isinstance(value, (int, float)):
                within(f"filters.{name}", value, least=least)
        if self.max_words is not None and self.max_words < self.min_words:
            raise ConfigError(
                f"filters: max_words {self.max_words} is below min_words {self.min_words}; no "
                "caption could pass"
            )
        within(
            "filters.near_duplicates",
            self.near_duplicates,
            least=0,
            most=15,
            way_out="unlike pictures often differ in 20 of 64 bits",
        )

    @property
    def needs_survey(self) -> bool:
        """Whether any of them has to know all of the input first."""
        return any(
            value is not None
            for value in (
                self.max_pictures_per_text,
                self.vocabulary,
                self.max_texts_per_picture,
                self.near_duplicates,
            )
        )

    @classmethod
    def preset(cls, name: Preset) -> CaptionFilters:
        """Filters for a kind of captions.

        Args:
            name: "web" has all of ALIGN's; "curated" keeps all that has a word at all.
        Raises:
            ConfigError: Another name.
        """
        one_of("preset", name, Preset)
        if name == "web":
            return cls()
        return cls(1, **{f.name: None for f in fields(cls) if f.name != "min_words"})


def refuse_picture(filters: CaptionFilters, size: tuple[int, int]) -> str | None:
    """The filter that refuses a picture for its form, if any does.

    Args:
        filters: See there.
        size: Two sides, pixels, in any order.
    """
    short, long = min(size), max(size)
    if filters.min_side is not None and short <= filters.min_side:
        return "small"
    if filters.max_aspect is not None and long >= filters.max_aspect * short:
        return "elongated"
    return None


class Survey:
    """What was learned from a look at the whole input: texts and pictures to leave out.

    Args:
        filters: What to let through.
        folder: As `survey` made it for these filters; None if they need none.
    Attributes:
        entries: How many the input has; None without a folder.
    """

    def __init__(self, filters: CaptionFilters, folder: Path | None = None) -> None:
        self._filters = filters
        self._held_out = frozenset(map(_normal, filters.leave_out_words or ()))
        self._refused: dict[str, Hashes] = {}
        self.entries: int | None = None
        if folder is not None:
            files = sorted(folder.glob("*.npy"))
            self._refused = {path.stem: np.load(path, mmap_mode="r") for path in files}
            self.entries = json.loads((folder / _COUNTS).read_text())["entries"]

    def refuse_entry(self, entry: Captioned) -> str | None:
        """The filter that refuses a picture with all its captions, if any does."""
        for name in ("many_texts", "duplicate"):
            if self._has(name, _hash(entry.picture)):
                return name
        return None

    def refuse_caption(self, text: str) -> str | None:
        """The filter that refuses a caption, if any does."""
        words = _words(text)
        if not words:
            return "blank"
        if len(words) < self._filters.min_words:
            return "short"
        if self._filters.max_words is not None and len(words) > self._filters.max_words:
            return "long"
        if self._held_out and any(
            {token, token.removesuffix("s")} & self._held_out for token in _tokens(words)
        ):
            return "left_out"
        if self._has("shared", _hash(_normal(text))):
            return "shared"
        known = self._refused.get("known")
        if known is not None:
            hashes = np.array([_hash(token) for token in _tokens(words)], dtype=np.uint64)
            places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            if (known[places] != hashes).any():
                return "rare"
        return None

    def _has(self, name: str, value: int) -> bool:
        values = self._refused.get(name)
        if values is None or not len(values):
            return False
        place = int(np.searchsorted(values, np.uint64(value)))
        return place < len(values) and int(values[place]) == value


def survey(
    captions: CaptionSet,
    filters: CaptionFilters,
    folder: Path,
    *,
    leave_out: Iterable[Image.Image] = (),
    left_out: Sequence[str] = (),
    progress: Progress | None = None,
) -> Survey:
    """Count over the whole input what the filters need; done only once for a folder.

    Args:
        captions: The input; read once, and its pictures only for `near_duplicates`.
        filters: What is to be known.
        folder: Where to keep it; made whole or not at all. Meanwhile it needs up to 32 bytes for
            each pair and for each word.
        leave_out: Pictures, such as those of test sets, near duplicates of which are to go.
        left_out: Names of these sets; a survey for others is done anew.
        progress: Is told of each entry that is read.
    Raises:
        StorageError: The folder cannot be written.
    """
    if not filters.needs_survey:
        return Survey(filters)
    of = {
        "captions": captions.fingerprint,
        "filters": asdict(filters),
        "leave_out": list(left_out),
    }
    if not _is_survey(folder, of):
        unfinished = folder.with_name(f"{folder.name}.part")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.mkdir(parents=True)
            counter = Counter(progress, "survey")
            surveyor, entries = _Surveyor(filters, unfinished), 0
            for entry in captions:
                counter.add()
                entries += 1
                surveyor.add(entry)
                surveyor.look(entry, captions)
            surveyor.write(leave_out)
            (unfinished / _COUNTS).write_text(json.dumps({"entries": entries, **of}))
            unfinished.replace(folder)
        except OSError as error:
            if isinstance(error, ImageError):
                raise
            raise StorageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Survey(filters, folder)


class _Surveyor:
    """Counts what the filters need to know of the whole input.

    Args:
        filters: What is to be known.
        folder: Where it is kept.
    """

    def __init__(self, filters: CaptionFilters, folder: Path) -> None:
        self._filters, self._folder = filters, folder
        shared, crowded = filters.max_pictures_per_text, filters.max_texts_per_picture
        self._by_text = None if shared is None else HashPairs(folder / "texts")
        self._by_picture = None if crowded is None else HashPairs(folder / "pictures")
        self._tokens = None if filters.vocabulary is None else HashCounts(folder / "tokens")
        self._looks: dict[int, int] = {}  # hash of the name -> perceptual hash

    def add(self, entry: Captioned) -> None:
        """Count the captions of an entry."""
        name = _hash(entry.picture)
        for text in entry.captions:
            value = _hash(_normal(text))
            if self._by_text is not None:
                self._by_text.add(value, name)
            if self._by_picture is not None:
                self._by_picture.add(name, value)
            if self._tokens is not None:
                self._tokens.add(_hash(token) for token in _tokens(_words(text)))

    def look(self, entry: Captioned, captions: CaptionSet) -> None:
        """Take note of what its picture looks like, if that is to be known."""
        name = _hash(entry.picture)
        if self._filters.near_duplicates is None or entry.fault is not None:
            return
        if name not in self._looks:
            with contextlib.suppress(ImageError):  # whoever labels it will say so
                self._looks[name] = perceptual_hash(captions.load(entry))

    def write(self, leave_out: Iterable[Image.Image]) -> None:
        """Write what is to be refused."""
        shared, crowded = self._filters.max_pictures_per_text, self._filters.max_texts_per_picture
        if self._by_text is not None and shared is not None:
            np.save(self._folder / "shared.npy", self._by_text.crowded(shared))
        if self._by_picture is not None and crowded is not None:
            np.save(self._folder / "many_texts.npy", self._by_picture.crowded(crowded))
        if self._tokens is not None and self._filters.vocabulary is not None:
            known = self._tokens.most_frequent(self._filters.vocabulary)
            if known is not None:
                np.save(self._folder / "known.npy", known)
        if self._filters.near_duplicates is not None:
            first = [perceptual_hash(picture) for picture in leave_out]
            prints = np.array([*first, *self._looks.values()], dtype=np.uint64)
            later = near_duplicates(prints, self._filters.near_duplicates)
            names = np.array(list(self._looks), dtype=np.uint64)
            np.save(self._folder / "duplicate.npy", np.sort(names[later[len(first) :]]))


def _is_survey(folder: Path, of: Mapping[str, Any]) -> bool:
    """Whether a folder holds the survey of an input for some filters."""
    if not os.path.isfile(folder / _COUNTS):
        return False
    there = json.loads((folder / _COUNTS).read_text())
    return all(there.get(key) == value for key, value in of.items())


# Words and hashes.


def _words(text: str) -> list[str]:
    return [word for word in text.casefold().split() if any(map(str.isalnum, word))]


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _tokens(words: Sequence[str]) -> Iterator[str]:
    """The words, without signs around them, and their pairs of neighbours."""
    bare = [word.strip(".,;:!?\"'()[]{}") or word for word in words]
    yield from bare
    for pair in pairwise(bare):
        yield " ".join(pair)


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


# Counting on disk.

PARTS = 64
"""Files that hashes are divided among by their first bits; one at a time is sorted in memory."""
BUFFERED = 1 << 20
"""Numbers held before they go to disk."""


class _Parts:
    """Rows of 64-bit numbers in files by the first bits of the first number."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        self._rows = array("Q")  # 8 bytes for each, where a list takes 40
        folder.mkdir()

    def add(self, numbers: Iterable[int]) -> None:
        self._rows.extend(numbers)
        if len(self._rows) >= BUFFERED * self._width:
            self.flush()

    def flush(self) -> None:
        rows = self.condensed(np.array(self._rows, dtype=np.uint64).reshape(-1, self._width))
        self._rows = array("Q")
        part_of = rows[:, 0] >> np.uint64(64 - PARTS.bit_length() + 1)
        for part in np.unique(part_of):
            with (self._folder / f"{int(part):03d}").open("ab") as file:
                rows[part_of == part].tofile(file)

    def condensed(self, rows: Hashes) -> Hashes:
        """Rows that say the same in fewer numbers."""
        return rows

    def parts(self) -> Iterator[Hashes]:
        """All rows, part by part, (R, width) in rising order of the first number."""
        self.flush()
        for path in sorted(self._folder.iterdir()):
            yield np.fromfile(path, dtype=np.uint64).reshape(-1, self._width)

    def remove(self) -> None:
        shutil.rmtree(self._folder)


class HashPairs:
    """Pairs of hashes, any number of them, and which first ones have many different partners."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder that does not exist yet, and removes it when it is asked."""
        self._parts = _Parts(folder, 2)

    def add(self, first: int, second: int) -> None:
        """One more pair; it may have come before."""
        self._parts.add((first, second))

    def crowded(self, limit: int) -> Hashes:
        """The first numbers that stand in pairs with more than `limit` others, sorted; the end."""
        found = []
        for rows in self._parts.parts():
            order = np.lexsort((rows[:, 1], rows[:, 0]))
            rows = rows[order]
            fresh = np.ones(len(rows), dtype=np.bool_)
            fresh[1:] = (rows[1:] != rows[:-1]).any(1)
            numbers, partners = np.unique(rows[fresh, 0], return_counts=True)
            found.append(numbers[partners > limit])
        self._parts.remove()
        return np.concatenate(found) if found else np.zeros(0, dtype=np.uint64)


class _Counted(_Parts):
    """Rows of a number and how often it came."""

    def condensed(self, rows: Hashes) -> Hashes:
        numbers, places = np.unique(rows[:, 0], return_inverse=True)
        counts = np.zeros(len(numbers), dtype=np.uint64)
        np.add.at(counts, places.reshape(-1), rows[:, 1])
        return np.stack([numbers, counts], 1)


class HashCounts:
    """How often each of any number of hashes comes, and which ones most."""

    def __init__(self, folder: Path) -> None:
        """Takes a folder that does not exist yet, and removes it when it is asked."""
        self._parts = _Counted(folder, 2)

    def add(self, hashes: Iterable[int]) -> None:
        """Count each once more."""
        self._parts.add(number for value in hashes for number in (value, 1))

    def most_frequent(self, limit: int) -> Hashes | None:
        """The `limit` most frequent ones, sorted, with all that are as frequent as the last of
        them; None if there are no others. The end.
        """
        # Twice over the parts: how many hashes have which count, then those above the line.
        with_count: dict[int, int] = {}
        for rows in self._parts.parts():
            counts, how_many = np.unique(self._parts.condensed(rows)[:, 1], return_counts=True)
            for count, more in zip(counts.tolist(), how_many.tolist(), strict=True):
                with_count[count] = with_count.get(count, 0) + more
        known, line = 0, 1
        for count in sorted(with_count, reverse=True):
            known, line = known + with_count[count], count
            if known >= limit:
                break
        result = None
        if known < sum(with_count.values()):
            kept = []
            for rows in self._parts.parts():
                rows = self._parts.condensed(rows)
                kept.append(rows[rows[:, 1] >= line, 0])
            result = np.concatenate(kept)
        self._parts.remove()
        return result


# Pictures that look the same.


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that hardly change with size, quality or brightness: a difference hash.

    One bit for each pair of neighbours in a row of the picture at 9 x 8 pixels: which is brighter.
    """
    small = image.convert("L").resize((9, 8), Image.Resampling.BILINEAR)
    grey = np.asarray(small, dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def near_duplicates(prints: Hashes, distance: int) -> npt.NDArray[np.bool_]:
    """Which perceptual hashes differ from an earlier one in no more than `distance` bits.

    Of two numbers of 64 bits that differ in d, cut into d + 1 pieces, one piece is equal: only
    those that share a piece are compared.

    Args:
        prints: (N,), in order of the pictures.
        distance: Number of bits, 0 to 15.
    Returns:
        (N,) bool. Some 50 bytes of memory for each are needed meanwhile.
    """
    unique, first, place_of = np.unique(prints, return_index=True, return_inverse=True)
    later: npt.NDArray[np.bool_] = first[place_of.reshape(-1)] < np.arange(len(prints))
    edges = np.linspace(0, 64, distance + 2).astype(int)
    for low, high in pairwise(edges):
        if distance == 0:
            break
        piece = (unique >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(piece, kind="stable")
        sorted_piece = piece[order]
        rows: npt.NDArray[np.int64] = np.arange(len(order))
        step = 0
        while len(rows):
            step += 1
            rows = rows[rows + step < len(order)]
            rows = rows[sorted_piece[rows] == sorted_piece[rows + step]]
            left, right = order[rows], order[rows + step]
            near = _bits(unique[left] ^ unique[right]) <= distance
            pair = np.stack([first[left[near]], first[right[near]]])
            later[pair.max(0)] = True
    return later


def _bits(values: Hashes) -> npt.NDArray[np.int64]:
    """(N,) how many bits are set."""
    octets = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), 8)
    return np.unpackbits(octets, axis=1).sum(1, dtype=np.int64)
