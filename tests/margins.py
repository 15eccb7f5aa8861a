"""What is learned is checked with room to spare: figures against their bounds, over several seeds.

A test of something learned is marked so and asks for the fixtures `seed` and `learned`. It runs
for one seed; with `pytest -m learned --seeds 5` for five, and the worst of each figure is printed
beside its bound: on another processor, or with `ATEN_CPU_CAPABILITY=default` in front, sums are
rounded in another order, and a run ends elsewhere. A bound holds if the worst figure stays well
away from it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Learned = Callable[..., None]
_worst: dict[str, tuple[float, str]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=1, help="for the tests of something learned")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames and metafunc.definition.get_closest_marker("learned"):
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture
def learned(request: pytest.FixtureRequest) -> Learned:
    """Asserts that a figure lies above `least` or below `most`, and remembers the worst one."""
    test = request.node.originalname

    def check(name: str, value: float, *, least: float | None = None, most: float | None = None):
        name = f"{test}: {name}"
        worse = min if most is None else max
        so_far = _worst.get(name, (value, ""))[0]
        bound = f"at least {least}" if most is None else f"at most {most}"
        _worst[name] = worse(so_far, value), bound
        assert (least is None or value >= least) and (most is None or value <= most), (
            f"{name} is {value:.3f}, {bound} is asked"
        )

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("--seeds") > 1 and _worst:
        terminalreporter.section("worst of each learned figure")
        for name, (value, bound) in sorted(_worst.items()):
            terminalreporter.write_line(f"{value:8.3f}  ({bound})  {name}")
