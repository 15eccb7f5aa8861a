"""What a page of the docs tells people to do, done as a test.

A page is its fenced blocks, in order: `bash` and `python` are run, a block of another language
with a title (```` ```yaml title="things.yaml" ````) is a file that the reader saves. A block that
cannot be run here says why in a comment above it, which readers do not see:

    <!-- not run: asks for several GPUs -->

and one that asks for a package of an extra names it, and is run where the package is:

    <!-- needs: accelerate -->

Commands run in this process, with a small model under the names of the real ones, and with fewer
steps than a reader takes: `FEWER` is the one place that says how.
"""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import glip
from glip.cli import main as cli
from glip.samples import SAMPLE_SET

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
NOT_RUN, NEEDS = "not run: ", "needs: "

_ONE_STEP = ("--steps", "1", "--evaluations", "1", "--limit", "2")
FEWER: Mapping[str, Sequence[str]] = {
    "glip train": ("steps=1", "data.workers=0"),
    "tools/train_net.py": ("steps=1", "data.workers=0"),
    "glip tune": (*_ONE_STEP, "--batch-size", "1"),
    "glip prompts": ("--shots", "1"),
    "tools/odinw.py": (*_ONE_STEP, "--modes", "prompt", "--shots", "1", "--seeds", "3"),
    "demo/closed_set.py": ("--epochs", "1", "--short-side", "160"),
}
"""What is put behind a command, so that it is done in a second."""
EXIT: Mapping[str, Sequence[int]] = {"glip doctor": (0, 1)}
"""Exit codes that are right, if others than 0: what the doctor says is not a page's matter."""


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    """Its language, "" for none."""
    text: str
    mark: str
    """The comment above it, "" for none."""
    title: str
    """Name of the file that it is, "" for none."""

    @property
    def is_run(self) -> bool:
        """Whether a reader runs it, and this machine can."""
        if self.mark.startswith(NEEDS):
            return importlib.util.find_spec(self.mark.removeprefix(NEEDS)) is not None
        return self.kind in ("bash", "python") and not self.mark.startswith(NOT_RUN)


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, f"{path.name} has a fence that is not closed"
    found = [one.groupdict(default="") for one in FENCE.finditer(text)]
    return [Block(one["kind"], one["text"], one["mark"], one["title"]) for one in found]


def commands(text: str) -> list[str]:
    """The command lines of a bash block, each on one line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def run_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do what a page says, from top to bottom, in this folder; the names that its Python makes."""
    _take_fewer_steps(monkeypatch)
    names: dict[str, Any] = {}
    for block in blocks(path):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.is_run and block.kind == "python":
            exec(compile(block.text, path.name, "exec"), names)
        elif block.is_run:
            for line in commands(block.text):
                run_command(line, monkeypatch)
    return names


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command line of a page: `glip ...`, or `python` with a script of the repository."""
    program, name, *words = shlex.split(line, comments=True)
    what = f"glip {name}" if program == "glip" else name
    words += FEWER.get(what, ())
    if program == "glip":
        code = cli.main([name, *words])
    elif what == "tools/prepare_data.py":
        code = _lay_out(words)
    else:
        assert program == "python" and (ROOT / name).is_file(), f"cannot run `{line}`: say why"
        code = _run_script(ROOT / name, words, monkeypatch)
    assert code in EXIT.get(what, (0,)), f"{line}: exit code {code}"


def _run_script(path: Path, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *words])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as left:
            return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0


def _take_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for functions as `FEWER` does for commands."""
    train, tune = glip.train, glip.tune

    def short_train(*args: Any, overrides: Sequence[str] = (), **options: Any) -> Any:
        return train(*args, overrides=[*overrides, *FEWER["glip train"]], **options)

    def short_tune(*args: Any, **options: Any) -> Any:
        return tune(*args, **{**options, "steps": 1, "evaluations": 1, "batch_size": 1})

    monkeypatch.setattr(glip, "train", short_train)
    monkeypatch.setattr(glip, "tune", short_tune)


def _lay_out(words: Sequence[str]) -> int:
    """In place of a download, the samples in the layout that `tools/prepare_data.py` leaves."""
    known = importlib.import_module("prepare_data").DATA_SETS
    name, target = words[0], Path(words[words.index("--out") + 1])
    assert name in known, name
    if name.startswith("odinw-"):
        for part, folder in (("train", "train"), ("val", "valid")):
            place = target / "odinw" / "Raccoon" / "Raccoon.v2-raw.coco" / folder
            _part(place, part, place / "annotations_without_background.json", name="raccoon")
        return 0
    count = words[words.index("--limit") + 1]
    part = {"coco-val2017": "val", "coco-train2017": "train"}[name]
    boxes = target / "coco" / "annotations" / f"instances_{part}2017_first{count}.json"
    _part(target / "coco" / f"{part}2017", part, boxes)
    return 0


def _part(folder: Path, part: str, boxes: Path, *, name: str | None = None) -> None:
    """One part of the samples: pictures in a folder, boxes in a file; all of one class, or not."""
    for place in (folder, boxes.parent):
        place.mkdir(parents=True, exist_ok=True)
    for picture in (SAMPLE_SET / "images").glob(f"{part}-*.jpg"):
        shutil.copy(picture, folder / picture.name)
    content = json.loads((SAMPLE_SET / f"{part}.json").read_text(encoding="utf-8"))
    for image in content["images"]:
        image["file_name"] = Path(image["file_name"]).name
    if name is not None:
        content["categories"] = [{"id": 1, "name": name}]
        for box in content["annotations"]:
            box["category_id"] = 1
    boxes.write_text(json.dumps(content), encoding="utf-8")
