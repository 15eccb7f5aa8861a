"""Words in a file become a prompt in a file; what cannot be is said before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.errors import ConfigError, DataError
from glip.task_prompt import read_prompt
from glip.tuning.prompt_file import search_words, write_words


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text("classes: {cat: [kitten], dog: [puppy]}\nnegatives: [fox]\n")
    return path


def test_all_words_are_taken(words: Path, tmp_path: Path, tiny_file: Path) -> None:
    out = tmp_path / "made" / "pets.prompt.safetensors"
    write_words(out, words, weights=str(tiny_file), device="cpu")
    task = read_prompt(out)
    assert task.names == ("cat", "dog") and len(task.negatives) == 1


def test_name_and_classes_are_checked_first(words: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be called NAME\.prompt\.safetensors"):
        write_words(tmp_path / "pets.safetensors", words, weights="nowhere")
    words.write_text("templates: ['a photo of a {}']\n")
    with pytest.raises(ConfigError, match="names no class"):
        write_words(tmp_path / "pets.prompt.safetensors", words, weights="nowhere")


def test_search_needs_photos_that_are_there(words: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.json"):
        search_words(
            tmp_path / "a.prompt.safetensors", words, tmp_path / "nothing.json", weights="nowhere"
        )
