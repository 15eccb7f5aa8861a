"""A teacher from a name, a file or a folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from glip.errors import CheckpointError, PromptError
from glip.files import file_sha256
from glip.pseudo.teachers import load_teacher
from glip.text.prompt import Prompt


def test_weights_of_a_teacher_have_a_name_and_a_fingerprint(tiny_file: Path) -> None:
    teacher = load_teacher(str(tiny_file), device="cpu")
    assert teacher.identity() == {
        "kind": "glip",
        "name": "tiny.safetensors",
        "model": "tiny_for_tests",
        "sha256": file_sha256(tiny_file),
        "dtype": "float32",
    }
    with pytest.raises(PromptError, match="needs 300 tokens"):
        teacher.check(Prompt.from_caption("dog " * 300, [(0, 1199)]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert"}', "holds a bert, which is none of the detectors that are known"),
        ("{}", "config.json cannot be read"),
        ('{"model_type": "owlv2"}', "cannot be loaded by transformers"),
    ],
)
def test_folders_that_hold_no_teacher(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    logging.disable(logging.WARNING)
    with pytest.raises(CheckpointError, match=message):
        load_teacher(str(tmp_path))
    logging.disable(logging.NOTSET)
