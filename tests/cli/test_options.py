"""Values of options that several commands have."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from glip.cli.main import main
from glip.cli.options import class_names, number_of_shots
from glip.errors import ConfigError


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


def test_shots_are_a_number_or_all() -> None:
    assert (number_of_shots("5"), number_of_shots("all")) == (5, None)
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(ArgumentTypeError, match="is no number of pictures"):
            number_of_shots(text)


@pytest.mark.parametrize("command", ["predict", "label", "evaluate"])
def test_a_shortlist_is_asked_for_alike_and_off_by_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "--shortlist N for hundreds of names" in words
    assert "approximate, it finds less (default: off)" in words
