"""What each word of a caption is: the built-in part-of-speech tagger behind `glip.text.nouns`.

One pass from left to right. A word is looked up in the closed classes of `glip.text.lexicon` first,
then among verbs, then among adjectives by ending, and is a noun otherwise; each rule looks at the
tags before the word and at the letters of the two words after it, never further, so the work is
proportional to the length of the text. `_Tagger.tag` is the order in which the rules are asked, and
every `_tag_...` method is one group of them, which answers None for words that are not its own. The
methods are long lists of cases by nature: each line is a rule of English with the words that it is
for, measured on `tests/text/marked_captions.txt`; to change one, change that file first.

English only, and only as captions use it. Knows nothing about phrases, prompts, tokens or boxes.
"""

import re
from enum import Enum, auto
from functools import cache
from typing import NamedTuple

from glip.text import lexicon

Span = tuple[int, int]

NO_SPACE_SCRIPTS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""Scripts that write no blanks between words, as the inside of a regular expression's [...]."""


class Tag(Enum):
    """What a word is, as far as finding noun phrases needs to know."""

    ARTICLE = auto()  # the, his, this
    QUANTIFIER = auto()  # two, several, 3
    ADJECTIVE = auto()
    ADVERB = auto()
    NOUN = auto()
    POSSESSIVE = auto()  # 's
    VERB = auto()
    BE = auto()  # is, has, can: forms that only sentences have
    PRONOUN = auto()
    PREPOSITION = auto()
    CONJUNCTION = auto()
    PUNCTUATION = auto()


class Word(NamedTuple):
    """One word or punctuation mark of a caption.

    Attributes:
        span: its [start, end) characters.
        text: its letters in lower case.
        tag: what it is.
    """

    span: Span
    text: str
    tag: Tag


def tag_words(caption: str) -> list[Word]:
    """The words and punctuation marks of a caption, each with its tag by the built-in rules."""
    tokens = _tokenize(caption)
    tagger = _Tagger([caption[a:b].lower().replace("\u2019", "'") for a, b in tokens])
    tags = tagger.tag()
    return [Word(*word) for word in zip(tokens, tagger.words, tags, strict=True)]


# Words.

# Letters with the marks that \w leaves out: accents, Hebrew and Arabic points, Indic vowels.
_LETTER = r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff\u200c\u200d]"
_TOKEN = re.compile(
    rf"(?:[^\W\d_]\.)+[^\W\d_]\b\.?"  # a.c.
    rf"|\d+(?:[.,:]\d+)+"  # 3.5
    rf"|{_LETTER}+(?:[-\u2010\u2011'\u2019&]+{_LETTER}+)*"  # t-shirt, o'clock
    rf"|'s\b|\S"
)
_CLITIC = re.compile(r"(?<=\w)(?:['\u2019](?:s|re|ve|ll|d|m))$|(?<=\w)n['\u2019]t$", re.IGNORECASE)


def _tokenize(caption: str) -> list[Span]:
    """Words and punctuation marks without blanks; "'s" and other clitics apart from their word."""
    spans: list[Span] = []
    for match in _TOKEN.finditer(caption):
        start, end = match.span()
        clitic = _CLITIC.search(match.group())
        if clitic:
            spans.append((start, start + clitic.start()))
            start += clitic.start()
        spans.append((start, end))
    return spans


# Tags.

_ADJECTIVE_ENDING = re.compile(r".{3,}(?:ful|ous|less|able|ible|ish|ive|ic|est|iest|esque|some)$")
_ADJECTIVE_TAIL = re.compile(r".*-(?:\w+ed|like|style|size|type|speed|level|sleeve)$")
_PERSON_ENDING = re.compile(r".{3,}(?:man|men|woman|women|ist|ists|boy|girl)$")
_IDIOMS = (
    ("in", "front"),
    ("on", "top"),
    ("take", "place"),
    ("takes", "place"),
    ("taking", "place"),
    ("took", "place"),
    ("tug", "of", "war"),
)
"""Whose last word names no thing, unless it goes on with a noun."""
_DEPTHS = ("ankle", "knee", "thigh", "hip", "waist", "chest", "shoulder", "neck")
_CLOTHED = ("in", "wearing", "wears", "wear")
"""Words after which a colour alone is what somebody wears."""
_LOOK_AHEAD = 8  # words; keeps the work on any text proportional to its length
_OPENS_PHRASE = (Tag.ARTICLE, Tag.QUANTIFIER, Tag.ADJECTIVE)
_IN_PHRASE = (*_OPENS_PHRASE, Tag.NOUN, Tag.POSSESSIVE)


@cache
def _verb_forms() -> dict[str, tuple[str, str]]:
    """Form -> (base, kind) for the verbs we know; kinds "base", "s" (rides), "ing", "past"."""
    verbs = lexicon.VERBS | lexicon.VERBS_OR_NOUNS | lexicon.NOUNS_OR_VERBS
    forms: dict[str, tuple[str, str]] = {}
    for verb in verbs:
        stem = verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) else verb
        if re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]|.*[^aeiou][aeiou]p", verb):
            stem = verb + verb[-1]  # sit, sitting
        forms[(verb[:-2] + "y" if verb.endswith("ie") else stem) + "ing"] = verb, "ing"
        if verb.endswith("y") and verb[-2] not in "aeiou":
            forms[verb[:-1] + "ies"] = verb, "s"
            forms[verb[:-1] + "ied"] = verb, "past"
        else:
            sibilant = verb.endswith(("s", "x", "z", "ch", "sh", "go", "do"))
            forms[verb + ("es" if sibilant else "s")] = verb, "s"
            forms[stem + "ed"] = verb, "past"
    forms |= {past: (past, "past") for past in lexicon.PAST_FORMS}
    return forms | {verb: (verb, "base") for verb in verbs}


def _form(word: str) -> tuple[str, str]:
    """Base and kind of a word that may be a form of a verb, known or by its ending; else ""."""
    known = _verb_forms().get(word)
    if known or "-" in word:
        return known or ("", "")
    if word.endswith("ing") and re.search("[aeiouy]", word[:-3]):
        return word, "ing"
    if word.endswith("ed") and len(word) > 3 and word not in lexicon.NOT_PAST:
        return word, "past"
    return "", ""


def _is_closed(word: str) -> bool:
    """Whether a word belongs to the closed classes, which no noun phrase goes on with."""
    return word == "to" or any(
        word in words
        for words in (
            lexicon.ARTICLES,
            lexicon.PREPOSITIONS,
            lexicon.PRONOUNS,
            lexicon.BE,
            lexicon.CONJUNCTIONS,
            lexicon.QUANTIFIERS,
            lexicon.ADVERBS,
        )
    )


def _is_plural(word: str) -> bool:
    return word in lexicon.PLURALS or (
        word.endswith("s")
        and not word.endswith(("ss", "us", "is"))
        and word not in lexicon.SINGULARS_IN_S
    )


def _is_animate(word: str) -> bool:
    return (
        word in lexicon.ANIMATE
        or word.removesuffix("s") in lexicon.ANIMATE
        or _PERSON_ENDING.match(word) is not None
    )


class _Tagger:
    """Tags from left to right: each from the word's form, the tags before it, the words after it.

    Every method about a word takes its position `i` and may read `tags` of all words before it.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.tags: list[Tag] = []
        self.has_verb = False  # in the clause so far, so that the next noun is no subject

    def tag(self) -> list[Tag]:
        for i, word in enumerate(self.words):
            tag = self._tag(i, word)
            self.tags.append(tag)
            if tag in (Tag.VERB, Tag.BE) and not word.endswith("ing"):
                self.has_verb = True
            elif (
                word in lexicon.CLAUSE_OPENERS
                or word in lexicon.RELATIVES
                or word in tuple(".!?;:")
            ):
                self.has_verb = False
        return self.tags

    def _word(self, i: int) -> str:
        return self.words[i] if 0 <= i < len(self.words) else ""

    def _before(self, back: int = 1) -> Tag | None:
        return self.tags[-back] if back <= len(self.tags) else None

    def _may_be_noun(self, i: int) -> bool:
        """Whether word `i` may go on a noun phrase: a noun, or a modifier and its noun after it."""
        for at in range(i, i + _LOOK_AHEAD):
            word = self._word(at)
            if not word[:1].isalnum() or _is_closed(word):
                return False
            if word == "next" and self._word(at + 1) == "to":
                return False
            base, kind = _form(word)
            adjective = word in lexicon.ADJECTIVES
            if kind in ("ing", "past") and not adjective:
                if word in lexicon.ING_NOUNS:
                    return True
            elif kind or not adjective or word in lexicon.HEADS | lexicon.MATERIALS_AND_PLACES:
                return base not in lexicon.VERBS
        return False

    def _tag(self, i: int, word: str) -> Tag:
        if not any(letter.isalnum() for letter in word):
            return Tag.CONJUNCTION if word == "&" else Tag.PUNCTUATION
        if self._word(i + 1) == "'s" and not _is_closed(word):
            return Tag.NOUN
        return (
            self._tag_pronoun(i, word)
            or self._tag_closed(i, word)
            or self._tag_place(i, word)
            or self._tag_verb(i, word)
            or self._tag_adjective(i, word)
            or Tag.NOUN
        )

    def _tag_pronoun(self, i: int, word: str) -> Tag | None:
        """Words that are a pronoun alone and a determiner before a noun, and "'s"."""
        before, after = self._before(), self._word(i + 1)
        determines = self._may_be_noun(i + 1)
        if word == "'s":
            acts = (after.endswith("ing") and after not in lexicon.ING_NOUNS) or _is_closed(after)
            return Tag.BE if acts or before is Tag.PRONOUN else Tag.POSSESSIVE
        if word == "that":
            relative = before in (Tag.NOUN, Tag.VERB) or not determines
            return Tag.PRONOUN if relative else Tag.ARTICLE
        if word in ("her", "these", "those", "this", "whose", "what"):
            return Tag.ARTICLE if determines or after in lexicon.QUANTIFIERS else Tag.PRONOUN
        if word == "others" and before in (Tag.ARTICLE, Tag.QUANTIFIER):
            return Tag.NOUN
        if (word == "each" and after == "other") or (
            word == "other" and self._word(i - 1) == "each"
        ):
            return Tag.PRONOUN
        if word == "one" and not determines and after not in lexicon.QUANTIFIERS:
            return Tag.PRONOUN
        if word == "another" and (self._word(i - 1) == "one" or not determines):
            return Tag.PRONOUN
        return None

    def _tag_closed(self, i: int, word: str) -> Tag | None:
        """Determiners, pronouns, forms of "be", conjunctions and numbers."""
        before, after = self._before(), self._word(i + 1)
        if word in lexicon.ARTICLES:
            return Tag.ARTICLE
        if word in lexicon.PRONOUNS:
            return Tag.PRONOUN
        if word == "can":
            modal = _form(after)[1] == "base" or after in ("be", "not")
            return Tag.BE if modal and before not in _OPENS_PHRASE else Tag.NOUN
        if word in lexicon.BE:
            return Tag.BE
        if word in lexicon.CONJUNCTIONS:
            return Tag.CONJUNCTION
        if word in ("all", "both", "each", "some") and before is Tag.NOUN:
            return Tag.ADVERB  # "two men both wearing hats"
        if word in lexicon.NUMBERS and self._word(i - 1) == "number":
            return Tag.NOUN
        if (word in lexicon.NUMBERS or word == "one") and before is Tag.ADJECTIVE:
            return Tag.ADJECTIVE  # "a blue two piece suit"
        if word in lexicon.QUANTIFIERS:
            return Tag.QUANTIFIER
        if re.fullmatch(r"\d[\d.,:]*", word):
            return Tag.NOUN if before is Tag.NOUN else Tag.QUANTIFIER
        return None

    def _tag_place(self, i: int, word: str) -> Tag | None:
        """Prepositions and adverbs, and the nouns among their look-alikes ("the inside")."""
        before, after = self._before(), self._word(i + 1)
        in_phrase = before in (Tag.ARTICLE, Tag.ADJECTIVE, Tag.POSSESSIVE)
        in_phrase = in_phrase or (before is Tag.ADVERB and self._before(2) is Tag.ARTICLE)
        idiom = any(tuple(self.words[max(0, i + 1 - len(p)) : i + 1]) == p for p in _IDIOMS)
        if idiom and after != "of" and not self._may_be_noun(i + 1):
            return Tag.ADVERB
        if word in _DEPTHS and after in ("deep", "high"):
            return Tag.ADJECTIVE  # "waist deep in the water"
        for near, far in ((i - 1, i - 2), (i + 1, i + 2)):
            if self._word(far) == word and self._word(near) in ("by", "to", "in", "on", "after"):
                return Tag.ADVERB  # "side by side"
        if word in ("front", "top", "back", "between") and after == "of":
            if before is Tag.PREPOSITION:
                return Tag.PREPOSITION  # "in front of"
        elif word in ("inside", "outside", "past", "round", "opposite", "overhead") and in_phrase:
            return Tag.ADJECTIVE if self._may_be_noun(i + 1) else Tag.NOUN
        elif word in ("well", "fast", "hard", "high", "far", "near", "nearby", "overhead"):
            opens = in_phrase or before in (Tag.PREPOSITION, Tag.QUANTIFIER, Tag.VERB)
            if opens and self._may_be_noun(i + 1):
                return Tag.ADJECTIVE
        if word == "back":
            return Tag.NOUN if in_phrase or before is Tag.PREPOSITION else Tag.ADVERB
        if word == "home":
            return Tag.ADVERB if before is Tag.VERB else Tag.NOUN
        if word == "next":
            return Tag.PREPOSITION if after == "to" else Tag.ADJECTIVE
        if word == "close" and after in ("up", "to"):
            return Tag.NOUN if after == "up" else Tag.ADVERB
        if word == "up" and self._word(i - 1) == "close":
            return Tag.NOUN  # "a close up of a cat"
        if word == "down" and self._word(i - 1) == "upside":
            return Tag.ADJECTIVE
        if word == "right" and not in_phrase and before is not Tag.PREPOSITION:
            return Tag.ADVERB if after == "next" or after in lexicon.PREPOSITIONS else None
        if word in lexicon.PREPOSITIONS:
            return Tag.PREPOSITION
        in_ly = word.endswith("ly") and word not in lexicon.LY_WORDS | lexicon.ADJECTIVES
        return Tag.ADVERB if in_ly or word in lexicon.ADVERBS else None

    def _tag_verb(self, i: int, word: str) -> Tag | None:
        """VERB, or ADJECTIVE or NOUN for a participle that is used so; None for other words."""
        before, word_before, after = self._before(), self._word(i - 1), self._word(i + 1)
        base, kind = _form(word)
        if word_before == "to" and kind not in ("ing", "s"):
            if after in lexicon.ARTICLES or after in lexicon.PRONOUNS:
                return Tag.VERB  # "to free the dog"
        elif word in lexicon.ADJECTIVES and kind in ("ing", "past") and before is not Tag.NOUN:
            return None
        elif word_before in lexicon.SUBJECTS:
            return Tag.VERB
        elif word_before in lexicon.COLORS and self._word(i - 2) in _CLOTHED and kind:
            if after in lexicon.ARTICLES:
                return Tag.VERB  # "a man in black climbs a wall"
        elif before is Tag.ADVERB and self._before(2) is Tag.ARTICLE and kind != "ing":
            if self._may_be_noun(i + 1):
                return Tag.ADJECTIVE  # "a freshly cut lawn"
        elif after in lexicon.ARTICLES and before is Tag.NOUN and not _is_plural(word_before):
            if _is_plural(word) and kind != "ing":
                return Tag.VERB  # "extinguishes a fire": no noun phrase goes on with an article
        elif after in lexicon.SPORTS.get(word, ()) and (
            before is Tag.BE or _is_animate(word_before)
        ):
            return Tag.VERB  # "a man rock climbing"
        if kind == "ing":
            return self._tag_ing(i, word)
        if kind == "past" or (word == "set" and after in lexicon.PREPOSITIONS and after != "of"):
            return self._tag_past(i, word)
        return Tag.VERB if kind and self._is_verb(i, base, kind) else None

    def _is_verb(self, i: int, base: str, kind: str) -> bool:
        """Whether a base form or an -s form is the verb of its clause rather than a noun."""
        before, word_before, after = self._before(), self._word(i - 1), self._word(i + 1)
        verb_first = base not in lexicon.NOUNS_OR_VERBS
        if before in (None, Tag.ARTICLE, Tag.POSSESSIVE) or (
            before is Tag.ADJECTIVE and self._before(2) is not Tag.BE
        ):
            return False
        if before is Tag.QUANTIFIER:
            return kind == "s" and verb_first and word_before in ("another", "each", "one")
        if before is Tag.PRONOUN:
            return True
        before_last = self._word(i - 2)
        if word_before in lexicon.MODALS or (
            before is Tag.ADVERB and before_last in lexicon.MODALS
        ):
            follows = after in lexicon.PREPOSITIONS or after in lexicon.PRONOUNS
            return (
                kind == "base" and before_last not in ("next", "close") and (verb_first or follows)
            )
        if base in lexicon.VERBS:
            return before is not Tag.PREPOSITION or word_before in lexicon.CLAUSE_OPENERS
        if before is Tag.NOUN:
            return self._is_verb_of_subject(i, kind, verb_first)
        if before is Tag.ADVERB:
            return (verb_first or kind == "s") and not self.has_verb
        if before is Tag.CONJUNCTION or (word_before == "," and kind == "s"):
            return verb_first and (_is_closed(after) or (self.has_verb and kind == "s"))
        return word_before == "," and verb_first and _is_closed(after) and not self.has_verb

    def _is_verb_of_subject(self, i: int, kind: str, verb_first: bool) -> bool:
        """The same straight after a noun, of which the word may be the verb or the head."""
        word_before, after = self._word(i - 1), self._word(i + 1)
        if after in lexicon.BE and after not in ("being", "been"):
            return False
        start = i - 1
        while start > max(0, i - _LOOK_AHEAD) and self.tags[start - 1] in _IN_PHRASE:
            start -= 1
        governor = self.tags[start - 1] if start else None
        governed = governor is Tag.VERB or (  # "holds a hat", "in a hat"
            governor is Tag.PREPOSITION and self._word(start - 1) not in lexicon.CLAUSE_OPENERS
        )
        plural, animate = _is_plural(word_before), _is_animate(word_before)
        if after in lexicon.ARTICLES and plural == (kind == "base"):
            return True  # "cars crowd a street"
        if kind == "base":
            if governor is Tag.VERB and verb_first and animate and not self._may_be_noun(i + 1):
                return True  # "watches a boy jump"
            if word_before in lexicon.COLLECTIVES:
                return not governed and verb_first
            several = plural or self._word(start) in lexicon.NUMBERS
            several = several or (governor is Tag.CONJUNCTION and animate)
            return several and word_before != "sports" and (verb_first or animate)
        if plural:
            return verb_first and not self.has_verb
        determined = self.tags[start] in (Tag.ARTICLE, Tag.QUANTIFIER)
        if verb_first:
            return determined or not (governed and self.has_verb)
        if governed:
            return determined and not self.has_verb and after in lexicon.ARTICLES
        return (
            animate
            or self._word(start) in ("a", "an")
            or (determined and after in lexicon.ARTICLES)
        )

    def _tag_ing(self, i: int, word: str) -> Tag:
        """VERB for "riding", ADJECTIVE for "running water", NOUN for "building"."""
        before, word_before, after = self._before(), self._word(i - 1), self._word(i + 1)
        noun_after = self._may_be_noun(i + 1)
        if word in lexicon.ING_NOUNS:
            has_object = after in lexicon.ARTICLES or after in lexicon.QUANTIFIERS
            acts = (before in (Tag.BE, Tag.NOUN) and has_object) or (
                before is Tag.BE and not noun_after
            )
            return Tag.VERB if acts else Tag.NOUN
        if word in lexicon.PURPOSES and noun_after and not _is_plural(word_before):
            if before is Tag.NOUN:
                opens = word in lexicon.ROOM_PURPOSES and not _is_animate(word_before)
            else:
                coordinated = before is Tag.CONJUNCTION and self._before(2) is Tag.VERB
                opens = not coordinated and before not in (Tag.PUNCTUATION, Tag.VERB, Tag.BE)
            if opens:
                return Tag.ADJECTIVE  # "a dining table"
        if word_before in ("other", "all", "both"):
            return Tag.VERB  # "one sitting, the other riding bikes"
        if before in (Tag.ARTICLE, Tag.POSSESSIVE):
            return Tag.ADJECTIVE if noun_after else Tag.NOUN
        if before is Tag.ADJECTIVE:
            modifies = noun_after and self._before(2) not in (Tag.BE, Tag.PREPOSITION)
        elif before is Tag.ADVERB:
            modifies = noun_after and self._before(2) is Tag.ARTICLE
        elif before is Tag.PREPOSITION:
            place = word_before in ("with", "of", "in", "near", "behind")
            plural = _is_plural(after) or _is_plural(self._word(i + 2))
            modifies = noun_after and place and plural
        else:
            modifies = noun_after and before in (None, Tag.QUANTIFIER)
        return Tag.ADJECTIVE if modifies else Tag.VERB

    def _tag_past(self, i: int, word: str) -> Tag:
        """VERB, or ADJECTIVE where a noun comes after and a verb has no place before."""
        before, noun_after = self._before(), self._may_be_noun(i + 1)
        if before is Tag.NOUN:
            if not (word in lexicon.PARTICIPLES_AFTER_NOUNS and noun_after):
                return Tag.VERB
            self.tags[-1] = Tag.ADJECTIVE  # "a snow covered mountain"
            return Tag.ADJECTIVE
        if before is Tag.ADVERB:
            verbal = self._before(2) in (None, Tag.PRONOUN, Tag.NOUN, Tag.BE)
        elif before is Tag.CONJUNCTION:
            verbal = self._before(2) not in (Tag.ADJECTIVE, Tag.NOUN)
        else:
            verbal = before is Tag.PRONOUN or (
                before is Tag.BE and not _is_plural(self._word(i + 1))
            )
        return Tag.ADJECTIVE if noun_after and not verbal else Tag.VERB

    def _tag_adjective(self, i: int, word: str) -> Tag | None:
        """ADJECTIVE for known ones, by ending or by place; NOUN where such a word is the head."""
        before, word_before, after = self._before(), self._word(i - 1), self._word(i + 1)
        noun_after = self._may_be_noun(i + 1)
        if word == "old" and re.fullmatch("(?:year|month|week|day)s?", word_before):
            self.tags[-1] = Tag.ADJECTIVE  # "a two year old boy"
            return Tag.ADJECTIVE
        if word in lexicon.COLORS and word_before in _CLOTHED:
            acts = _form(after)[0] and self._word(i + 2) in lexicon.ARTICLES
            if acts or not noun_after:
                return Tag.NOUN  # "a man in black"
        if word in lexicon.SHADES and after in lexicon.COLORS:
            return Tag.ADJECTIVE  # "navy blue"
        if word == "orange" and self._word(i + 2) in lexicon.COLORS:
            return Tag.ADJECTIVE  # "an orange and white cat"
        if word in lexicon.HEADS and not noun_after and before in _OPENS_PHRASE:
            return Tag.NOUN
        if word in lexicon.MATERIALS_AND_PLACES:
            modifies = noun_after and before is not Tag.NOUN and _form(after)[1] != "ing"
            return Tag.ADJECTIVE if modifies or before is Tag.BE else Tag.NOUN
        if _form(word)[0] and not noun_after and before not in (Tag.BE, Tag.ADVERB):
            return None  # "a street light"
        known = (
            word in lexicon.ADJECTIVES
            or (_ADJECTIVE_ENDING.match(word) is not None and word not in lexicon.NOT_ADJECTIVES)
            or _ADJECTIVE_TAIL.match(word) is not None
            or (word.startswith("un") and _form(word[2:])[1] == "past")
        )
        if "-" in word:
            last = word.rsplit("-", 1)[1]
            known = known or last in lexicon.ADJECTIVES or _form(last)[1] == "ing"
        # "is lumpy": of a word we do not know.
        predicate = before is Tag.BE and word.endswith("y") and not noun_after
        return Tag.ADJECTIVE if known or predicate else None
