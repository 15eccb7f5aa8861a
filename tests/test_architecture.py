"""The house: imports go down its floors, nothing goes in a circle, each module has its tests.

The order of the floors stands in docs/architecture.md and nowhere else. An import inside a function
counts as any other; one under TYPE_CHECKING does not.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "glip"
ROOF = {"glip", "glip.__main__"}  # what a user imports and runs: opens doors, on request only


def floors() -> dict[str, int]:
    """The floor of each room, lowest 0."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    plan = text.split("<!-- floors -->", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    return {room: floor for floor, line in enumerate(plan.splitlines()) for room in line.split()}


FLOORS = floors()


def modules() -> dict[str, Path]:
    """All files of the package by their dotted names."""
    return {
        ".".join(("glip", *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in HOUSE.rglob("*.py")
    }


MODULES = modules()


def room_of(module: str) -> str:
    """The room that a module stands in: the longest that fits."""
    place = module.removeprefix("glip.").replace(".", "/")
    fitting = [room for room in FLOORS if place == room or place.startswith(room + "/")]
    return max(fitting, key=len, default=place.split("/")[0])


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _statements(other)
        else:
            yield child
            yield from _statements(child)


def imports(source: str, known: Mapping[str, object]) -> set[str]:
    """The modules among `known` that a file imports, wherever in it."""
    names: set[str] = set()
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        while name and name not in known:
            name = name.rpartition(".")[0]
        found |= {name} - {""}
    return found


GRAPH = {
    module: imports(path.read_text(encoding="utf-8"), MODULES) - {module}
    for module, path in MODULES.items()
}


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle of a graph, first and last the same; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_files_do_not_import_each_other_in_a_circle() -> None:
    assert not circle(GRAPH)


def test_rooms_do_not_need_each_other() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        if module not in ROOF:
            known = {room_of(other) for other in imported - ROOF}
            rooms.setdefault(room_of(module), set()).update(known - {room_of(module)})
    assert not circle(rooms)


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(module) for module in MODULES if module not in ROOF}
    assert rooms == set(FLOORS), "docs/architecture.md says on which floor each room is"


def test_the_drawing_shows_imports_that_go_down() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = plan.split("```mermaid\n", 1)[1].split("```", 1)[0]
    aliases = dict(re.findall(r"(\w+)\[([\w/]+)\]", drawing))
    for line in re.sub(r"\[[\w/]+\]", "", drawing).splitlines()[1:]:
        row = [[aliases.get(name, name) for name in re.findall(r"\w+", part)]
               for part in line.split("-->")]  # fmt: skip
        for above, below in itertools.pairwise(row):
            for one, other in itertools.product(above, below):
                assert FLOORS[one] > FLOORS[other], f"{one} stands below {other}"
                assert any(
                    room_of(module) == one and other in map(room_of, GRAPH[module])
                    for module in MODULES
                ), f"{one} does not import {other}"


def test_imports_go_down() -> None:
    climbs = [
        f"{module} imports {other}"
        for module, imported in sorted(GRAPH.items())
        for other in sorted(imported)
        if module not in ROOF
        and (other in ROOF or room_of(other) != room_of(module))
        and (other in ROOF or FLOORS[room_of(other)] >= FLOORS[room_of(module)])
    ]
    assert not climbs, "\n".join(["against docs/architecture.md:", *climbs])


def test_modules_have_their_tests() -> None:
    tested, missing = 0, []
    for module, path in sorted(MODULES.items()):
        if not path.name.startswith("__"):
            place = path.relative_to(HOUSE)
            if (ROOT / "tests" / place.parent / f"test_{place.name}").exists():
                tested += 1
            else:
                missing.append(module)
    share = tested / (tested + len(missing))
    assert share >= 0.95, f"{share:.0%} of the modules have a test file; without: {missing}"


def test_what_is_there_is_asked_of_os_path() -> None:
    """Those of `pathlib` raise for names that are too long and folders that may not be entered."""
    asked = re.compile(r"(?<!entry)(?<!member)\.(is_dir|is_file|exists)\(\)")
    found = {
        str(path.relative_to(HOUSE)): match.group()
        for path in MODULES.values()
        if (match := asked.search(path.read_text(encoding="utf-8")))
    }
    assert found == {}, "use os.path.isdir, os.path.isfile or os.path.exists"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import glip.a", {"glip.a"}),
        ("from glip.a import name", {"glip.a"}),
        ("from glip import a", {"glip.a"}),
        ("def f():\n    from glip.b.c import d", {"glip.b.c"}),
        ("if TYPE_CHECKING:\n    import glip.a\nelse:\n    import glip.b.c", {"glip.b.c"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import glip.a", set()),
        ("import torch\nfrom globals import x", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, expected: set[str]) -> None:
    assert imports(source, dict.fromkeys(["glip.a", "glip.b.c"])) == expected


def test_circles_are_found() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]})[0] in "abc"
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
