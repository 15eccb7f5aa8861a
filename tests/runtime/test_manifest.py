"""What an exported folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glip.errors import CheckpointError, ConfigError
from glip.runtime.manifest import FILE, Manifest, is_exported, read_manifest, write_manifest
from tests.toy import CONFIG


def a_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": CONFIG,
        "runtime": "onnx",
        "dtype": "float32",
        "fingerprint": "abc",
        "version": "0.2.0",
    }
    return Manifest(**{**values, **changes})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = a_manifest(size_hw=(96, 128), baked=True)
    for name in ("image_encoder.onnx", "head.onnx", "tokenizer.json", "words.prompt.safetensors"):
        (tmp_path / name).touch()
    assert not is_exported(tmp_path)
    write_manifest(tmp_path, manifest)
    assert is_exported(tmp_path) and read_manifest(tmp_path) == manifest
    (tmp_path / "head.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"head\.onnx is missing; export the model again"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "coreml"}, "'coreml' is not one of onnx, openvino"),
        ({"dtype": "int4"}, "'int4' is not one of"),
        ({"size_hw": (96, 100)}, "multiples of 32"),
        ({"format": 2}, "format 2, this version of glip reads 1"),
    ],
)
def test_what_it_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_manifest(**changes)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"runtime": "onnx"}), "[" * 100_000])
def test_damaged_files_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(CheckpointError, match=r"glip\.json cannot be read"):
        read_manifest(tmp_path)


def test_another_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no exported model"):
        read_manifest(tmp_path)
