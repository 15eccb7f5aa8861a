"""What docs/adaptation.md says besides its commands, which tests/test_pages.py runs."""

import re

import yaml

from glip.settings import from_dict
from glip.tuning.options import RATES
from glip.tuning.wording import Wordings
from tests.pages import DOCS, blocks

PAGE = DOCS / "adaptation.md"


def test_file_of_wordings_is_valid():
    (text,) = [block.text for block in blocks(PAGE) if block.title == "words.yaml"]
    assert from_dict(Wordings, yaml.safe_load(text)).negatives == ("camera",)


def test_table_has_every_way_with_its_rate():
    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| [^|]+ \| ([\de.-]+)[ ,]",
            PAGE.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
    assert {mode: float(rate) for mode, rate in rows.items()} == {
        mode: rates.lr for mode, rates in RATES.items()
    }
