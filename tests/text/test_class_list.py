"""Names of classes as people write them down."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.errors import ConfigError
from glip.text.class_list import class_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("person,stop sign", ["person", "stop sign"]),
        (" a  cat ,dog", ["a cat", "dog"]),
        ("cat. cup.", ["cat", "cup"]),
        ("cat.", ["cat"]),
        ("cat, dog.", ["cat", "dog"]),
        ("t. rex, dog", ["t. rex", "dog"]),
        ("st. bernard", ["st. bernard"]),
    ],
)
def test_names_stand_between_commas_or_periods(text: str, names: list[str]) -> None:
    assert class_names(text) == names


@pytest.mark.parametrize("text", ["", ",", "cat,,dog", "cat,", ". ."])
def test_no_name_is_empty(text: str) -> None:
    with pytest.raises(ConfigError, match="has an empty name between"):
        class_names(text)


def test_a_file_has_a_name_a_line(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\ufeffcat, grey\n  # a remark\n\n two  words \n", encoding="utf-8")
    assert class_names(str(file)) == ["cat, grey", "two words"]
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"names.txt cannot be read"):
        class_names(str(file))


def test_a_list_stays_as_it_is() -> None:
    assert class_names(("cat, grey", "dog")) == ["cat, grey", "dog"]
