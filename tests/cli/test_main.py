"""The `glip` command itself: which commands there are, and how one of them is begun."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

import glip
from glip import processors
from glip.cli.main import main, parser_of, versions
from glip.processors import THREADS


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


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        (["predict", "--image", "none.png", "--prompt", "cat"], "8"),
        (["serve", "--weights", "none.safetensors", "--processes", "4", "--port", "0"], "2"),
    ],
)
def test_commands_start_as_many_threads_as_a_container_may_use(
    words: list[str], threads: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # nothing of that name lies there, so the command soon ends
    monkeypatch.setattr(processors, "_bound", lambda: 64)
    monkeypatch.setattr(processors, "usable", lambda: 8)
    monkeypatch.setenv(THREADS, "1")  # so that the test takes back what it sets
    monkeypatch.delenv(THREADS)
    assert main(words) != 0
    assert os.environ[THREADS] == threads


@pytest.mark.parametrize(
    "words",
    [
        ["label", "--images", "", "--classes", "cat", "--out", "labelled"],
        ["label", "--images", "photos", "--classes", "cat", "--out", ""],
        ["ground", "--captions", "", "--out", "pseudo"],
        ["evaluate", "--data", "set", "--output", ""],
        ["predict", "photo.jpg", "cat.", "--output", ""],
        ["doctor", ""],
        ["samples", ""],
    ],
)
def test_an_empty_path_is_not_the_working_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "an empty path; '.' is the working folder" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
