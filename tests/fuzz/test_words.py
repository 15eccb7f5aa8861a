"""Prompts, settings, ontologies, wordings, class files: whatever people and programs write."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from glip.api import read_other_words
from glip.config import ModelConfig, PostprocessOptions
from glip.evaluation.config import EvaluationConfig
from glip.evaluation.predictions import read_predictions
from glip.labelling.ontology import Ontology
from glip.pseudo.config import GroundingConfig
from glip.settings import from_dict, plain, read_config
from glip.text.class_list import class_names
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.training.run_config import RunConfig, read_run
from glip.tuning.wording import read_wordings
from tests.fuzz.border import refusal
from tests.fuzz.odd import KINDS, VALUES, damaged, places, spoiled

MANY = settings(max_examples=200, derandomize=True, deadline=None, database=None)
TEXTS = some.text(max_size=60) | some.text("ab. ,;:()[]{}'\"\n-&", max_size=60)
ANYTHING = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9)
    | some.sampled_from([value for value in VALUES if not isinstance(value, (list, dict))]),
    lambda inner: some.lists(inner, max_size=4)
    | some.dictionaries(some.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KNOWN = (ModelConfig, RunConfig, EvaluationConfig, GroundingConfig)


def encode(prompt: Prompt) -> None:
    """As far as a model would read it."""
    for one in prompt.passes(Tokenizer.bert_uncased(), 256):
        assert len(one.token_ids) <= 256


@pytest.mark.parametrize("kind", [*KNOWN, PostprocessOptions], ids=lambda kind: kind.__name__)
def test_no_setting_is_infinite_or_endless(kind: type[Any]) -> None:
    """Each number of each configuration in turn; what others read, such as timm, is theirs."""
    values = plain(dataclasses.asdict(kind()))
    numbers = {}
    for place in places(values):
        value = functools.reduce(lambda inner, key: inner[key], place, values)
        if type(value) in (int, float) and "options" not in place:
            numbers[place] = value
    assert numbers
    for place, value in numbers.items():
        huge = 10**30 if isinstance(value, int) else 1e30
        for odd in (float("nan"), float("inf"), huge):
            if odd == huge and place[0] in ("pixels", "text"):
                continue  # the build refuses them
            said = refusal(
                lambda odd=odd, place=place: from_dict(kind, spoiled(values, place, odd))
            )  # type: ignore[misc]
            assert said is not None, (place, odd)


@MANY
@given(TEXTS)
def test_texts_as_prompts(text: str) -> None:
    refusal(lambda: encode(Prompt.of(text)))
    refusal(lambda: encode(Prompt.from_caption(text)))


@pytest.mark.slow
@MANY
@given(some.lists(TEXTS, max_size=6))
def test_lists_as_prompts(names: list[str]) -> None:
    refusal(lambda: encode(Prompt.of(names)))
    refusal(lambda: encode(Prompt.from_classes(names)))
    refusal(lambda: Prompt.from_caption(" ".join(names), names))


@MANY
@given(ANYTHING)
def test_anything_as_a_prompt(value: Any) -> None:
    refusal(lambda: Prompt.of(value))
    refusal(lambda: Prompt.from_classes(value))
    refusal(lambda: Prompt.from_caption("a cat on a mat", value))
    refusal(lambda: Prompt.from_caption(value))


LONG = {
    "a word": "n" * 80_000, "words": "cat " * 20_000, "names": "cat. " * 20_000,
    "marks": "\u0301" * 50_000, "blanks": " " * 100_000, "brackets": "(" * 50_000,
    "commas": "a, " * 20_000, "and": "cat and " * 10_000, "emoji": "👩‍👩‍👧‍👦" * 5_000,
    "chinese": "猫" * 20_000, "zalgo": "c" + "\u0334" * 9_000, "dashes": "-" * 80_000,
    "of": "the cat of " * 5_000,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_prompts(name: str) -> None:
    refusal(lambda: encode(Prompt.of(LONG[name])))
    refusal(lambda: encode(Prompt.from_caption(LONG[name])))
    refusal(lambda: encode(Prompt.of([LONG[name]])))


@pytest.mark.slow
@MANY
@given(some.sampled_from(KNOWN), ANYTHING, some.data())
def test_anything_as_settings(kind: type[Any], value: Any, data: Any) -> None:
    refusal(lambda: from_dict(kind, value))
    name = data.draw(some.sampled_from([field.name for field in dataclasses.fields(kind)]))
    refusal(lambda: from_dict(kind, {name: value}))


@pytest.mark.slow
@MANY
@given(some.text("abc.=+0:[]{}&*!-,\n'\" \ud800", max_size=30), some.booleans())
def test_overrides(text: str, known: bool) -> None:
    refusal(lambda: read_config(RunConfig, None, [f"model.{text}" if known else text]))
    refusal(lambda: read_config(RunConfig, None, ["data.sources.0.annotations=a", text]))


ONTOLOGY = b"""\
defaults: {threshold: 0.35}
classes:
  raccoon:
  person: {phrases: [person, pedestrian], not: [statue], threshold: 0.4, parent: mammal}
  bin: [trash can, dustbin]
"""
WORDINGS = b"""\
templates: ["a photo of a {}"]
classes: {raccoon: [trash panda, "a furry [raccoon] in a garden"]}
attributes: {raccoon: grey}
negatives: [cat]
"""
RUN = b"""\
base: other.yaml
model: glip_tiny
data: {sources: [{annotations: a.json}]}
"""
PREDICTIONS = b"""\
{"format": "glip predictions 2", "settings": {}}
{"image_id": 1, "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1]}
"""
READERS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "ontology.yaml": (ONTOLOGY, Ontology.read),
    "wordings.yaml": (WORDINGS, read_wordings),
    "run.yaml": (RUN, read_run),
    "names.txt": (b"cat\n# no\ndog\n", lambda path: class_names(str(path))),
    "words.json": (b'{"cat": "pet"}', read_other_words),
    "predictions.jsonl": (PREDICTIONS, lambda path: list(read_predictions(path))),
    "tokenizer.json": (b'{"version": "1.0"}', Tokenizer.from_file),
}


@pytest.mark.parametrize("become", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_files_that_are_something_else(
    name: str, become: Callable[[Path], None], tmp_path: Path
) -> None:
    become(tmp_path / name)
    refusal(lambda: READERS[name][1](tmp_path / name), tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """Some 1,000 of them."""
    content, read = READERS[name]
    (tmp_path / "other.yaml").write_text("steps: 3")
    for broken in damaged(content, 150):
        (tmp_path / name).write_bytes(broken)
        refusal(lambda: read(tmp_path / name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ontology.yaml", "wordings.yaml", "run.yaml"])
def test_odd_words_in_yaml(name: str, tmp_path: Path) -> None:
    """Each value in each place of the text."""
    content, read = READERS[name]
    (tmp_path / "other.yaml").write_text("steps: 3")
    words = content.decode().split()
    odd = ("null", "[]", "{}", "-1", "1e999", ".nan", "!!python/object:os.system x", "&a [*a]", "~",
           "2020-02-31", "0x", "'", "!!binary x", "!!set {a, b}", "? a", "<<: x", "9" * 5_000,
           "!!int x", "!!timestamp x", "!!float x", "0b2", "1_0", "*none")  # fmt: skip
    for word in words:
        for value in odd:
            text = content.decode().replace(word.strip("[],{}"), value, 1)
            (tmp_path / name).write_text(text)
            refusal(lambda: read(tmp_path / name), tmp_path)


@pytest.mark.parametrize("depth", [2, 500])
def test_bases_of_bases(depth: int, tmp_path: Path) -> None:
    for number in range(depth):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml")
    (tmp_path / f"{depth}.yaml").write_text("steps: 3")
    refusal(lambda: read_run(tmp_path / "0.yaml"), tmp_path)
    (tmp_path / "0.yaml").write_text("base: [a, b]")
    assert refusal(lambda: read_run(tmp_path / "0.yaml"), tmp_path)
