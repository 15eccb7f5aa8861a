"""Names of models, and where their files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.errors import CheckpointError
from glip.model.presets import PRESETS, build_empty
from glip.released import RELEASED, find, source_of, weights_folder

TINY = "glip_tiny_model_o365_goldg_cc_sbu.pth"


def test_each_architecture_is_of_the_size_that_is_said() -> None:
    assert list(RELEASED) == list(PRESETS)
    for name, config in PRESETS.items():
        tensors = build_empty(config).state_dict().values()
        assert RELEASED[name].parameters == sum(tensor.numel() for tensor in tensors), name
    assert source_of("glip_tiny") == f"GLIPModel/GLIP: {TINY}"
    assert source_of("glip_nano") == "this package"


def test_name_is_looked_for_in_the_working_folder_then_in_the_weights_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("GLIP_HOME", str(home))
    monkeypatch.chdir(here)
    assert weights_folder() == home
    (home / TINY).touch()
    assert find("glip_tiny") == home / TINY
    (here / "glip_tiny.safetensors").touch()
    assert find("glip_tiny") == Path("glip_tiny.safetensors")
    (here / "glip_tiny").mkdir()  # a folder of the model's name, of training runs for instance
    assert find("glip_tiny") == Path("glip_tiny.safetensors")


def test_name_without_a_connection_says_which_file_to_put_where() -> None:
    with pytest.raises(CheckpointError) as caught:
        find("glip_tiny")
    assert TINY in str(caught.value)
    assert str(weights_folder()) in str(caught.value)


def test_name_is_downloaded_when_it_is_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("glip.released.reach_hub", lambda: None)
    assert find("glip_large") == tmp_path / "glip_large_model.pth"
    assert asked == [("GLIPModel/GLIP", "glip_large_model.pth")]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'glip_huge'.*glip_tiny, glip_large"):
        find("glip_huge")
