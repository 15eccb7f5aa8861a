"""Names of classes as people write them down: in a line, in a file or as a list."""

from __future__ import annotations

import os
from collections.abc import Sequence

from glip.errors import ConfigError
from glip.files import read_text
from glip.text.prompt import once_each


def class_names(given: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """The names in a text, between commas, periods or line ends; a list has them already.

    Args:
        given: "person,stop sign", "person. stop sign.", the name of a text file (.txt) with one
            name a line, whose empty lines and those that begin with "#" are left out, or a list.
    Returns:
        Those of a text once each, whatever the case.
    Raises:
        ConfigError: A name is empty, or the file cannot be read or holds none.
    """
    if not isinstance(given, (str, os.PathLike)):
        return list(given)
    text = os.fspath(given)
    if text.endswith(".txt"):
        try:
            lines = read_text(text).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--classes {text} cannot be read: {error}") from error
        names = [" ".join(line.split()) for line in lines if not line.lstrip().startswith("#")]
        if not (names := [name for name in names if name]):
            raise ConfigError(f"--classes {text} holds no name; write one a line")
        return once_each(names)
    separator, said = (".", "periods") if text.rstrip().endswith(".") else (",", "commas")
    parts = text.rstrip().removesuffix(".").split("," if "," in text else separator)
    names = [" ".join(part.split()) for part in parts]
    if not all(names):
        raise ConfigError(f"--classes {text!r} has an empty name between {said}")
    return once_each(names)
