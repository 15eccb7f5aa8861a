"""Settings from plain dictionaries and YAML: what is taken, what is refused, with which words."""

import ast
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import glip
from glip.config import ModelConfig
from glip.errors import ConfigError
from glip.evaluation.config import TaskOptions
from glip.pseudo.config import GroundingConfig
from glip.pseudo.filters import CaptionFilters
from glip.settings import (
    COMMAND_LINE,
    differences,
    from_dict,
    parse_yaml,
    quoted,
    read_config,
    to_yaml,
    within,
)
from glip.training.losses import Criterion
from glip.training.run_config import RunConfig
from glip.tuning.options import TuneOptions


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    on: bool = False
    pair: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    word: Literal["a", "b"] = "a"
    maybe: int | None = 3
    inner: Inner = field(default_factory=Inner)
    rest: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rate": 2}, {"rate": 2.0}),
        ({"on": True}, {"on": True}),
        ({"pair": [3, 4]}, {"pair": (3, 4)}),
        ({"many": [1, 2.5, 3]}, {"many": (1.0, 2.5, 3.0)}),
        ({"many": []}, {"many": ()}),
        ({"maybe": None}, {"maybe": None}),
        ({"inner": {"size": 5}}, {"inner": Inner(5)}),
        ({"inner": {}}, {"inner": Inner()}),
        ({"rest": {"any": [1, "b"]}}, {"rest": {"any": [1, "b"]}}),
    ],
)
def test_values_take_the_annotated_type(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert from_dict(Outer, {"name": "x", **values}) == Outer("x", **expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "y"}, r"^config: unknown key 'nam'; did you mean 'name'\?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: inner, many, maybe, name, on, pair"),
        ({7: 1}, "unknown key '7'"),
        ({"inner": {"siez": 1}}, r"^config: inner: unknown key 'siez'; did you mean 'size'\?"),
        ({"inner": {"size": "1"}}, r"^config: inner\.size: expected int, got '1'"),
        ({"inner": 5}, r"config: inner: expected a mapping, got 5"),
        ({"inner": {"size": True}}, "expected int, got True"),
        ({"inner": {"size": 1.0}}, r"expected int, got 1\.0"),
        ({"rate": True}, "expected float, got True"),
        ({"rate": "0.5"}, "expected float, got '0.5'"),
        ({"rate": None}, "expected float, got None"),
        ({"on": 1}, "expected bool, got 1"),
        ({"pair": [1]}, r"config: pair: expected 2 values, got \[1\]"),
        ({"pair": [1, 2, 3]}, "expected 2 values"),
        ({"pair": "12"}, "expected a list, got '12'"),
        ({"pair": [1, 2.5]}, r"expected int, got 2\.5"),
        ({"many": [1, "x"]}, "expected float, got 'x'"),
        ({"word": "c"}, r"config: word: 'c' is not one of \('a', 'b'\)"),
        ({"maybe": "x"}, "expected int, got 'x'"),
        ({"rest": [1]}, r"config: rest: expected a mapping, got \[1\]"),
        ({"pair": [10**5000]}, "pair: expected 2 values, got list with a number of thousands"),
        ({"pair": "1" * 900}, "pair: expected a list, got '1{196}\\.\\.\\.$"),
        ({10**5000: 1}, "unknown key 'int with a number of thousands of digits'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, {"name": "x", **values})


def test_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^some\.yaml: .*'name'"):
        from_dict(Outer, {"rate": 0.1}, where="some.yaml")


def test_config_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match="config: expected a mapping, got None"):
        from_dict(Outer, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "message"),
    [
        ({"least": 1}, (1, 1.5, None), (0, float("nan"), "1", True), "n must be at least 1, got"),
        ({"least": 0, "most": 1}, (0, 1, 0.5), (-0.1, 1.1), r"n must lie in \[0, 1\], got"),
        ({"least": 0, "below": 1}, (0, 0.99), (1, -1), r"n must lie in \[0, 1\), got"),
        ({"above": 0, "below": 1}, (0.5,), (0, 1), r"n must lie in \(0, 1\), got"),
        ({"above": 0}, (0.1,), (0, float("nan")), "n must be above 0, got"),
        ({"most": 3}, (3, -9), (4,), "n must be at most 3, got 4"),
        ({"most": 3}, (), (10**5000,), "n must be at most 3, got int with a number of thousands"),
        ({"least": 1, "whole": True}, (1, 7), (0, 1.0, True), "n must be a whole number from 1"),
        ({}, (1, 0.5), ("x", float("nan")), "n must be a number, got"),
    ],
)
def test_numbers_stay_within_bounds(
    bounds: dict[str, Any], good: tuple[Any, ...], bad: tuple[Any, ...], message: str
) -> None:
    for value in good:
        within("n", value, **bounds)
    for value in bad:
        with pytest.raises(ConfigError, match=message):
            within("n", value, **bounds)


def test_a_bound_can_say_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"got 0; leave it out for all$"):
        within("shots", 0, least=1, way_out="leave it out for all")


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_lies_over_its_base_and_overrides_over_all(tmp_path: Path) -> None:
    write(tmp_path, "name: base\nrate: 1e-4\nmany: [1, 2]\ninner: {size: 3}\n", "base.yaml")
    path = write(tmp_path, "base: base.yaml\nname: file\nmany+: [5]\n")
    read = read_config(Outer, path, ["inner.size=4", "maybe=null", "many.0=9"])
    assert read == Outer("file", rate=1e-4, many=(9.0, 2.0, 5.0), inner=Inner(4), maybe=None)
    assert read_config(Outer, write(tmp_path, to_yaml(read), "again.yaml")) == read


@pytest.mark.parametrize(
    ("text", "override", "blamed"),
    [
        ("name: x", "rate=fast", f"{COMMAND_LINE}: rate: expected float, got 'fast'"),
        ("name: x", "inner.siez=1", f"{COMMAND_LINE}: inner: unknown key 'siez'; did you mean"),
        ("name: x\nrate: fast", "inner.size=1", "FILE: rate: expected float, got 'fast'"),
        ("name: x\nrate: fast", "rate=slow", f"{COMMAND_LINE}: rate: expected float, got 'slow'"),
        ("rate: 1", "inner.size=2", "FILE: "),
        ("name: x", "rate", "override 'rate' is not of the form a.b=value"),
        ("name: x\nrate: 1", "rate.x.y=1", "'rate' has no parts"),
        ("name: x\nmany: [1]", "many.3=1", "'3' is not one of the 1 members, counted from 0"),
        ("name: x", "rate=[", "override 'rate=[' is no valid YAML"),
    ],
)
def test_a_fault_is_blamed_on_who_wrote_it(
    tmp_path: Path, text: str, override: str, blamed: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(Outer, path, [override])
    assert blamed.replace("FILE", str(path)) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected keys and values"),
        ("a: [", "no valid YAML"),
        ("a: 2020-02-31", "no valid YAML"),
        ("base: run.yaml", "is its own base"),
        ("base: nowhere.yaml", "cannot read"),
        ("name: x\nmany+: [1]\npair+: 3", "unknown key 'pair\\+'; did you mean 'pair'"),
        ("a: &a [1]\n" + "[" * 5000, "no valid YAML"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(Outer, write(tmp_path, text))


@pytest.mark.parametrize("number", ["0x" + "f" * 300, "1" * 400, "9" * 5_000, "59:" * 300 + "59"])
def test_numbers_that_nothing_counts_up_to_are_refused(number: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml is no valid YAML: .*(1024 bits|4300)"):
        parse_yaml(f"a: [{number}]", "x.yaml")
    assert parse_yaml("a: 0xff", "x.yaml") == {"a": 255}


def test_few_lines_cannot_stand_for_billions_of_values() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    with pytest.raises(ConfigError, match=r"^things.yaml: aliases in it stand for 1e\+10 values"):
        parse_yaml(bomb, "things.yaml")
    with pytest.raises(ConfigError, match="stand for inf values"):
        parse_yaml("a: &a [*a]", "things.yaml")
    assert parse_yaml("a: &a [1]\nb: *a", "things.yaml") == {"a": [1], "b": [1]}


@pytest.mark.parametrize("text", ["a b/é 😀.json", "yes", '"\\', "a\u2028b\x7f", "\udcff.png", "1"])
def test_a_quoted_text_comes_back(text: str) -> None:
    assert parse_yaml(quoted(text), "here") == text


def test_differences_are_named_by_their_place() -> None:
    old = {"a": {"b": 1, "c": 2}, "list": [{"x": 1}], "gone": 1, "same": [1]}
    new = {"a": {"b": 2, "c": 2}, "list": [{"x": 2}], "new": "n" * 100, "same": [1]}
    first, second, third, fourth = differences(old, new)
    assert (first, second) == ("a.b was 1, is 2", "list.0.x was 1, is 2")
    assert third == "gone was 1, is absent"
    assert fourth.startswith('new was absent, is "nnn') and fourth.endswith("...")
    nested = {"cat": {"phrases": ["cat"]}}, {"dog": {"phrases": ["dog"]}}
    assert differences(*nested) == ["cat is gone", "dog is new"]


def keys(kind: type) -> set[str]:
    """All keys of a configuration and of those inside it."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        found.add(name)
        for part in (hint, *typing.get_args(hint)):
            if is_dataclass(part):
                found |= keys(part)
    return found


def test_every_key_of_a_configuration_has_a_reader() -> None:
    kinds = (RunConfig, ModelConfig, GroundingConfig, TuneOptions, TaskOptions)
    read: set[str] = set()
    for path in Path(glip.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__post_init__":
                node.body = []  # what is only checked is not read
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    # The weights of the losses and the filters of captions are run through by name.
    by_name = {f.name for kind in (Criterion, CaptionFilters) for f in fields(kind)}
    assert set.union(*map(keys, kinds)) - read - by_name == set()


def test_files_without_an_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read /dev/zero: it is no regular file"):
        read_config(Outer, "/dev/zero")
    monkeypatch.setattr("glip.settings.MOST_LETTERS", 100)
    (tmp_path / "long.yaml").write_text("# " + "x" * 200)
    with pytest.raises(ConfigError, match=r"long.yaml: it has more than 100 bytes"):
        read_config(Outer, tmp_path / "long.yaml")
