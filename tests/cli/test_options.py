"""Values of options that several commands have."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from glip.cli.main import main
from glip.cli.options import number_of_shots


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
