"""Options that are the arguments of a function of `glip.api`: its types, defaults and words.

So what a command and its function take has one home. Knows no function.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from glip.cli.options import Options, some_path

METAVARS = {
    "NAME": ("weights",),
    "N": ("limit", "batch_size", "workers", "actors", "every", "max_detections", "shots",
          "chunk", "steps", "epochs", "evaluations", "seed"),
    "SCORE": ("threshold",),
    "IOU": ("nms",),
    "SHARE": ("max_bad", "replay_share", "interpolate"),
    "PATH": ("data", "images", "val_images", "retention", "retention_images", "replay",
             "replay_images", "captions", "leave_out", "corrected"),
    "DIR": ("out", "output", "proposed"),
    "FILE": ("prompt",),
    "YAML": ("config", "config_file", "ontology"),
    "JSON": ("wordings",),
}  # fmt: skip
"""What stands for the value of an option in the help; the same in all commands."""


def add_options_of(
    parser: Options, function: Callable[..., Any], *names: str, **special: dict[str, Any]
) -> None:
    """Options for arguments of a function, which has their types, defaults and words.

    Args:
        parser: Gets the options.
        function: One of `glip.api`, with an argument a line below "Args:".
        names: Of the arguments, in the order of the help.
        special: By argument, what argparse is told besides, or in another way.
    """
    parameters = inspect.signature(function).parameters
    words = _said_of_arguments(function)
    # Not of what it returns, which may be known to type checkers only.
    hints = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    holder = SimpleNamespace(__annotations__=hints)
    kinds = typing.get_type_hints(holder, globalns=inspect.unwrap(function).__globals__)
    for name in names:
        parameter = parameters[name]
        settings = _settings_of(kinds[name], parameter.default)
        settings["help"] = said = words.get(name, "")  # python -OO leaves no docstrings
        default = settings.get("default")
        if default not in (None, ()) and "default" not in said:
            settings["help"] += " (default: %(default)s)"
        if not {"choices", "action"} & settings.keys():
            shown = (metavar for metavar, own in METAVARS.items() if name in own)
            settings["metavar"] = next(shown, name.upper())
        settings |= special.get(name, {})
        flag = f"--{name.replace('_', '-')}"
        if settings.get("action") == "store_false":
            parser.add_argument(f"--no-{flag[2:]}", dest=name, **settings)
        else:
            aliases = ["--output"] if name == "out" else []
            parser.add_argument(flag, *aliases, dest=name, **settings)


def options_of(args: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """What a command line gives to the arguments of a function."""
    given = vars(args)
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def _settings_of(kind: Any, default: Any) -> dict[str, Any]:
    """What argparse needs to know of a type and a default."""
    settings: dict[str, Any] = {"default": default}
    if default is inspect.Parameter.empty:
        settings = {"required": True}
    elif isinstance(default, bool):
        return {"action": "store_false" if default else "store_true"}
    kinds = [one for one in typing.get_args(kind) or (kind,) if one is not type(None)]
    if typing.get_origin(kind) is Literal:
        return {**settings, "choices": typing.get_args(kind)}
    for one in kinds:
        if typing.get_origin(one) is Literal:
            return {**settings, "choices": typing.get_args(one)}
        if typing.get_origin(one) is Sequence or typing.get_origin(kind) is Sequence:
            settings["nargs"] = "+"
    read = [one for one in kinds if one in (int, float)]
    read += [some_path] if os.PathLike in _parts(kind) else []
    return {**settings, "type": read[0]} if read else settings


def _parts(kind: Any) -> Iterator[Any]:
    """A type and all types that it is made of, without what is in their brackets."""
    yield typing.get_origin(kind) or kind
    for one in typing.get_args(kind):
        yield from _parts(one)


def _said_of_arguments(function: Callable[..., Any]) -> dict[str, str]:
    """Argument -> what the docstring says of it, as the help of a command has it."""
    text = inspect.cleandoc(function.__doc__ or "").partition("Args:\n")[2]
    text = re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0]
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w|\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        name: " ".join(words.split()).removesuffix(".").replace("%", "%%")
        for name, words in entries
    }
