"""`glip export`: what is written on the command line, and what is said of the result."""

from __future__ import annotations

import functools
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, NoReturn

import pytest

from glip import api
from glip.cli.export import size_hw
from glip.cli.main import main
from glip.errors import ExportError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the function was given."""
    seen: dict[str, Any] = {}

    @functools.wraps(api.export)
    def export(out: Any, **options: Any) -> api.Result:
        seen.update(options, out=out)
        return api.Result({"files": {"head.onnx": 3}}, "head.onnx  3 bytes", tmp_path / "nano")

    monkeypatch.setattr(api, "export", export)
    return seen


@pytest.mark.parametrize(
    ("text", "size"),
    [("320x480", (320, 480)), (" 32X64 ", (32, 64)), ("96×128", (96, 128))],
)
def test_a_size_is_height_and_width(text: str, size: tuple[int, int]) -> None:
    assert size_hw(text) == size


@pytest.mark.parametrize("text", ["", "320", "x32", "320x", "-32x32", "3.2x32", "32x32x3"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no size; write height x width in pixels"):
        size_hw(text)


def test_the_result_is_printed_and_how_to_run_it_said(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--weights", "mine", "--out", "nano", "--size", "96x128"]) == 0
    out, err = capsys.readouterr()
    place = str(tmp_path / "nano")
    assert out == "head.onnx  3 bytes\n"
    assert f"written: {place}; run it with glip.load({place!r}) or --weights {place}" in err
    assert (asked["weights"], str(asked["out"]), asked["size"]) == ("mine", "nano", (96, 128))
    assert asked["classes"] is None and asked["dtype"] == "float32"


def test_names_come_with_commas_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[list[str]] = []

    def export(*_: object, classes: list[str], **__: object) -> NoReturn:
        seen.append(classes)
        raise ExportError("seen")

    monkeypatch.setattr("glip.exporting.export.export", export)
    (tmp_path / "names.txt").write_text("t-shirt\n# no name\ncup\n")
    for words in ("red car, cat", str(tmp_path / "names.txt")):
        assert main(["export", "--out", str(tmp_path / "nano"), "--classes", words]) == 2
    assert seen == [["red car", "cat"], ["t-shirt", "cup"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "320"], "'320' is no size; write height x width"),
        (["--format", "tflite"], "invalid choice: 'tflite'"),
        (["--dtype", "int8"], "add --calibration DIR"),
        (["--task", "a", "--classes", "b"], "not allowed with"),
    ],
)
def test_bad_words_on_the_command_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["export", "--out", str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err
