"""What docs/adaptation.md tells people to type is understood."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from glip.cli.main import parser_of
from glip.settings import from_dict
from glip.tuning.options import RATES
from glip.tuning.wording import Wordings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adaptation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
LINES = [
    line
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.replace("\\\n", " ").splitlines()
]


@pytest.mark.parametrize("line", LINES)
def test_command_is_understood(line, monkeypatch):
    program, name, *words = shlex.split(line)
    if program == "glip":
        assert parser_of(name).parse_intermixed_args(words)
        return
    monkeypatch.setattr(sys, "argv", [name, *words])
    assert runpy.run_path(str(ROOT / name))["parse"]()


def test_file_of_wordings_is_valid():
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    assert from_dict(Wordings, yaml.safe_load(text)).negatives == ("cat",)


def test_table_has_every_way_with_its_rate():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\de.-]+)[ ,]", PAGE, re.MULTILINE))
    assert {mode: float(rate) for mode, rate in rows.items()} == {
        mode: rates.lr for mode, rates in RATES.items()
    }
