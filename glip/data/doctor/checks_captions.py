"""What may be wrong with the captions of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from glip.data.doctor.subject import Check, Subject


def _long_captions(subject: Subject) -> Iterator[str]:
    for record in subject.grounding.records:
        # No token is shorter than a character, so most captions need no look.
        if len(record.caption) > subject.max_tokens - 2:
            count = len(subject.tokenizer.encode(record.caption))
            if count > subject.max_tokens:
                yield f"image {record.image_id} needs {count} tokens"


CHECKS: tuple[Check, ...] = (
    Check(
        "long captions",
        "captions longer than the text encoder takes",
        "They are trained in parts.",
        _long_captions,
        kinds=("grounding",),
        level="note",
    ),
)
