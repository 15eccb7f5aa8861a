"""Weights, learned prompts and exported folders that are damaged, lie, or are something else."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glip.checkpoint import assemble, naming, read, read_config
from glip.detector import load
from glip.model_files import find_model, threshold_of
from glip.runtime.manifest import read_manifest
from glip.task_prompt import TaskPrompt, read_prompt, save_prompt
from glip.text.prompt import Prompt
from glip.zero_shot.folder import kind_of
from tests.fuzz.border import refusal
from tests.fuzz.odd import KINDS, VALUES, damaged, places, spoiled


def with_header(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with another header."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def with_odd_value(content: bytes, key: str, value: Any) -> Iterator[bytes]:
    """Safetensors files with a value in each place, in turn, of some JSON in the metadata."""
    size = struct.unpack("<Q", content[:8])[0]
    own = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][key])
    for place in places(own):
        odd = json.dumps(spoiled(own, place, value))
        yield with_header(
            content, lambda header, odd=odd: header["__metadata__"].update({key: odd})
        )


def use(path: Path) -> None:
    """All that is done with weights before a picture comes."""
    read_config(path)
    with naming(path):
        assemble(read(path))


def check(path: Path) -> None:
    refusal(lambda: use(path), path)
    refusal(lambda: threshold_of(find_model(path)), path)


@pytest.mark.slow
def test_damaged_weights(tiny_file: Path, tmp_path: Path) -> None:
    content = tiny_file.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    path = tmp_path / "x.safetensors"
    for head in damaged(content[: size + 8], 150):
        path.write_bytes(head + content[size + 8 :])
        check(path)
    for broken in damaged(content, 20):
        path.write_bytes(broken)
        check(path)


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_odd_values_in_the_config(value: Any, tiny_file: Path, tmp_path: Path) -> None:
    """Each value in each place of the config; only what is read anew is built."""
    path = tmp_path / "x.safetensors"
    for spoiled_file in with_odd_value(tiny_file.read_bytes(), "glip", value):
        path.write_bytes(spoiled_file)
        check(path)


HEADERS = {
    "no config": lambda header: header["__metadata__"].pop("glip"),
    "deep config": lambda header: header["__metadata__"].update(glip="[" * 100_000),
    "many digits": lambda header: header["__metadata__"].update(glip="1" * 5_000),
    "not json": lambda header: header["__metadata__"].update(glip="{"),
    "a list": lambda header: header["__metadata__"].update(glip="[]"),
    "null": lambda header: header["__metadata__"].update(glip="null"),
    "tokenizer": lambda header: header["__metadata__"].update(tokenizer="{}"),
    "deep tokenizer": lambda header: header["__metadata__"].update(tokenizer="[" * 100_000),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie(name: str, tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(tiny_file.read_bytes(), HEADERS[name]))
    check(path)
    assert refusal(lambda: load(path, device="cpu"), path, "x.safetensors")


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F64", "F8_E4M3", "C64", "U8", "??"])
def test_tensors_of_another_type(dtype: str, tiny_file: Path, tmp_path: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        key = next(key for key in header if key.startswith("head.") and key.endswith("weight"))
        header[key]["dtype"] = dtype

    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(tiny_file.read_bytes(), change))
    check(path)


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code ran')",))


def checkpoints() -> dict[str, Any]:
    """Things that `torch.save` writes and that are no weights."""
    return {
        "list": [1, 2], "nothing": None, "word": "x", "empty": {}, "model of words": {"model": "x"},
        "model is a list": {"model": [torch.zeros(1)]}, "numbers": {"model": {"a": 1}},
        "keys are numbers": {1: torch.zeros(1)}, "code": {"model": {"a": Evil()}},
        "integers": {"model": {"module.backbone.body.x": torch.zeros(2, dtype=torch.int64)}},
        "complex": {"model": {"module.backbone.body.x": torch.zeros(2, dtype=torch.complex64)}},
        "sparse": {"model": {"module.backbone.body.x": torch.eye(3).to_sparse()}},
        "expanded": {"model": {"module.backbone.body.x": torch.zeros(1).expand(10**9)}},
        "deep": {"model": {"a": [[[[[[[[[[]]]]]]]]]]}},
        "lone": {"model": {"\ud800": torch.zeros(1)}},
    }  # fmt: skip


@pytest.mark.parametrize("name", checkpoints())
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_that_are_none(name: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(checkpoints()[name], path, _use_new_zipfile_serialization=zipped)
    assert refusal(lambda: read(path), path)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints(
    zipped: bool, tiny_official_state: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    small = dict(list(tiny_official_state.items())[:20])
    torch.save({"model": small}, path, _use_new_zipfile_serialization=zipped)
    for content in damaged(path.read_bytes(), 300):
        path.write_bytes(content)
        refusal(lambda: read(path), path)


PICKLES = {
    "endless list": b"\x80\x02]" + b"(" * 100_000,
    "deep tuples": b"\x80\x02N" + b"\x85" * 200_000 + b".",
    "long integer": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "huge text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    "huge memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytearray": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "many copies": b"\x80\x02]" + b"q\x00h\x00" * 50_000 + b".",
    "empty": pickle.dumps({}),
    "protocol 0": pickle.dumps({"a": 1}, protocol=0),
    "nothing behind": b"\x80\x02",
    "magic only": b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_by_hand(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(PICKLES[name] + b"\0" * 9)
    assert refusal(lambda: read(path), path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", PICKLES[name])
        archive.writestr("x/version", "3")
    assert refusal(lambda: read(path), path)


@pytest.mark.parametrize("become", KINDS)
def test_what_is_no_model(become: Callable[[Path], None], tmp_path: Path) -> None:
    for name, action in (
        ("x.safetensors", lambda path: read(path)),
        ("x.pth", lambda path: read(path)),
        ("a", lambda path: read_config(path)),
        ("b", lambda path: load(path, device="cpu")),
        ("words.prompt.safetensors", lambda path: read_prompt(path)),
    ):
        become(tmp_path / name)
        assert refusal(lambda action=action, name=name: action(tmp_path / name), tmp_path / name)  # type: ignore[misc]
    for name in ("config.json", "glip.json"):
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        become(folder / name)
        assert refusal(lambda folder=folder: load(folder, device="cpu"), folder)  # type: ignore[misc]
    assert refusal(lambda: read_manifest(tmp_path / "folder of glip.json"), tmp_path)
    assert refusal(lambda: kind_of(tmp_path / "folder of config.json"), tmp_path)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800", "n" * 5_000, "//", "~", "a/b/c/d", "*",
                                  "../..", "org/none", "-", "http://a/b.pth"])  # fmt: skip
def test_names_of_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(lambda: load(name, device="cpu"))
    refusal(lambda: find_model(name))
    assert refusal(lambda: read_prompt(name))


@pytest.fixture
def learned(tmp_path: Path) -> Path:
    """A learned prompt of two classes, each a token."""
    table = np.ones((4, 8), np.float32)
    rows = np.array([[False, True, False, False], [False, False, True, False]])
    prompt = Prompt.from_classes(["crack", "rust"])
    task = TaskPrompt(prompt, (101, 8, 9, 102), rows, table, table, "tiny", "0" * 16, (0.1, 0.2))
    save_prompt(tmp_path / "x.prompt.safetensors", task)
    return tmp_path / "x.prompt.safetensors"


@pytest.mark.slow
def test_odd_values_in_learned_prompts(learned: Path) -> None:
    content = learned.read_bytes()
    for value in VALUES:
        for spoiled_file in with_odd_value(content, "glip_prompt", value):
            learned.write_bytes(spoiled_file)
            refusal(lambda: read_prompt(learned), learned)
    for broken in damaged(content, 300):
        learned.write_bytes(broken)
        refusal(lambda: read_prompt(learned), learned)
