"""`glip evaluate`: what it hands to the function, and what it prints."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from glip import api
from glip.cli.main import main

WORDS = ["evaluate", "--task", "coco", "--data", "train.json"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the function was given; its answer is under "answer"."""
    seen: dict[str, Any] = {"answer": api.Result({}, "AP  42.0", Path("out"))}

    @functools.wraps(api.evaluate)
    def evaluate(data: Any, **options: Any) -> Any:
        seen.update(options, data=data)
        return seen["answer"]

    monkeypatch.setattr(api, "evaluate", evaluate)
    return seen


def test_the_table_is_printed_and_the_file_named(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--limit", "3", "--standard-ap"]) == 0
    assert capsys.readouterr() == ("AP  42.0\n", "written: out/results.json\n")


def test_the_report_is_named_where_there_is_one(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["answer"] = api.Result({"worst_photos": []}, "AP", Path("out"))
    assert main(["evaluate", "--data", "train.json"]) == 0
    assert asked["task"] == "custom"
    assert capsys.readouterr().err == "written: out/results.json, out/report.html\n"


def test_pictures_that_could_not_be_read_are_exit_code_1(asked: dict[str, Any]) -> None:
    asked["answer"] = api.Result({"unreadable": {"3": "is empty"}}, "AP", Path("out"))
    assert main(WORDS) == 1


def test_other_processes_say_nothing(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["answer"] = None
    assert main(WORDS) == 0
    assert capsys.readouterr() == ("", "")
