"""The words of `glip track`."""

from __future__ import annotations

import argparse

import pytest

from glip.choices import TrackFormat
from glip.cli.main import main, parser_of
from glip.cli.options import words_of


def test_formats_have_commas_between_them() -> None:
    track_formats = words_of(TrackFormat)
    assert track_formats("mp4, cvat") == ["mp4", "cvat"]
    with pytest.raises(argparse.ArgumentTypeError, match="'avi' is not one of mp4, jsonl, mot"):
        track_formats("avi")


def test_something_is_to_be_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["track", "clip.mp4", "--out", "out"])
    assert "--prompt" in capsys.readouterr().err
    args = parser_of("track").parse_args(["0", "--prompt", "dog", "--out", "out"])
    assert (args.clip, args.every, args.low) == ("0", 1, 0.1)
