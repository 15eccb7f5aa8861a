"""What a folder of transformers holds, and what is said of one that cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from glip.errors import CheckpointError
from glip.zero_shot.folder import folder_sha256, kind_of, load_parts
from tests.zero_shot.tiny import MAKERS

FolderOf = Callable[[str], Path]


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_is_read(kind: str, folder_of: FolderOf) -> None:
    assert kind_of(folder_of(kind)) == kind
    parts = load_parts(folder_of(kind))
    assert parts.kind == kind
    assert sum(weight.numel() for weight in parts.model.parameters()) > 1000


@pytest.fixture
def copy(folder_of: FolderOf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of("owlv2"), tmp_path / "owl"))


def test_a_changed_weight_changes_the_digest(copy: Path) -> None:
    before = folder_sha256(copy)
    (copy / "README.md").write_text("words")
    assert folder_sha256(copy) == before
    state = load_file(copy / "model.safetensors")
    name = min(state)
    save_file({**state, name: state[name] + 1}, copy / "model.safetensors", {"format": "pt"})
    assert folder_sha256(copy) != before


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _no_kind(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def _a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _another_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _half_the_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if "box_head" not in key}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def _truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _no_words(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_config, "config.json cannot be read"),
        (_no_json, "config.json cannot be read"),
        (_no_kind, "config.json cannot be read"),
        (_a_list, "config.json cannot be read"),
        (_another_kind, "holds a bert, which is none of the detectors"),
        (_no_weights, "cannot be loaded by transformers"),
        (_half_the_weights, "lacks weights of its owlv2: box_head"),
        (_truncated, "cannot be loaded by transformers"),
        (_no_words, "cannot be loaded by transformers|lacks the words"),
    ],
)
def test_bad_folders(damage: Callable[[Path], None], message: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        load_parts(copy)
