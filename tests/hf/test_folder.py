"""Weights of any kind as a folder of transformers, and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import glip
from glip.checkpoint import Weights, convert_file, read, read_config, save
from glip.errors import CheckpointError, ConfigError
from glip.hf import GlipForObjectDetection, convert_to_folder
from glip.model_files import find_model, is_zero_shot, threshold_of
from tests.toy import TINY


def test_there_and_back(
    folder: Path, tiny_weights: Weights, tiny_detector: Any, make_picture: Any, tmp_path: Path
) -> None:
    assert {path.name for path in folder.iterdir()} >= {
        "README.md", "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    assert read_config(folder) == TINY
    again = read(folder)
    assert set(again.state) == set(tiny_weights.state)
    assert all(torch.equal(again.state[name], t) for name, t in tiny_weights.state.items())
    convert_file(folder, tmp_path / "back.safetensors")
    assert read(tmp_path / "back.safetensors").config == TINY
    assert find_model(folder) == folder and not is_zero_shot(folder)
    assert threshold_of(folder) == TINY.threshold
    [expected] = tiny_detector.predict(make_picture(), ["cat"])
    loaded = glip.load(folder, device="cpu")
    assert loaded.fingerprint == tiny_detector.fingerprint  # learned prompts fit it
    [found] = loaded.predict(make_picture(), ["cat"])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_number_formats(tiny_file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    save(small, read(tiny_file), torch.float16)
    convert_to_folder(small, tmp_path / "as_it_is")
    convert_to_folder(tiny_file, tmp_path / "asked", torch.bfloat16)
    assert load_file(tmp_path / "as_it_is" / "model.safetensors")[
        "glip.neck.p6.bias"
    ].dtype == torch.float16  # fmt: skip
    read_in = GlipForObjectDetection.from_pretrained
    assert read_in(tmp_path / "as_it_is").dtype == torch.float32
    stored = load_file(tmp_path / "asked" / "model.safetensors")
    assert stored["glip.neck.p6.bias"].dtype == torch.bfloat16
    assert stored["glip.head.outputs.bias"].dtype == torch.float32


def test_the_card_says_how(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: zero-shot-object-detection" in card
    assert "tiny_for_tests" in card and 'model="tiny"' in card and "2 million" in card


@pytest.mark.usefixtures("recognise_tiny")
def test_official_weights(tiny_official_checkpoint: Path, tmp_path: Path) -> None:
    weights = convert_to_folder(tiny_official_checkpoint, tmp_path / "official")
    assert len(weights.dropped) == 4
    assert read(tmp_path / "official").config == TINY


def test_written_again(tiny_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    convert_to_folder(tiny_file, target)
    convert_to_folder(tiny_file, target)
    assert read_config(target) == TINY
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("content", ["file", "folder"])
def test_nothing_else_is_replaced(content: str, tiny_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    if content == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "diary.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        convert_to_folder(tiny_file, target)


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _without_numbers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["glip"]
    (folder / "config.json").write_text(json.dumps(config))


def _reads_a_file(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["glip"]["backbone"]["options"]["checkpoint_path"] = "/etc/passwd"
    (folder / "config.json").write_text(json.dumps(config))


def _giant(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["glip"]["head"]["channels"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_weights, "holds no weights"),
        (_truncated, "damaged or truncated"),
        (_without_numbers, "its config cannot be read"),
        (_reads_a_file, "makes timm read other files"),
        (_giant, "more than"),
    ],
)
def test_bad_folders(damage: Any, message: str, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        read(copy)


@pytest.mark.whole
def test_importing_glip_knows_nothing_of_it() -> None:
    code = (
        "import sys, glip\n"
        "assert not any(name.startswith(('transformers', 'glip.hf')) for name in sys.modules)\n"
        "import glip.hf\n"
        "from transformers import AutoConfig\n"
        "assert AutoConfig.for_model('glip').model_type == 'glip'\n"
        "glip.hf.register()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "already registered" not in ran.stderr
