"""How many processors a runtime takes, and what it says of files it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import glip
from glip.errors import ConfigError, DeviceError, ExportError
from glip.runtime.manifest import Manifest
from glip.runtime.sessions import Graphs
from tests.toy import CONFIG

onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'glip[onnx]'")
MANIFEST = Manifest(CONFIG, "onnx", "float32", fingerprint="abc", version="0.2.0")


@pytest.mark.parametrize(
    ("asked", "said", "taken"),
    [(None, None, 0), (None, "3", 3), (None, "3,2", 3), (2, "3", 2), (None, "many", 0)],
)
def test_threads_are_those_asked_for_or_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, said: str | None, taken: int
) -> None:
    options: list[Any] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, given, providers: options.append(given)
    )
    Graphs(Path("nowhere"), MANIFEST, threads=asked)
    assert [one.intra_op_num_threads for one in options] == [taken] * 3  # 0: its own choice


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"threads": 0}, ConfigError, "threads must be at least 1, got 0"),
        ({"device": "npu"}, DeviceError, "'cpu' always works"),
        ({}, ExportError, "cannot be read"),
    ],
)
def test_what_cannot_be_opened_is_said(
    tmp_path: Path, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Graphs(tmp_path, MANIFEST, **given)


def test_threads_of_torch_are_chosen_otherwise(tiny_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"torch.set_num_threads\(2\), or OMP_NUM_THREADS=2"):
        glip.load(tiny_file, threads=2)
