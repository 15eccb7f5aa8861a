"""docs/deploy.md: its questions get answers, its command lines are understood."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.cli import serve
from glip.cli.main import parser_of
from glip.serve.options import ServeOptions

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:8000"
ASKED = PAGE.split("<!-- asked -->\n```bash\n")[1].split("```")[0].splitlines()
BASH = [
    line for text in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()
]


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_picture: Callable[..., Image.Image]
) -> Path:
    """A folder with the pictures that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("street.jpg", "beach.jpg")):
        make_picture(160, 120, seed=number).save(name)
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks with curl")
@pytest.mark.parametrize("line", ASKED)
def test_questions(line: str, address: str, desk: Path) -> None:
    assert HERE in line
    words = [*shlex.split(line.replace(HERE, address)), "--silent", "--show-error", "--fail"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "found.png" in line:
        assert Image.open("found.png").size == (160, 120)
    else:
        assert json.loads(done.stdout)


def test_python_of_the_page(address: str, desk: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet.replace(HERE, address), "deploy.md", "exec"), names)
    assert isinstance(names["found"], list)


@pytest.mark.parametrize("line", [line for line in BASH if "glip serve" in line])
def test_command_lines_of_the_server(
    line: str, monkeypatch: pytest.MonkeyPatch, desk: Path
) -> None:
    Path("key.txt").write_text("abc\n")
    begun: list[ServeOptions] = []
    monkeypatch.setattr(serve, "start", lambda options: begun.append(options) or 0)
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert words[:2] == ["glip", "serve"]
    assert serve.run(parser_of("serve").parse_args(words[2:])) == 0
    assert len(begun) == 1


def test_files_that_the_page_names_are_there() -> None:
    for path in set(re.findall(r"(?:deploy|demo)/[\w./]+", PAGE)):
        assert (ROOT / path).exists(), path


def test_statuses_of_the_page_are_those_of_the_interface() -> None:
    from glip.serve.api import REFUSED

    table = PAGE.split("## What it refuses")[1].split("##")[0]
    told = {
        int(status)
        for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for status in row.split(",")
    }
    assert told == set(REFUSED) - {500}
