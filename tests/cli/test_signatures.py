"""Options that are the arguments of a function."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

import pytest

from glip.cli.signatures import add_options_of, options_of


def work(
    data: str,
    *,
    mode: Literal["fast", "slow"] = "fast",
    rate: float | None = None,
    steps: int = 1,
    lr: Sequence[float] = (),
    quick: bool = False,
    cache: bool = True,
) -> Unknown:  # type: ignore[name-defined]  # noqa: F821
    """Do it.

    Args:
        data: where it is.
        mode: how, 100 %.
        rate: by default that of
            the mode.
        steps: number.
        lr: rates to try.
        quick: not all of it.
        cache: off, all of it anew.
    Returns:
        Nothing.
    """


NAMES = ("data", "mode", "rate", "steps", "lr", "quick", "cache")


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_options_of(parser, work, *NAMES, rate={"metavar": "R"})
    return parser


def test_types_and_defaults_are_those_of_the_function(parser: argparse.ArgumentParser) -> None:
    args = parser.parse_args(["--data", "x"])
    assert options_of(args, work) == {
        "data": "x", "mode": "fast", "rate": None, "steps": 1, "lr": (), "quick": False,
        "cache": True,
    }  # fmt: skip
    words = "--data x --mode slow --rate 2 --steps 3 --lr 1 2 --quick --no-cache"
    assert list(options_of(parser.parse_args(words.split()), work).values()) == [
        "x", "slow", 2.0, 3, [1.0, 2.0], True, False,
    ]  # fmt: skip


def test_words_are_those_of_the_docstring(parser: argparse.ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    assert "--rate R by default that of the mode" in text
    assert "how, 100 % (default: fast)" in text and "number (default: 1)" in text
    assert "--no-cache off, all of it anew" in text


def test_options_are_there_without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "__doc__", None)  # python -OO
    parser = argparse.ArgumentParser()
    add_options_of(parser, work, *NAMES)
    assert options_of(parser.parse_args(["--data", "x"]), work)["steps"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --data"),
        (["--data", "x", "--mode", "odd"], "invalid choice: 'odd'"),
        (["--data", "x", "--steps", "1.5"], "invalid int value: '1.5'"),
    ],
)
def test_mistakes_are_refused(
    parser: argparse.ArgumentParser,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    assert message in capsys.readouterr().err
