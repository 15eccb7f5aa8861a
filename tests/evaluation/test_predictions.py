"""Files of predictions."""

import json

import numpy as np
import pytest

from glip.errors import ConfigError, DataError
from glip.evaluation.predictions import (
    PredictionWriter,
    prediction,
    read_predictions,
    read_settings,
    write_predictions,
)

SETTINGS = {"weights": "a.pth", "options": {"nms": 0.6}}


def some(count=3):
    rng = np.random.default_rng(0)
    return [
        prediction(f"é{i}", rng.uniform(0, 999, (i, 4)), rng.uniform(0, 1, i), np.arange(i))
        for i in range(count)
    ]


def assert_same(one, two):
    assert one.image_id == two.image_id and one.error == two.error
    for a, b in zip(one[1:4], two[1:4], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_every_float_comes_back_exactly(tmp_path):
    path = write_predictions(some(), tmp_path / "p.jsonl", SETTINGS)
    for one, two in zip(some(), read_predictions(path), strict=True):
        assert_same(one, two)
    assert read_settings(path) == SETTINGS
    assert len(list(tmp_path.iterdir())) == 1


def test_unfinished_last_line_is_left_out_and_cut_off(tmp_path):
    path = tmp_path / "p.jsonl"
    with PredictionWriter(path, SETTINGS) as writer:
        for one in some(2):
            writer.write(one)
    whole = path.read_text()
    path.write_text(whole + '{"image_id": "x", "boxes": [[1, 2')
    assert len(list(read_predictions(path))) == 2
    with PredictionWriter(path, SETTINGS) as writer:
        writer.write(some()[2])
    assert [one.image_id for one in read_predictions(path)] == ["é0", "é1", "é2"]


def test_unfinished_first_line_starts_anew(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"format": "gli')
    with PredictionWriter(path, SETTINGS) as writer:
        writer.write(some()[1])
    assert len(list(read_predictions(path))) == 1


def test_other_settings_are_refused_by_name(tmp_path):
    path = write_predictions(some(), tmp_path / "p.jsonl", SETTINGS)
    with pytest.raises(ConfigError, match=r'weights was "a.pth", is "b.pth". Take another'):
        PredictionWriter(path, SETTINGS | {"weights": "b.pth"})


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "p.jsonl"
    with pytest.raises(DataError, match="cannot be opened"):
        list(read_predictions(path))
    path.write_text("hello\n")
    with pytest.raises(DataError, match="is no predictions file"):
        list(read_predictions(path))
    path.write_text(json.dumps({"format": "other", "settings": {}}) + "\n")
    with pytest.raises(DataError, match="has format 'other'"):
        read_settings(path)
    write_predictions(some(1), path, SETTINGS)
    path.write_text(path.read_text() + '{"image_id": 3}\n')
    with pytest.raises(DataError, match=r"p.jsonl:3 is no prediction"):
        list(read_predictions(path))


def test_names_that_are_no_unicode_come_back(tmp_path):
    one = prediction(1, [], [], [], "\udcff.jpg cannot be read")
    path = write_predictions([one], tmp_path / "p.jsonl", SETTINGS)
    assert [found.error for found in read_predictions(path)] == [one.error]
