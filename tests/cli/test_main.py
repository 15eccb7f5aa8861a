"""The `glip` command itself: which commands there are, and how one of them is begun."""

from __future__ import annotations

from importlib import metadata

import pytest

import glip
from glip.cli.main import main, parser_of, versions


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["frobnicate"],
        ["predict", "--image", "a.png", "--prompt", "cat", "--classes", "cat"],
        ["predict", "--image", "a.png", "--prompt", "cat", "--dtype", "int8"],
        ["predict", "--image", "a.png", "--prompt", "cat", "--threshold", "high"],
    ],
)
def test_misuse_shows_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: glip" in capsys.readouterr().err


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in ((["--help"], "predict"), (["predict", "--help"], "exit codes")):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0
        assert words in capsys.readouterr().out


def test_version_names_what_it_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    first, second, *others = capsys.readouterr().out.splitlines()
    assert (first, second.split()[0]) == (f"glip {glip.__version__}", "python")
    assert f"torch {metadata.version('torch')}" in others


def test_options_and_words_stand_in_any_order() -> None:
    args = parser_of("train").parse_intermixed_args(
        ["steps=3", "--data", "photos", "lr=1", "--resume", "ema=0.9"]
    )
    assert (args.data, args.overrides) == ("photos", ["steps=3", "lr=1", "ema=0.9"])


def test_packages_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glip.cli.main.PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] == "not installed"
