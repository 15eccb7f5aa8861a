"""`results.json`: the numbers of an evaluation and all that they depend on.

Knows nothing about how they are counted.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from glip.files import read_json, write_json
from glip.version import __version__

PACKAGES = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")


def read_results(output: str | Path) -> dict[str, Any]:
    """What `evaluate` wrote into a folder."""
    results: dict[str, Any] = read_json(Path(output) / "results.json")
    return results


def write_results(output: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`, whole or not at all."""
    write_json(output / "results.json", results)


def versions() -> dict[str, str]:
    """Of glip, Python and the packages that numbers may depend on."""
    found = {"glip": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def json_numbers(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}
