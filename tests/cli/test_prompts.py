"""`glip prompts`: what it refuses before any work; searches are in `tuning/test_wording.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.checkpoint import read
from glip.cli.main import main
from glip.task_prompt import read_prompt


@pytest.fixture
def wordings(tmp_path: Path) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text("classes: {cat: [kitten], dog: [puppy]}\n")
    return path


def test_wordings_become_a_prompt(
    wordings: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pets.prompt.safetensors"
    words = ["prompts", "--wordings", str(wordings), "--weights", str(tiny_file)]
    assert main([*words, "--out", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().err == f"written: {out}\n"
    assert read_prompt(out).names == ("cat", "dog")
    assert read(tiny_file).config.name == "tiny_for_tests"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "pets.safetensors"], "must be called NAME.prompt.safetensors"),
        (["--out", "a.prompt.safetensors", "--search"], "--search needs labelled photos"),
        (["--out", "a.prompt.safetensors", "--data", "x"], "--data is for --search"),
        (
            ["--out", "a.prompt.safetensors", "--search", "--data", "x", "--ensemble", "scores"],
            "--search tries both ensembles",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    words: list[str], message: str, wordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompts", "--wordings", str(wordings), *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
