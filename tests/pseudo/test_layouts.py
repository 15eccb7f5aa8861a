"""Layouts for generators, by hand."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.odvg import write_grounding
from glip.data.records import GroundingRecord
from glip.errors import ConfigError
from glip.pseudo.layouts import layout, write_layouts

CAPTION = "a cat on a red mat"


def record(*rows: tuple[int, tuple[float, ...], float]) -> GroundingRecord:
    """(phrase, box, score) in a picture of 200 x 100 pixels."""
    return GroundingRecord(
        image_id=1,
        file_name="a.jpg",
        image_hw=(100, 200),
        caption=CAPTION,
        phrases=(((2, 5),), ((11, 14), (15, 18))),
        boxes=np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4),
        owners=np.array([phrase for phrase, _, _ in rows], dtype=np.int64),
        scores=np.array([score for _, _, score in rows], dtype=np.float32),
    )


def test_phrases_and_shares_of_the_picture_surest_first() -> None:
    found = layout(record((0, (20, 10, 100, 50), 0.5), (1, (-20, 50, 220, 100), 0.75)))
    assert found == {
        "image": "a.jpg",
        "caption": CAPTION,
        "phrases": ["red mat", "cat"],
        "boxes": [[0.0, 0.5, 1.0, 1.0], [0.1, 0.1, 0.5, 0.5]],  # clipped
    }


def test_what_is_left_out() -> None:
    rows = [(0, (0, 0, 10, 10), 0.5), (0, (0, 0, 20, 20), 0.25), (1, (250, 0, 300, 9), 0.9)]
    assert layout(record(*rows), min_score=0.5)["boxes"] == [[0, 0, 0.05, 0.1]]  # type: ignore[index]
    assert len(layout(record(*rows), most=1)["boxes"]) == 1  # type: ignore[index]
    assert layout(record(*rows), min_score=0.6) is None
    assert layout(record()) is None


def test_the_script_reads_pseudo_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_grounding([record((0, (0, 0, 100, 100), 0.5)), record()], tmp_path / "a.jsonl")
    script = Path(__file__).parents[2] / "tools" / "export_layouts.py"
    for argv, code, said in (
        ([str(source)], 0, "1 layouts of 2 captions"),
        ([str(tmp_path / "none.jsonl")], 2, "error: "),
    ):
        monkeypatch.setattr(sys, "argv", [str(script), *argv, str(tmp_path / "out.jsonl")])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(script), run_name="__main__")
        assert stopped.value.code == code
        assert said in capsys.readouterr().err
    [line] = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["boxes"] == [[0.0, 0.0, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("options", "message"), [({"min_score": 2}, "got 2"), ({"most": 0}, "got 0")]
)
def test_options_out_of_range(options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write_layouts([], tmp_path / "out.jsonl", **options)
