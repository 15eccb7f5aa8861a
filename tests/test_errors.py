"""One family of errors, each also what a Python programmer would expect."""

import pytest

import glip
from glip import errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.GlipError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_caught_by_the_family_and_says_what_it_is_for(kind: type) -> None:
    assert issubclass(kind, glip.GlipError)
    assert kind.__doc__
    with pytest.raises(glip.GlipError, match="the value and the way out"):
        raise kind("the value and the way out")


@pytest.mark.parametrize(
    ("kind", "usual"),
    [
        (errors.PromptError, ValueError),
        (errors.ImageError, OSError),
        (errors.ConfigError, ValueError),
        (errors.CheckpointError, RuntimeError),
        (errors.DeviceError, RuntimeError),
        (errors.DataError, ValueError),
        (errors.StorageError, OSError),
    ],
)
def test_code_that_handles_the_usual_errors_keeps_working(kind: type, usual: type) -> None:
    assert issubclass(kind, usual)


def test_a_message_lists_the_first_of_many() -> None:
    assert errors.listed(["a", "b"], 2) == "a, b"
    assert errors.listed(["a", "b", "c"], 2, separator="; ", of=" names") == "a; b and 1 more names"
