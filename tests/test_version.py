"""One version, wherever it is said."""

import re
from pathlib import Path

import glip
from glip.version import __version__

ROOT = Path(__file__).parents[1]


def test_version_is_the_same_everywhere() -> None:
    assert glip.__version__ == __version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.MULTILINE)
    citation = re.search(
        r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert newest and newest[1] == __version__
    assert citation and citation[1] == __version__
