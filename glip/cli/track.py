"""`glip track`: a clip and a prompt -> tracks, and what is said of them."""

from __future__ import annotations

import argparse

from glip import api
from glip.choices import TrackFormat
from glip.cli.options import formats_option
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, SOME_FAILED, note, progress_bar, written
from glip.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("clip", metavar="CLIP", help="a video file, or the number of a camera")
    parser.add_argument("text", metavar="TEXT", nargs="?", help='the prompt, "person. red car."')
    what = parser.add_mutually_exclusive_group()
    names = {
        "nargs": None,
        "metavar": "NAMES",
        "help": 'exact names with commas between them: "person,stop sign"; or a file, one a line',
    }
    text, file = {"metavar": "TEXT"}, {"metavar": "FILE"}
    add_options_of(
        what, api.track, "prompt", "classes", "task", prompt=text, classes=names, task=file
    )
    formats = formats_option(TrackFormat, "mp4,jsonl")
    add_options_of(parser, api.track, "out", "every", "limit", "format", format=formats)
    tracks = parser.add_argument_group("tracks")
    score, frames = {"metavar": "SCORE"}, {"metavar": "N"}
    add_options_of(tracks, api.track, "threshold", "low", "patience", low=score, patience=frames)
    model = parser.add_argument_group("model")
    add_options_of(
        model,
        api.track,
        *("weights", "nms", "max_detections", "aggregate", "exclusive", "device", "dtype"),
        *("batch_size", "workers"),
    )


def run(args: argparse.Namespace) -> int:
    """Track, and say what came of it; returns the exit code."""
    options = options_of(args, api.track)
    if args.text is not None:
        if args.prompt is not None:
            raise ConfigError(f"both {args.text!r} and --prompt {args.prompt!r}; give one prompt")
        options["prompt"] = args.text
    options["format"] = args.format or ("mp4", "jsonl")
    with progress_bar() as show:
        tracks = api.track(**options, progress=show)
    note(str(tracks))
    written(*tracks.files.values())
    if tracks.broken is not None:
        note(f"error: {tracks.broken}; the frames before are tracked")
        return SOME_FAILED
    return DONE
