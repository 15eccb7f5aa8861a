"""Tokens and their characters: known ids, offsets into the text, files of other tokenizers."""

import json
import pickle
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from glip.errors import ConfigError, PromptError
from glip.text.tokenizer import Tokenizer


def toy(*, framed: bool = True, pad: str = "<pad>") -> tokenizers.Tokenizer:
    vocabulary = {pad: 0, "<s>": 1, "</s>": 2, "<unk>": 3, "a": 4, "dog": 5, "runs": 6}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


def test_ids_of_bert_base_uncased() -> None:
    tokenizer = Tokenizer.bert_uncased()
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 101, 102)
    assert tokenizer.encode("a red umbrella").ids == (101, 1037, 2417, 12977, 102)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Red Dog", ["A", "Red", "Dog"]),  # capitals
        ("café naïve", ["café", "naïve"]),  # accents as one character
        ("cafe\u0301 dog", ["cafe", "dog"]),  # and as two; the mark belongs to no token
        ("🐶 dog", ["🐶", "dog"]),
        ("猫dog犬", ["猫", "dog", "犬"]),
        ("كلب", ["ك", "ل", "ب"]),
        ("o'clock", ["o", "'", "clock"]),
        ("t-shirt", ["t", "-", "shirt"]),
        ("a.c. unit", ["a", ".", "c", ".", "unit"]),
        ("  dog\t\n cat  ", ["dog", "cat"]),
        ("do\u200bg", ["do\u200bg"]),  # a zero-width blank inside a word
        ("[SEP]", ["[", "sep", "]"]),  # users cannot type special tokens
        ("", []),
    ],
)
def test_offsets_point_into_the_original_text(text: str, words: list[str]) -> None:
    encoding = Tokenizer.bert_uncased().encode(text)
    assert encoding.offsets[0] == encoding.offsets[-1] == (0, 0)
    spans = encoding.offsets[1:-1]
    assert [text[a:b].lower() for a, b in spans] == [word.lower() for word in words]


def test_long_text_is_neither_cut_nor_padded() -> None:
    encoding = Tokenizer.bert_uncased().encode("dog " * 1000)
    assert len(encoding) == len(encoding.ids) == len(encoding.offsets) == 1002


def test_builtin_is_built_once_and_survives_json_and_pickle() -> None:
    builtin = Tokenizer.bert_uncased()
    assert builtin is Tokenizer.bert_uncased()
    for copy in (Tokenizer.from_json(builtin.to_json()), pickle.loads(pickle.dumps(builtin))):
        assert copy.is_builtin
        assert copy.encode("Hot-dog café") == builtin.encode("Hot-dog café")


def test_other_tokenizer_finds_its_special_tokens_and_loses_its_limits(tmp_path: Path) -> None:
    original = toy()
    original.enable_truncation(4)
    original.enable_padding(pad_id=0, pad_token="<pad>", length=16)
    path = tmp_path / "tokenizer.json"
    path.write_text(original.to_str(), encoding="utf-8")
    tokenizer = Tokenizer.from_file(path)
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 1, 2)
    assert tokenizer.encode("a dog runs a dog").ids == (1, 4, 5, 6, 4, 5, 2)
    assert not tokenizer.is_builtin


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a tokenizer.json"),
        (json.dumps({"model": {}}), "not a tokenizer.json"),
        (toy(framed=False).to_str(), "expected \\[CLS\\] and \\[SEP\\]"),
        (toy(pad="<fill>").to_str(), "no padding token"),
    ],
)
def test_unusable_tokenizer_json(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tokenizer.from_json(content)
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"tokenizer\\.json: .*{message}"):
        Tokenizer.from_file(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Tokenizer.from_file(tmp_path / "nowhere.json")


def test_half_a_surrogate_pair() -> None:
    with pytest.raises(PromptError, match="surrogate"):
        Tokenizer.bert_uncased().encode("dog \ud83d")
