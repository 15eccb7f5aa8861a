"""`glip serve`: a model behind an address, for programs, people and labelling tools."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glip.cli.options import add_dtype_option
from glip.cli.terminal import note
from glip.errors import ConfigError
from glip.files import read_text
from glip.serve.options import GPU_BATCH, LabelStudio, Limits, ServeOptions

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_VARIABLE = "GLIP_API_KEY"
LABEL_STUDIO_VARIABLE = "LABEL_STUDIO_API_KEY"
EPILOG = f"""\
environment:
  {KEY_VARIABLE}           what requests must show, see --api-key-file
  {LABEL_STUDIO_VARIABLE}   access token for --label-studio
"""
LIMITS = {
    "max_bytes": "of a request",
    "max_pixels": "of a picture, width times height",
    "max_pictures": "in a request",
    "max_names": "of a prompt",
    "max_letters": "of a prompt",
    "seconds": "for a request",
    "queue": "pictures that may wait; with more, requests are answered 429",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model_arguments(parser)
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a learned prompt for these weights, under the name that requests ask for; repeat",
    )
    parser.add_argument(
        "--host",
        default=ServeOptions.host,
        help="address to listen on; 0.0.0.0 is every one of this machine (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=ServeOptions.port, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=ServeOptions.processes,
        metavar="N",
        help="each with a model of its own, behind one port (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="pictures that go through the model together if they wait at the same time (default: "
        f"{GPU_BATCH} on a GPU, 1 on processors)",
    )
    parser.add_argument(
        "--access-log", action="store_true", help="a line on stdout for each request"
    )
    _add_door_arguments(parser)
    limits = parser.add_argument_group("limits")
    for limit in fields(Limits):
        name = f"--{limit.name.replace('_', '-')}"
        help = f"{LIMITS[limit.name]} (default: %(default)s)"
        kind: Callable[[str], Any] = float if limit.name == "seconds" else int
        limits.add_argument(name, type=kind, default=limit.default, metavar="N", help=help)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and where: `weights`, `device` and `dtype`."""
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="a weights file, a folder that was exported or holds a detector of transformers, or "
        "the name of a model such as glip_tiny; by default the model that ships with the package",
    )
    parser.add_argument(
        "--device",
        metavar="NAMES",
        help='such as "cpu" or "cuda:0,cuda:1", which processes take in turn; by default a GPU if '
        "there is one",
    )
    add_dtype_option(parser)


def _add_door_arguments(parser: argparse.ArgumentParser) -> None:
    doors = parser.add_argument_group("doors")
    doors.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"its first line is what requests must show; or set {KEY_VARIABLE}",
    )
    doors.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a web site whose scripts may use the server; repeat (default: none)",
    )
    doors.add_argument(
        "--urls",
        action="store_true",
        help="take pictures by their address, from the open internet only",
    )
    doors.add_argument(
        "--label-studio",
        metavar="URL",
        help="fetch the pictures of its projects from this Label Studio, such as "
        f"http://localhost:8080, with the access token in {LABEL_STUDIO_VARIABLE}",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until it is stopped; returns the exit code."""
    options = ServeOptions(
        tasks=_tasks(args.task),
        host=args.host,
        port=args.port,
        processes=args.processes,
        batch_size=args.batch_size,
        limits=Limits(**{limit.name: getattr(args, limit.name) for limit in fields(Limits)}),
        api_key=_api_key(args.api_key_file),
        origins=tuple(args.origin),
        urls=args.urls,
        label_studio=_label_studio(args.label_studio),
        access_log=args.access_log,
    )
    if options.api_key is None and options.host not in ("127.0.0.1", "localhost", "::1"):
        note(f"warning: anybody who reaches {options.host} may use this server; set {KEY_VARIABLE}")
    return start(replace(options, **model_options(args)))


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_model_arguments` has asked for, as fields of `ServeOptions`."""
    devices = tuple(name.strip() for name in (args.device or "").split(",") if name.strip())
    return {"weights": args.weights, "devices": devices, "dtype": args.dtype}


def start(options: ServeOptions, *, opened: Callable[[str], object] | None = None) -> int:
    """Serve until it is stopped.

    Args:
        options: Of the server.
        opened: Told the address once it listens.
    Raises:
        ConfigError: The packages of the extra "serve" are missing.
    """
    try:
        from glip.serve.run import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "glip":
            raise
        raise ConfigError(
            f"the server needs {error.name}, which is not installed: pip install 'glip[serve]'"
        ) from error

    def begun(url: str) -> None:
        note(f"glip serves at {url}")
        if opened is not None:
            opened(url)

    serve(options, begun=begun)
    return 0


def _tasks(given: list[str]) -> dict[str, str]:
    tasks: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise ConfigError(f"--task {text}: write it as NAME=FILE")
        if name in tasks:
            raise ConfigError(f"--task {name} is given twice")
        tasks[name] = file
    return tasks


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        lines = read_text(file).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file {file} cannot be read: {error}") from error
    return lines[0].strip()


def _label_studio(url: str | None) -> LabelStudio | None:
    if url is None:
        return None
    return LabelStudio(url.rstrip("/"), os.environ.get(LABEL_STUDIO_VARIABLE) or None)
