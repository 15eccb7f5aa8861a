"""Text to token ids, with the characters that every token stands for.

WordPiece as BERT uses it (Devlin et al., arXiv 1810.04805), through the public API of the
`tokenizers` library; any other fast tokenizer loads from its `tokenizer.json`. Knows nothing about
phrases, batches or models: it turns one string into one `Encoding`, whole, and whoever has a length
limit to keep checks it (`Prompt.passes` does).

`bert_uncased_vocab.txt` is the vocabulary of `bert-base-uncased` (30,522 entries), published by the
Google AI Language team with BERT under the Apache License 2.0 and copied unchanged; SHA-256
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from glip.errors import ConfigError, PromptError
from glip.files import read_text

Span = tuple[int, int]
"""Characters [start, end) of a string."""

PAD_NAMES = ("[PAD]", "<pad>", "<|endoftext|>")
"""Names of the padding token, for a `tokenizer.json` that does not say which token pads."""
UNKNOWN_NAMES = ("[UNK]", "<unk>")


@dataclass(frozen=True)
class Encoding:
    """The tokens of one string, [CLS] and [SEP] included.

    Attributes:
        ids: T token ids.
        offsets: T spans in the original string; (0, 0) for a token that stands for no character.
    """

    ids: tuple[int, ...]
    offsets: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """A fast tokenizer that never truncates and never pads.

    Attributes:
        cls_id, sep_id: the tokens before and after every text.
        pad_id: the token that fills a batch; masked everywhere, so it only has to exist.
        unknown_id: the token of all words that the vocabulary cannot spell, if there is one.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        """Takes over a tokenizer of the `tokenizers` library; truncation and padding go off.

        Raises:
            ConfigError: it does not put exactly one token before and one after the text, or has no
                padding token.
        """
        padding = tokenizer.padding
        tokenizer.no_truncation()
        tokenizer.no_padding()
        frame = tokenizer.encode("").ids
        if len(frame) != 2:
            raise ConfigError(
                f"tokenizer: an empty text becomes the tokens {frame}, expected [CLS] and [SEP]; "
                "the tokenizer.json needs a post_processor that adds one token on either side"
            )
        known = [tokenizer.token_to_id(name) for name in PAD_NAMES]
        pads = [padding["pad_id"]] if padding else [token for token in known if token is not None]
        if not pads:
            raise ConfigError(
                "tokenizer: no padding token; name one in the 'padding' section of tokenizer.json "
                f"or add one of {', '.join(PAD_NAMES)} to the vocabulary"
            )
        self._tokenizer = tokenizer
        self.cls_id: int = frame[0]
        self.sep_id: int = frame[1]
        self.pad_id: int = pads[0]
        unknown = (tokenizer.token_to_id(name) for name in UNKNOWN_NAMES)
        self.unknown_id: int | None = next((token for token in unknown if token is not None), None)

    @staticmethod
    @cache
    def bert_uncased() -> "Tokenizer":
        """The tokenizer of all released GLIP weights, from the packaged vocabulary; built once."""
        file = resources.files("glip.text").joinpath("bert_uncased_vocab.txt")
        tokens = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        vocabulary = {token: index for index, token in enumerate(tokens)}
        tokenizer = tokenizers.Tokenizer(
            models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
        )
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
        return Tokenizer(tokenizer)

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """A tokenizer from the content of a `tokenizer.json`; `to_json` is the inverse.

        Raises:
            ConfigError: the text is not such a file, or it lacks a special token.
        """
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception for any damage
            raise ConfigError(f"tokenizer: not a tokenizer.json ({error})") from error
        return Tokenizer(tokenizer)

    @staticmethod
    def from_file(path: str | Path) -> "Tokenizer":
        """A tokenizer from a `tokenizer.json` file.

        Raises:
            ConfigError: the file cannot be read, or as `from_json`; the message names the file.
        """
        try:
            return Tokenizer.from_json(read_text(path))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_json(self) -> str:
        """All of the tokenizer as the content of a `tokenizer.json`; `from_json` is the inverse."""
        return str(self._tokenizer.to_str())

    @property
    def is_builtin(self) -> bool:
        """Whether this is the tokenizer of `bert_uncased`, however it was loaded."""
        builtin = Tokenizer.bert_uncased()
        return self is builtin or self.to_json() == builtin.to_json()

    def encode(self, text: str) -> Encoding:
        """The tokens of a text between [CLS] and [SEP], however many they are.

        Raises:
            PromptError: the text holds half of a surrogate pair, which no encoder can read.
        """
        try:
            encoded = self._tokenizer.encode(text)
        except TypeError as error:  # the library's answer to a string that is not Unicode text
            message = f"prompt {text[:80]!r}: not valid Unicode text; remove lone surrogates"
            raise PromptError(message) from error
        return Encoding(tuple(encoded.ids), tuple(encoded.offsets))
