"""Weights on disk: found by name, read whole or refused, written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import glip
from glip.checkpoint import (
    Weights,
    assemble,
    convert_file,
    fingerprint,
    read,
    read_config,
    save,
)
from glip.config import ModelConfig
from glip.convert import convert, to_official
from glip.detector import Detector
from glip.errors import CheckpointError, ConfigError
from glip.model.presets import build, preset
from glip.released import RELEASED
from glip.task_prompt import read_prompt
from glip.text.tokenizer import Tokenizer

pytestmark = pytest.mark.whole

State = dict[str, Tensor]


def test_saved_weights_come_back(tiny_weights: Weights, tiny_file: Path) -> None:
    back = read(tiny_file)
    assert back.config == tiny_weights.config
    assert back.state.keys() == tiny_weights.state.keys()
    assert all(torch.equal(back.state[key], t) for key, t in tiny_weights.state.items())
    assert back.tokenizer_json is None and back.dropped == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_while_reading_is_rounded_afterwards(
    tiny_weights: Weights, tiny_file: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glip.checkpoint.READ_AT_A_TIME", 7)
    early = read(tiny_file, dtype)
    assert early.exact == fingerprint(tiny_weights.state)
    late = assemble(tiny_weights, dtype).state_dict()
    now = assemble(early, dtype).state_dict()
    assert now.keys() == late.keys()
    for key, tensor in late.items():
        assert now[key].dtype == tensor.dtype and torch.equal(now[key], tensor), key
        assert now[key].untyped_storage().nbytes() == tensor.untyped_storage().nbytes(), key


def test_config_of_our_file_is_read_without_its_weights(
    tiny_file: Path, tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glip.checkpoint.read", None)  # what would fail if it were called
    assert read_config(tiny_file) == tiny_config


def test_config_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_file({"neck.p6.bias": torch.zeros(1)}, path, {"glip": json.dumps({"format": 99})})
    with pytest.raises(CheckpointError, match=r"new\.safetensors has format 99"):
        read_config(path)


def test_saved_tokenizer_comes_back(tiny_weights: Weights, tmp_path: Path) -> None:
    tokenizer = Tokenizer.bert_uncased().to_json()
    save(tmp_path / "own.safetensors", replace(tiny_weights, tokenizer_json=tokenizer))
    assert glip.load(tmp_path / "own.safetensors", device="cpu").tokenizer.is_builtin


def test_loaded_file_predicts_as_the_model_it_was_saved_from(
    tiny_file: Path, tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    [found] = glip.load(tiny_file, device="cpu").predict(make_picture(), ["cat", "dog"])
    [expected] = tiny_detector.predict(make_picture(), ["cat", "dog"])
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.usefixtures("recognise_tiny")
def test_official_checkpoint_loads_model_and_not_its_average(
    tiny_official_checkpoint: Path, tiny_weights: Weights
) -> None:
    weights = read(tiny_official_checkpoint)
    assert weights.state.keys() == tiny_weights.state.keys()
    assert all(torch.equal(weights.state[key], t) for key, t in tiny_weights.state.items())
    assert "rpn.head.cls_logits.bias" in weights.dropped and len(weights.dropped) == 4


@pytest.mark.usefixtures("recognise_tiny")
@pytest.mark.parametrize("form", ["bare", "legacy", "safetensors", "parameters"])
def test_other_forms_of_official_weights(
    tiny_official_state: State, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "weights.bin"
    if form == "safetensors":
        save_file({key: t.contiguous().clone() for key, t in tiny_official_state.items()}, path)
    elif form == "parameters":
        parameters = {
            key: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor
            for key, tensor in tiny_official_state.items()
        }
        torch.save({"model": parameters}, path)
    else:
        torch.save(tiny_official_state, path, _use_new_zipfile_serialization=form == "bare")
    assert assemble(read(path)).head.fused
    assert read_config(path) == read(path).config


def test_half_precision_file_is_half_as_large(tiny_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.safetensors"
    convert_file(tiny_file, target, torch.float16)
    assert target.stat().st_size < 0.55 * tiny_file.stat().st_size
    assert read(target).state["neck.p6.weight"].dtype == torch.float16
    assert assemble(read(target)).neck.p6.weight.dtype == torch.float32


@pytest.mark.parametrize("key", ["neck.p6.bias", "head.outputs.scales"])
def test_weights_that_do_not_fit_are_not_converted(
    tiny_weights: Weights, tmp_path: Path, key: str
) -> None:
    state = {name: tensor for name, tensor in tiny_weights.state.items() if name != key}
    save(tmp_path / "part.safetensors", replace(tiny_weights, state=state))
    with pytest.raises(CheckpointError, match=rf"part\.safetensors.* missing {key}"):
        convert_file(tmp_path / "part.safetensors", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


# Names.


def test_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder; give the weights file inside it"):
        glip.load(tmp_path)


def test_named_model_refuses_weights_of_another(tiny_file: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a tiny_for_tests, not a glip_tiny"):
        glip.load("glip_tiny", weights=tiny_file)
    with pytest.raises(ConfigError, match="no model is called 'glip_huge'"):
        glip.load("glip_huge", weights=tiny_file)


# Files that cannot be used.


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_pickle_that_wants_to_run_code_is_refused_and_runs_none(tmp_path: Path, form: str) -> None:
    path, trace = tmp_path / "hostile.pth", tmp_path / "it_ran"
    content = {"model": {"rpn.head.bias0": Hostile(trace)}}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        CheckpointError, match=r"hostile\.pth was refused.*could run code"
    ) as caught:
        glip.load(path)
    assert "weights_only=False" in str(caught.value)  # how to convert it, on another machine
    assert not trace.exists()


def _cut(source: Path, target: Path, share: float) -> None:
    content = source.read_bytes()
    target.write_bytes(content[: int(share * len(content))])


BAD_FILES: list[tuple[str, Callable[[Path, Path, Path], Any], str]] = [
    ("missing", lambda path, ours, official: None, "no weights file"),
    ("empty", lambda path, ours, official: path.touch(), "is empty"),
    ("a few bytes", lambda path, ours, official: path.write_bytes(b"PK\3\4"), "is truncated"),
    ("text", lambda path, ours, official: path.write_text("no weights"), "neither a safetensors"),
    ("picture", lambda path, ours, official: Image.new("L", (9, 9)).save(path, "PNG"), "neither"),
    ("half a pth", lambda path, ours, official: _cut(official, path, 0.5), "damaged or truncated"),
    ("half of ours", lambda path, ours, official: _cut(ours, path, 0.5), "damaged or truncated"),
    ("head of ours", lambda path, ours, official: _cut(ours, path, 0.001), "damaged or truncated"),
    ("list", lambda path, ours, official: torch.save([1, 2], path), "holds a list"),
    ("number", lambda path, ours, official: torch.save({"model": 3}, path), "is a int"),
    ("no tensors", lambda path, ours, official: torch.save({}, path), "no GLIP model"),
    (
        "other model",
        lambda path, ours, official: torch.save({"fc.weight": torch.zeros(2)}, path),
        r"no GLIP model \(its keys begin with fc.weight\)",
    ),
    (
        "other safetensors",
        lambda path, ours, official: save_file({"fc.weight": torch.zeros(2)}, path),
        "no GLIP model",
    ),
    (
        "no tensor",
        lambda path, ours, official: torch.save({"rpn.head.bias0": 1.5}, path),
        "rpn.head.bias0 is not a tensor",
    ),
    (
        "keys twice",
        lambda path, ours, official: torch.save(
            {"rpn.head.bias0": torch.zeros(1), "module.rpn.head.bias0": torch.zeros(1)}, path
        ),
        "twice",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), [r[1:] for r in BAD_FILES], ids=[r[0] for r in BAD_FILES]
)
def test_unusable_file_is_named(
    tmp_path: Path,
    tiny_file: Path,
    tiny_official_checkpoint: Path,
    make: Callable[[Path, Path, Path], Any],
    message: str,
) -> None:
    path = tmp_path / "bad.pth"
    make(path, tiny_file, tiny_official_checkpoint)
    with pytest.raises(CheckpointError, match=message) as caught:
        glip.load(path)
    assert "bad.pth" in str(caught.value)


BAD_STATES: list[tuple[str, Callable[[State], Any], str]] = [
    ("extra", lambda state: state.update({"neck.p9.bias": torch.zeros(1)}), "unexpected neck.p9"),
    ("missing", lambda state: state.pop("neck.p6.bias"), "missing neck.p6.bias"),
    (
        "shape",
        lambda state: state.update({"neck.p6.bias": torch.zeros(7)}),
        r"neck.p6.bias is \(7,\) instead of \(32,\)",
    ),
    ("nothing", lambda state: state.clear(), r"missing .* and \d+ more"),
]


@pytest.mark.parametrize(
    ("change", "message"), [r[1:] for r in BAD_STATES], ids=[r[0] for r in BAD_STATES]
)
def test_weights_that_do_not_fit_are_named(
    tiny_weights: Weights, tmp_path: Path, change: Callable[[State], Any], message: str
) -> None:
    state = dict(tiny_weights.state)
    change(state)
    save(tmp_path / "bad.safetensors", replace(tiny_weights, state=state))
    with pytest.raises(CheckpointError, match=rf"bad\.safetensors.*do not fit.*{message}"):
        glip.load(tmp_path / "bad.safetensors")


@pytest.mark.usefixtures("recognise_tiny")
@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("rpn.head.scales.0.scale", torch.ones(2)),
        ("rpn.head.bbox_pred.weight", torch.zeros(4)),
        ("rpn.head.bbox_pred.weight", torch.zeros(4, 32, 3, 3)),
        ("rpn.head.log_scale", torch.zeros(())),
    ],
)
def test_official_weights_of_another_shape_are_named(
    tiny_official_state: State, tmp_path: Path, key: str, tensor: Tensor
) -> None:
    torch.save({**tiny_official_state, key: tensor}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth.*head\.outputs\.\w+.* instead of"):
        glip.load(tmp_path / "bad.pth")


BAD_HEADERS: list[tuple[str, Any, str]] = [
    ("future format", {"format": 2, "config": {"new_part": {}}}, "format 2.*update glip"),
    ("no config", {"format": 1}, "config cannot be read"),
    ("list", [1], "config cannot be read"),
    ("unknown key", {"format": 1, "config": {"blockz": 6}}, "unknown key 'blockz'"),
    (
        "wrong type",
        {"format": 1, "config": {"head": {"blocks": "six"}}},
        "head.blocks: expected int",
    ),
    (
        "unknown backbone",
        {"format": 1, "config": {"backbone": {"name": "resnet_of_dreams"}}},
        "resnet_of_dreams",
    ),
    (
        "wrong option",
        {"format": 1, "config": {"backbone": {"options": {"depths": "deep"}}}},
        "backbone 'swin_tiny_patch4_window7_224': ",
    ),
    (
        "other files",
        {"format": 1, "config": {"backbone": {"options": {"checkpoint_path": "evil.pth"}}}},
        "refused.*checkpoint_path",
    ),
]


@pytest.mark.parametrize(
    ("header", "message"), [r[1:] for r in BAD_HEADERS], ids=[r[0] for r in BAD_HEADERS]
)
def test_file_of_ours_with_a_strange_header_is_named(
    tmp_path: Path, header: Any, message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"neck.p6.bias": torch.zeros(1)}, path, {"glip": json.dumps(header)})
    with pytest.raises(CheckpointError, match=message) as caught:
        glip.load(path)
    assert "bad.safetensors" in str(caught.value)


# Writing.


def test_file_says_what_it_is_to_everyone(tiny_file: Path, tiny_config: ModelConfig) -> None:
    with safe_open(tiny_file, framework="pt") as file:
        header = json.loads(file.metadata()["glip"])
    assert header["format"] == 1
    assert header["config"]["name"] == tiny_config.name


def test_failed_save_leaves_the_old_file_and_nothing_else(
    tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glip.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*No space left"):
        save(path, tiny_weights)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_save_into_a_missing_folder_names_the_file(tiny_weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write weights to .*nowhere"):
        save(tmp_path / "nowhere" / "weights.safetensors", tiny_weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glip_tiny_a", "glip_tiny_b", "glip_tiny"])
def test_official_checkpoint_of_real_size_loads_end_to_end(
    name: str, tmp_path: Path, make_picture: Callable[..., Image.Image]
) -> None:
    """Official names are given by us here; recorded cases of the official code are elsewhere."""
    model = build(preset(name))
    official = {f"module.{key}": t for key, t in to_official(model.state_dict()).items()}
    assert len(official) == {"glip_tiny_a": 522, "glip_tiny_b": 726, "glip_tiny": 726}[name]
    assert convert(official).keys() == model.state_dict().keys()
    path = tmp_path / str(RELEASED[name].official)
    torch.save({"model": official, "iteration": 1}, path)
    weights = convert_file(path, tmp_path / "out.safetensors", torch.float16)
    assert weights.config == preset(name)
    detector = glip.load(tmp_path / "out.safetensors", device="cpu")
    assert detector.config == preset(name)
    assert detector.predict(make_picture(), ["cat", "dog"])[0].image_hw == (90, 120)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.int64,
        torch.bool,
        pytest.param(
            torch.complex64,
            marks=pytest.mark.skipif(
                version("safetensors") < "0.5", reason="safetensors does not write it"
            ),
        ),
    ],
)
def test_weights_that_are_no_floats_are_named(
    tiny_weights: Weights, tmp_path: Path, dtype: torch.dtype
) -> None:
    key = "head.outputs.project.weight"
    state = {**tiny_weights.state, key: tiny_weights.state[key].to(dtype)}
    save(tmp_path / "x.safetensors", replace(tiny_weights, state=state))
    with pytest.raises(CheckpointError, match=rf"{key} holds {str(dtype).removeprefix('torch.')}"):
        glip.load(tmp_path / "x.safetensors", device="cpu")


def with_header(path: Path, weights: Weights, change: Callable[[dict[str, Any]], str]) -> Path:
    """A file of one small tensor whose header holds a changed config."""
    config = weights.config.to_dict()
    text = change({"format": 1, "config": config})
    save_file({"a": torch.zeros(1)}, path, {"glip": text})
    return path


@pytest.mark.parametrize(
    ("part", "option", "value", "message"),
    [
        ("text", "num_hidden_layers", 1e9, "num_hidden_layers is 1000000000.0, .* than 1,000"),
        ("text", "vocab_size", 10**12, "vocab_size is 1000000000000, .* than 10,000,000"),
        ("backbone", "depths", [2, 10**6], r"depths\[1\] is 1000000"),
    ],
)
def test_numbers_that_no_model_has_are_refused(
    tiny_weights: Weights, tmp_path: Path, part: str, option: str, value: Any, message: str
) -> None:
    def change(header: dict[str, Any]) -> str:
        header["config"][part]["options"] = {option: value}
        return json.dumps(header)

    path = with_header(tmp_path / "x.safetensors", tiny_weights, change)
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_a_header_of_great_depth_is_refused(tiny_weights: Weights, tmp_path: Path) -> None:
    path = with_header(tmp_path / "x.safetensors", tiny_weights, lambda _: "[" * 100_000)
    with pytest.raises(CheckpointError, match="its config cannot be read"):
        read(path)


@pytest.mark.parametrize("name", ["/dev/zero", "../tokenizer.json", "none.json"])
def test_only_a_tokenizer_beside_the_weights_is_opened(
    tiny_weights: Weights, tmp_path: Path, name: str
) -> None:
    config = replace(tiny_weights.config, text=replace(tiny_weights.config.text, tokenizer=name))
    save(tmp_path / "x.safetensors", replace(tiny_weights, config=config))
    with pytest.raises(CheckpointError, match="only a file beside the weights is opened"):
        read(tmp_path / "x.safetensors")


def test_a_tokenizer_beside_the_weights_is_read(tiny_weights: Weights, tmp_path: Path) -> None:
    config = replace(
        tiny_weights.config, text=replace(tiny_weights.config.text, tokenizer="t.json")
    )
    save(tmp_path / "x.safetensors", replace(tiny_weights, config=config))
    (tmp_path / "t.json").write_text(Tokenizer.bert_uncased().to_json(), encoding="utf-8")
    assert glip.load(tmp_path / "x.safetensors", device="cpu").tokenizer.is_builtin


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    for look in (read, read_config, read_prompt):
        with pytest.raises(CheckpointError):
            look(tmp_path / "x.safetensors")
