"""What an exported folder says of itself."""

from pathlib import Path

import pytest

from glip.errors import ConfigError
from glip.runtime.manifest import FORMAT, HEAD, Manifest
from tests.toy import TINY

VALUES = {"model": TINY, "runtime": "onnx", "dtype": "float32", "fingerprint": "f", "version": "1"}


@pytest.mark.parametrize(("runtime", "suffix"), [("onnx", ".onnx"), ("openvino", ".xml")])
def test_graphs_have_the_suffix_of_what_runs_them(runtime, suffix):
    manifest = Manifest(**{**VALUES, "runtime": runtime}, size_hw=(64, 96))
    assert manifest.graph(Path("out"), HEAD) == Path("out") / f"head{suffix}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1}, f"this version of glip reads {FORMAT}"),
        ({"runtime": "tflite"}, "runtime 'tflite' is not one of onnx"),
        ({"dtype": "float8"}, "dtype 'float8' is not one of"),
        ({"size_hw": (64, 65)}, "must be multiples of 32"),
        ({"size_hw": (0, 64)}, "must be multiples of 32"),
    ],
)
def test_what_cannot_be_run_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Manifest(**{**VALUES, **change})
