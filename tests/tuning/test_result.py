"""A result in a few words."""

import json

import pytest

from glip.tuning.result import in_words, write_page

RESULT = {
    "selection": {"image_ids": [1, 2, 3], "boxes": {"red": 4, "green": 2}},
    "settings": {"limit": None, "data": "sets/squares", "mode": "lora"},
    "base": {"AP": 0.25, "AP50": 0.5},
    "tuned": {"AP": 0.75, "AP50": 1.0, "per_class": {"red": 0.7}},
    "lr": {"tried": {"0.1": 0.75}, "chosen": 0.1},
    "interpolated": [],
}


def test_what_was_gained_is_said_in_per_cent():
    words = in_words(RESULT)
    assert words["learned from"] == "3 pictures, 6 boxes"
    assert words["AP"] == "25.0 before, 75.0 after"
    assert words["AP50"] == "50.0 before, 100.0 after"
    assert not {"advice", "rates", "on", "other words"} & set(words)


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"tuned": {"AP": 0.1, "AP50": 0.2}}, "advice", "the base model is better"),
        ({"settings": {"limit": 5}}, "on", "the first 5 pictures only"),
        ({"lr": {"tried": {"0.1": 0.5, "1": None}, "chosen": 0.1}}, "rates", "0.1: 50.0, 1: -"),
        ({"retention": {"base": {"AP": 0.5}, "tuned": {"AP": 0.4}}}, "other words", "40.0 after"),
        (
            {"interpolated": [{"share": 0.5, "tuned": {"AP": 0.6}, "retention": {"AP": 0.45}}]},
            "share 0.5",
            "60.0, other words 45.0",
        ),
    ],
)
def test_what_else_is_to_be_known_is_said(change, name, said):
    assert said in in_words({**RESULT, **change})[name]


def test_result_without_an_evaluation_says_what_was_learned_from_only():
    assert set(in_words({**RESULT, "base": None, "tuned": None})) == {"learned from"}


def test_page_holds_words_classes_and_settings(tmp_path):
    run = tmp_path / "lr_0.1"
    run.mkdir()
    rows = [{"step": n, "loss/total": 1 / n, "lr": 0.1} for n in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_page(tmp_path, RESULT, [])
    page = (tmp_path / "report.html").read_text()
    assert "squares: lora" in page and "25.0 before, 75.0 after" in page
    assert "AP of each class" in page and "<svg" in page
