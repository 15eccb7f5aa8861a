"""What the pages of the docs tell people to do works, from top to bottom, on a tiny model."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from glip.cli.main import parser_of
from tests.pages import DOCS, NOT_RUN, ROOT, blocks, commands, run_page

RUN: Mapping[str, Sequence[str]] = {
    "adaptation": [
        "runs/coins/task.prompt.safetensors",
        "runs/full/tuned.safetensors",
        "words/report.html",
        "runs/odinw/results.md",
    ],
    "data": ["samples/val.json"],
    "evaluation": ["measured/report.html", "labelled/next.txt"],
    "index": ["found.jpg"],
    "labelling": [
        "labelled/next.txt",
        "by-ontology/coco/annotations.json",
        "layouts.jsonl",
        "raccoon/from_model/results.json",
        "raccoon/from_people/results.json",
        "from_drawn/results.json",
    ],
    "pseudo_grounding": ["strict/report.html", "runs/student/report.html"],
    "python": ["labelled/yolo/data.yaml", "measured/report.html", "runs/mine/report.html"],
}
"""Pages that are run here, whole, and what is there afterwards."""
OTHERS = {
    "contributing": "../.ci/run",
    "deploy": "serve/test_deploy_page.py",
    "export": "exporting/test_export_page.py",
    "transformers": "test_transformers_page.py",
    "video": "test_video_page.py",
}
"""Those that need more than samples and a model, and where they are run."""
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]


@pytest.mark.whole
@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", RUN)
def test_the_page_runs_from_top_to_bottom(
    name: str, monkeypatch: pytest.MonkeyPatch, make_picture: Callable[..., Image.Image]
) -> None:
    make_picture().save("photo.jpg")
    run_page(DOCS / f"{name}.md", monkeypatch)
    assert [path for path in RUN[name] if not Path(path).exists()] == []


def test_every_page_with_something_to_run_is_run() -> None:
    pages = {path.stem for path in DOCS.glob("*.md") if any(b.is_run for b in blocks(path))}
    assert pages <= {*RUN, *OTHERS}
    assert all((ROOT / "tests" / test).is_file() for test in OTHERS.values())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_not_run_has_a_reason_and_is_understood(path: Path) -> None:
    for block in blocks(path):
        if not block.mark.startswith(NOT_RUN):
            continue
        assert block.kind in ("bash", "python") and len(block.mark) > len(NOT_RUN) + 10, block
        for line in commands(block.text):
            program, name, *words = shlex.split(line)
            if program == "glip":
                assert parser_of(name).parse_intermixed_args(words)
