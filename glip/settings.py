"""Settings as dataclasses: read strictly from YAML, laid over one another, bounded, compared.

A YAML file holds what differs from the defaults of its dataclass. It may name another file as its
`base`: mappings are merged, everything else is replaced. A list whose key ends in "+" (`sources+:`)
goes behind that of the base, and a mapping of numbers (`sources: {0: …}`) changes single members of
it or, with `null`, leaves them out. `a.b=value` on a command line goes over all files.

Every unknown key, value of another type and number out of bounds is refused with its place and the
way out. Knows nothing about what the settings are for.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from glip.errors import ConfigError, shown
from glip.files import read_text

BASE = "base"
NAME = "name"
"""What a text stands for where an `a.b=value` wants parts."""
COMMAND_LINE = "<command line>"
"""In place of a file, where an `a.b=value` is at fault."""
MOST_LETTERS = 10_000_000
"""Of a YAML file, in bytes: settings are short."""
MOST_VALUES = 1_000_000
"""Values of a YAML file with all its aliases written out: few lines can stand for billions."""
DEEPEST = 100
"""Brackets inside each other, in YAML."""
MOST_BITS = 1024
"""Of a whole number in YAML."""
LARGEST = 2.0**63
"""Below this all settings lie: counters of the libraries that get them end there."""
SHOWN = 80
"""Letters of a value in a message."""

Config = TypeVar("Config")


# bounds


def within(
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    whole: bool = False,
    required: bool = False,
    way_out: str = "",
) -> None:
    """Refuse a number that is out of bounds, or none; None stands for "not given" and may be.

    Args:
        name: Of the setting, as the user wrote it.
        value: What it was given.
        least, most, above, below: The bounds; the latter two are out of bounds themselves. No
            number reaches `LARGEST`, and so none is infinite.
        whole: Only whole numbers.
        required: Not None either.
        way_out: Ends the message, after a semicolon.
    Raises:
        ConfigError: `name must lie in [0, 1), got 1.0`.
    """
    if value is None and not required:
        return
    bounds = ((least, operator.ge), (most, operator.le), (above, operator.gt), (below, operator.lt))
    if isinstance(value, Integral if whole else Real) and not isinstance(value, bool):
        fits = (bound is None or holds(value, bound) for bound, holds in bounds)
        if value == value and abs(value) < LARGEST and all(fits):
            return
    rule = _rule(value, least, most, above, below, whole)
    raise ConfigError(f"{name} must {rule}, got {shown(value)}{f'; {way_out}' if way_out else ''}")


def _rule(
    value: float | None,
    least: float | None,
    most: float | None,
    above: float | None,
    below: float | None,
    whole: bool,
) -> str:
    """What `within` asks for that the value is not, behind "must"."""
    if isinstance(value, Real) and abs(value) >= LARGEST and most is None and below is None:
        return "be less than 2**63"
    low, high = least if least is not None else above, most if most is not None else below
    if low is not None and high is not None:
        edges = "[" if least is not None else "(", "]" if most is not None else ")"
        return f"lie in {edges[0]}{_number(low)}, {_number(high)}{edges[1]}"
    if least is not None:
        return (
            f"be a whole number from {_number(least)}" if whole else f"be at least {_number(least)}"
        )
    if above is not None:
        return f"be above {_number(above)}"
    if most is not None:
        return f"be at most {_number(most)}"
    return "be a whole number" if whole else "be a number"


def _number(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def nearest(word: object, known: Iterable[str], *, else_: str | None = None, most: int = 1) -> str:
    """The end of a message about an unknown word: "did you mean 'lr'?".

    Args:
        word: What was written.
        known: What could have been.
        else_: Where nothing is like it; by default all that are known.
        most: How many words are named.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(word), known, n=most)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known: {', '.join(known)}" if else_ is None else else_


def one_of(name: str, value: object, choices: object) -> None:
    """Refuse a word that is none of a `Literal`'s; None stands for "not given" and may be.

    Args:
        name: Of the setting, as the user wrote it.
        value: What it was given.
        choices: The `Literal`.
    Raises:
        ConfigError: `name must be one of ('mean', 'max'), got 'sum'`.
    """
    words = typing.get_args(choices)
    if value is not None and value not in words:
        raise ConfigError(f"{name} must be one of {words}, got {shown(value)}")


# dataclasses


def from_dict(kind: type[Config], values: Mapping[str, Any], *, where: str = "config") -> Config:
    """Build a dataclass from plain dictionaries, strictly.

    Args:
        kind: The dataclass; nested dataclasses are built from nested dictionaries.
        values: As `dataclasses.asdict` or a YAML file gives them.
        where: Begins error messages, such as the name of the file.
    Raises:
        ConfigError: An unknown key (with the nearest known one) or a value of another type.
    """
    return _build(kind, values, where, "")


def _build(kind: type[Config], values: Mapping[str, Any], where: str, inside: str) -> Config:
    place = f"{where}: {inside}" if inside else where
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: expected a mapping, got {shown(values)}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            named = key if isinstance(key, str) else shown(key)
            raise ConfigError(f"{place}: unknown key '{named}'; {nearest(named, known)}")
        below = f"{inside}.{key}" if inside else str(key)
        arguments[key] = _coerce(hints[key], value, where, below)
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{place}: {error}") from error


def _coerce(hint: Any, value: Any, where: str, inside: str) -> Any:
    """`value` as the annotated type: exact, but for the number and sequence types YAML mixes up."""
    place = f"{where}: {inside}"
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where, inside)
    if origin in (Union, types.UnionType):
        return _one_of(typing.get_args(hint), value, where, inside)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(f"{place}: {shown(value)} is not one of {typing.get_args(hint)}")
        return value
    if origin is tuple:
        return _tuple(typing.get_args(hint), value, where, inside)
    if origin is not None:  # Mapping[str, Any]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: expected a mapping, got {shown(value)}")
        return dict(value)
    return value if hint is Any else _plain_value(hint, value, place)


def _one_of(options: Sequence[Any], value: Any, where: str, inside: str) -> Any:
    """As the first of several types, or as a later one if the value is of that."""
    if value is None and type(None) in options:
        return None
    first, *others = (option for option in options if option is not type(None))
    fits = (kind for kind in others if isinstance(value, typing.get_origin(kind) or kind))
    return _coerce(next(fits, first), value, where, inside)


def _plain_value(kind: type, value: Any, place: str) -> Any:
    """A number, a text or a truth value; whole numbers are taken for others, True for none."""
    is_bool = isinstance(value, bool)
    if kind is float and isinstance(value, int) and not is_bool:
        try:
            return float(value)
        except OverflowError as error:  # of hundreds of digits
            raise ConfigError(f"{place}: the number is too large") from error
    if is_bool != (kind is bool) or not isinstance(value, kind):
        raise ConfigError(f"{place}: expected {kind.__name__}, got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place}: expected a finite number, got {value}")
    return value


def _tuple(kinds: Sequence[Any], value: Any, where: str, inside: str) -> tuple[Any, ...]:
    """A list as a tuple of these types, of which a `...` repeats the first."""
    place = f"{where}: {inside}"
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{place}: expected a list, got {shown(value)}")
    each = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else list(kinds)
    if len(each) != len(value):
        raise ConfigError(f"{place}: expected {len(each)} values, got {shown(value)}")
    return tuple(_coerce(kind, one, where, inside) for kind, one in zip(each, value, strict=True))


# files and command lines


def read_config(
    kind: type[Config],
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    *,
    under: Mapping[str, Any] | None = None,
) -> Config:
    """Read any settings that are a dataclass.

    Args:
        kind: The dataclass.
        path: YAML file; None for nothing but defaults and overrides.
        overrides: `a.b=value`, the value as in YAML; a number in the name counts members of a list
            (`data.sources.0.annotations=train.json`).
        under: Values that the file lies over.
    Raises:
        ConfigError: An unreadable file, an unknown key (with the nearest known one), a wrong value.
            The message blames the file, or `COMMAND_LINE` where an override is at fault.
    """
    file = "options" if path is None else os.fspath(path)

    def build(overrides: Sequence[str], where: str) -> Config:
        values = laid_over(under or {}, {} if path is None else _read_file(Path(path), ()))
        for override in overrides:
            _override(values, override)
        try:
            return from_dict(kind, values, where=where)
        except ConfigError as error:  # of values that do not go together: it knows no file
            if path is None or where != file or file in str(error):
                raise
            raise ConfigError(f"{file}: {error}") from error

    try:
        return build(overrides, file)
    except ConfigError as fault:
        if not overrides or str(fault) == _fault(lambda: build((), file)):
            raise
    return build(overrides, COMMAND_LINE)


def _fault(attempt: Callable[[], object]) -> str | None:
    """What an attempt is refused with."""
    try:
        attempt()
    except ConfigError as error:
        return str(error)
    return None


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of one YAML file, without its base.

    Raises:
        ConfigError: It cannot be read, is too long or no YAML, or stands for more than
            `MOST_VALUES` values.
    """
    try:
        text = read_text(path, MOST_LETTERS)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_yaml(text, os.fspath(path))


def parse_yaml(text: str, where: str) -> Any:
    """Content of a text in YAML.

    Raises:
        ConfigError: As `read_yaml`; `where` begins the message.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        count = 0 if node is None else _written_out(node, {})
        if count <= MOST_VALUES:
            return None if node is None else loader.construct_document(node)
    except RecursionError as error:
        raise ConfigError(f"{where} is no valid YAML: too many levels inside each other") from error
    except Exception as error:  # a date of the 31st of February, a time that is none, 0x: anything
        raise ConfigError(f"{where} is no valid YAML: {error}") from error
    raise ConfigError(
        f"{where}: aliases in it stand for {count:.0e} values; write out what it needs"
    )


class Shallow:
    """For loaders of YAML: brackets inside brackets end before they take seconds."""

    flow_level: int

    def fetch_flow_collection_start(self, kind: Any) -> None:
        """One more bracket."""
        if self.flow_level >= DEEPEST:
            raise yaml.YAMLError("too many levels inside each other")
        super().fetch_flow_collection_start(kind)  # type: ignore[misc]


class PlainLoader(Shallow, yaml.SafeLoader):
    """YAML 1.1, as PyYAML reads it."""


class _Loader(PlainLoader):
    """Reads 1e-4 as a number, as YAML 1.2 does; the older YAML of this library wants 1.0e-4.

    Whole numbers that no float can hold are refused: nothing here counts so far.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """One whole number."""
        number = super().construct_yaml_int(node)
        if number.bit_length() > MOST_BITS:
            raise yaml.YAMLError(f"a whole number of more than {MOST_BITS} bits")
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """Values that a node stands for, aliases written out; infinitely many if it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        mapping = isinstance(node, yaml.MappingNode)
        members = [one for pair in node.value for one in pair] if mapping else node.value
        known[id(node)] = 1 + sum(_written_out(one, known) for one in members)
    return known[id(node)]


def _read_file(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A file laid over its base."""
    real = Path(os.path.realpath(path))
    if real in above:
        raise ConfigError(f"{path}: is its own base")
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {_shown(values)}")
    base = values.pop(BASE, None)
    if base is None:
        return values
    return laid_over(_read_file(real.parent / str(base), (*above, real)), values)


def laid_over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values over those of a base, as the head of this module says."""
    result = dict(base)
    for key, value in values.items():
        if str(key).endswith("+") and isinstance(value, list):
            result[key[:-1]] = [*(result.get(key[:-1]) or ()), *value]
            continue
        under = result.get(key)
        if isinstance(under, list) and isinstance(value, Mapping):
            under = dict(enumerate(under))
            if not set(value) <= set(under):
                raise ConfigError(
                    f"{key}: {list(value)} are not numbers of its {len(under)} members, which "
                    "count from 0"
                )
            members = laid_over(under, value).values()
            result[key] = [member for member in members if member is not None]
        elif isinstance(under, Mapping) and isinstance(value, Mapping):
            result[key] = laid_over(under, value)
        else:
            result[key] = value
    return result


def _override(values: dict[str, Any], override: str) -> None:
    """Put the value of `a.b=value` in its place."""
    name, sign, text = override.partition("=")
    if not sign or not name:
        raise ConfigError(f"override {override!r} is not of the form a.b=value")
    value = parse_yaml(text, f"override {override!r}")
    place: Any = values
    parts = name.split(".")
    for parent, child in pairwise(parts):
        if isinstance(place, list):
            place = place[_row(place, parent, override)]
        else:
            if place.get(parent) is None:
                place[parent] = [{}] if child == "0" else {}
            elif isinstance(place[parent], str):  # a name where there may be more
                place[parent] = {NAME: place[parent]}
            place = place[parent]
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"override {override!r}: {parent!r} has no parts")
    last = parts[-1]
    if isinstance(place, list):
        place[_row(place, last, override)] = value
    else:
        place[last] = value


def _row(members: list[Any], name: str, override: str) -> int:
    if not name.isdecimal() or int(name) >= len(members):
        raise ConfigError(
            f"override {override!r}: {name!r} is not one of the {len(members)} members, "
            "counted from 0"
        )
    return int(name)


def quoted(text: str) -> str:
    """A text as the value of an `a.b=value`, whatever YAML would take it for."""
    plain = set(map(chr, range(32, 127))) - set('"\\')
    letters = (letter if letter in plain else f"\\U{ord(letter):08x}" for letter in text)
    return f'"{"".join(letters)}"'


def to_yaml(config: Any) -> str:
    """All values of a dataclass, defaults too, as `read_config` reads them."""
    values = plain(dataclasses.asdict(config))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def plain(value: Any) -> Any:
    """Tuples as lists, which YAML and JSON have."""
    if isinstance(value, Mapping):
        return {key: plain(member) for key, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, (list, tuple)) else value


# comparison


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two nested settings, each by its dotted name: "a.b was 1, is 2"; of
    those that are nested themselves and on one side only, "a.c is new" or "a.c is gone".

    Args:
        old, new: Mappings, lists and values, as JSON and YAML give them.
        name: Of what they are, for what lies below.
    """
    inner = [_members(value) for value in (old, new)]
    if all(isinstance(value, dict) for value in inner):
        before, now = inner
        return [
            difference
            for key in dict.fromkeys([*before, *now])
            for difference in differences(
                before.get(key, _ABSENT),
                now.get(key, _ABSENT),
                f"{name}.{key}" if name else str(key),
            )
        ]
    if old == new:
        return []
    if old is _ABSENT and isinstance(new, dict):
        return [f"{name} is new"]
    if new is _ABSENT and isinstance(old, dict):
        return [f"{name} is gone"]
    return [f"{name} was {_shown(old)}, is {_shown(new)}"]


_ABSENT = object()


def _members(value: Any) -> Any:
    """A list of mappings by number, so that what differs in one of them can be named."""
    nested = isinstance(value, list) and any(isinstance(member, dict) for member in value)
    return dict(enumerate(value)) if nested else value


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        return shown(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
