"""Which file or folder a name stands for, and what is said of it unread."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from glip.errors import CheckpointError
from glip.model_files import find_model, is_zero_shot, model_name, model_sha256, threshold_of


def folder_of(path: Path, kind: str) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_files_folders_and_names(tiny_file: Path, tmp_path: Path) -> None:
    owl = folder_of(tmp_path / "owl", "owlv2")
    assert find_model(tiny_file) == tiny_file and not is_zero_shot(tiny_file)
    assert find_model(owl) == owl and is_zero_shot(owl)
    assert not is_zero_shot(folder_of(tmp_path / "ours", "glip"))
    assert find_model().name == find_model("glip_nano").name
    assert threshold_of(owl) == 0.1
    assert threshold_of(find_model()) == 0.5
    assert len(model_sha256(owl)) == len(model_sha256(tiny_file)) == 64
    assert model_name(owl, owl) == "owl"
    assert model_name("someone/some-detector", owl) == "some-detector"


def test_the_cache_of_the_hub_is_looked_into_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = folder_of(tmp_path / "cached", "owlv2")
    asked = []

    def snapshot_download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(cached)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert find_model("someone/some-detector") == cached
    assert asked == [("someone/some-detector", {"local_files_only": True})]


def test_half_a_download_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "cached", "owlv2")
    (folder / "model.safetensors").unlink()
    wanted: list[object] = []

    def snapshot_download(name: str, **options: object) -> str:
        if "allow_patterns" in options:
            wanted.append(options["allow_patterns"])
            if "pytorch_model*.bin" in options["allow_patterns"]:
                (folder / "pytorch_model.bin").write_bytes(b"pickled")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("glip.model_files.reach_hub", lambda: None)
    assert find_model("someone/some-detector") == folder
    assert len(wanted) == 2  # pickles only where there is nothing else


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("someone/some-detector", "could not be fetched from the Hugging Face Hub"),
        ("weights/none.safetensors", "there is no weights file"),
        ("weights/none.pth", "there is no weights file"),
        ("glip_unknown", "there is no weights file 'glip_unknown', and no model of that name"),
        ("a/b/c", "there is no weights file"),
        ("", "the name of a model is empty"),
        ("../x/y", "there is no weights file"),
    ],
)
def test_bad_names_are_told_at_once(source: str, message: str) -> None:
    began = time.perf_counter()
    with pytest.raises(CheckpointError, match=message) as told:
        find_model(source)
    assert time.perf_counter() - began < 4  # what connecting may take
    assert "\n" not in str(told.value)


def test_kinds_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a bert; known are grounding-dino"):
        threshold_of(folder_of(tmp_path / "bert", "bert"))
