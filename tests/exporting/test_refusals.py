"""What cannot be exported is said before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glip.detector import Detector
from glip.errors import ExportError, GlipError, PromptError
from glip.exporting.export import export

MANY = [f"thing number {number}" for number in range(200)]
REFUSED: list[tuple[dict[str, Any], type[GlipError], str]] = [
    ({"format": "coreml"}, ExportError, "'coreml' is not one of onnx, openvino"),
    ({"dtype": "int4"}, ExportError, "'int4' is not one of float32, float16, int8"),
    (
        {"size_hw": (96.0, 320)},
        ExportError,
        r"must be \(height, width\) in pixels, got \(96.0, 320\)",
    ),
    ({"size_hw": 320}, ExportError, r"must be \(height, width\) in pixels, got 320"),
    ({"size_hw": (100, 320)}, ExportError, "multiples of 32; the nearest is 96x320"),
    ({"dtype": "int8"}, ExportError, "int8 needs photos"),
    ({"classes": MANY}, PromptError, "200 names need"),
    ({"classes": []}, PromptError, "empty"),
    ({"classes": ["cat", "\U0001f600"]}, PromptError, "cannot read '\U0001f600'"),
]


@pytest.mark.parametrize(("options", "kind", "message"), REFUSED)
def test_bad_options(
    make_small: Callable[[], Detector],
    tmp_path: Path,
    options: dict[str, Any],
    kind: type[GlipError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        export(make_small(), tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(
    make_small: Callable[[], Detector], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="is no exported model; choose another name"):
        export(make_small(), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
