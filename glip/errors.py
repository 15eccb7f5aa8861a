"""Every error that a user of glip can cause, in one family.

`except glip.GlipError` catches them all. Each message names the value or file that is wrong and the
way out. The second base class is what a Python programmer would expect of the same mistake, so that
code which already handles `ValueError` or `OSError` keeps working.
"""

from collections.abc import Sequence


class GlipError(Exception):
    """Base of all errors that glip raises on purpose."""


class PromptError(GlipError, ValueError):
    """A prompt that cannot be encoded: empty, spans outside it, a phrase that is too long."""


class ImageError(GlipError, OSError):
    """A picture that cannot be used: missing, unreadable, not an image, too large, NaN pixels."""


class ConfigError(GlipError, ValueError):
    """An option or configuration value that is unknown or out of range."""


class CheckpointError(GlipError, RuntimeError):
    """A weights file that is missing, damaged, unsafe, or made for another model."""


class NotFiniteError(CheckpointError):
    """A model gives NaN or infinity."""


class DeviceError(GlipError, RuntimeError):
    """A device or number format that this machine cannot run."""


class DataError(GlipError, ValueError):
    """An annotation file that cannot be used: unreadable, wrong ids, boxes without extent."""


class StorageError(GlipError, OSError):
    """Results that cannot be kept: the disk is full, a folder is in use or cannot be written."""


class ExportError(GlipError, RuntimeError):
    """A model that cannot be written as graphs or run from them, or a package that this needs."""


MOST_SHOWN = 200
"""Letters of a value in a message."""


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut where it gets long.

    Python writes no whole number of more than some thousands of digits, alone or in a list.
    """
    try:
        text = repr(value)
    except ValueError:
        return f"{type(value).__name__} with a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def listed(texts: Sequence[str], most: int, *, separator: str = ", ", of: str = "") -> str:
    """The first texts of many in a message: "a, b and 7 more", with what they are `of` behind."""
    more = f" and {len(texts) - most} more{of}" if len(texts) > most else ""
    return separator.join(texts[:most]) + more
