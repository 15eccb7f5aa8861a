"""Checkpoints of PyTorch that are damaged, or ask for more than they should."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.errors import CheckpointError
from glip.pickles import read_pickle


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_those_of_the_model_entry(tmp_path: Path, zipped: bool) -> None:
    state = {"a": torch.arange(3.0)}
    options = {"_use_new_zipfile_serialization": zipped}
    for content in (state, {"model": state, "model_ema": {}}):
        found = read_pickle(saved(tmp_path / "x.pth", content, **options))
        assert found["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a checkpoint"),
        ({"model": 3}, "'model' entry is a int"),
        ({"a": torch.zeros(1).expand(50_000, 50_000)}, "its tensors would take 10,000,000,000"),
        ({"a": bytearray(5)}, "asks for a buffer of any size"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_pickle(saved(tmp_path / "x.pth", content))


def test_a_file_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(100_000_000))
    with pytest.raises(CheckpointError, match=r"unpacks to 100,000,0\d\d bytes"):
        read_pickle(path)


def test_a_compressed_pickle_asks_for_no_buffer_either(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        two_gib = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
        archive.writestr("archive/data.pkl", two_gib)
        archive.writestr("archive/version", "3")
    with pytest.raises(CheckpointError, match="asks for a buffer of any size"):
        read_pickle(path)


@pytest.mark.parametrize("kept", [0.2, 0.7, 0.95])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_says_so(tmp_path: Path, kept: float, zipped: bool) -> None:
    options = {"_use_new_zipfile_serialization": zipped}
    path = saved(tmp_path / "x.pth", {"model": {"a": torch.zeros(100)}}, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError):
        read_pickle(path)


def test_code_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("ran",))

    with pytest.raises(CheckpointError, match="could run code"):
        read_pickle(saved(tmp_path / "x.pth", {"model": Evil()}))
