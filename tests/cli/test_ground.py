"""`glip ground`: with which exit code it ends; its work is tested in `pseudo/test_ground.py`."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from glip import api
from glip.cli.main import main
from glip.pseudo.config import REJECTED
from glip.pseudo.summary import Summary


@pytest.mark.parametrize(
    ("all_of_them", "newly", "strict", "code"),
    [(0, 0, False, 0), (2, 1, False, 1), (2, 0, False, 0), (2, 0, True, 1), (0, 0, True, 0)],
)
def test_rejected_pictures_count_in_the_run_that_rejects_them(
    all_of_them: int,
    newly: int,
    strict: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = {REJECTED: all_of_them} if all_of_them else {}
    summary = Summary(entries, 1, {}, 1, 1, 1, 1, 1, [0] * 10, [], newly)

    @functools.wraps(api.ground_captions)
    def ground_captions(captions: list[str], out: str, **options: object) -> Summary:
        assert (captions, out, options["overrides"]) == (["a.json"], str(tmp_path), ["x=1"])
        return summary

    monkeypatch.setattr(api, "ground_captions", ground_captions)
    words = ["ground", "--captions", "a.json", "--out", str(tmp_path), "--set", "x=1"]
    assert main([*words, *(["--strict"] if strict else [])]) == code
    out, err = capsys.readouterr()
    assert "phrases" in out and f"written: {tmp_path / 'data'}" in err
