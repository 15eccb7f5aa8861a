"""The words of `glip track`."""

from __future__ import annotations

import argparse

import pytest

from glip import api
from glip.choices import TrackFormat
from glip.cli.main import main, parser_of
from glip.cli.options import words_of
from glip.cli.signatures import options_of
from glip.cli.track import run
from glip.errors import ConfigError


def test_formats_have_commas_between_them() -> None:
    track_formats = words_of(TrackFormat)
    assert track_formats("mp4, cvat") == ["mp4", "cvat"]
    with pytest.raises(argparse.ArgumentTypeError, match="'avi' is not one of mp4, jsonl, mot"):
        track_formats("avi")


def test_something_is_to_be_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "clip.mp4", "--out", "out"]) == 2
    assert "--prompt" in capsys.readouterr().err
    args = parser_of("track").parse_args(["0", "--prompt", "dog", "--out", "out"])
    assert (args.clip, args.every, args.low) == ("0", 1, 0.1)


@pytest.mark.parametrize("words", [["dog. cat."], ["--prompt", "dog. cat."]])
def test_the_prompt_needs_no_flag(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    args = parser_of("track").parse_intermixed_args(["0", *words, "--out", "out"])
    asked = []

    def track(clip: str, **options: object) -> None:
        asked.append((clip, options["prompt"]))
        raise ConfigError("seen")

    options = options_of(args, api.track)
    monkeypatch.setattr(api, "track", track)
    monkeypatch.setattr("glip.cli.track.options_of", lambda *_: options)
    with pytest.raises(ConfigError, match="seen"):
        run(args)
    assert asked == [("0", "dog. cat.")]


@pytest.mark.parametrize(
    ("option", "said"), [("--classes", "one of --prompt, --classes"), ("--prompt", "one prompt")]
)
def test_two_ways_are_refused(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "0", "dog", option, "cat", "--out", "out"]) == 2
    assert said in capsys.readouterr().err
