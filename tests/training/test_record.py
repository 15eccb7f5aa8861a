import json
import os

import pytest

from glip.training.loop import StepReport
from glip.training.record import Recorder, peak_memory, read_records


def report(step, loss=1.0):
    return StepReport(step, {"box": loss, "total": loss}, 1e-4, 2.0, 0.5, 0.1)


def test_numbers_are_lines_of_json(tmp_path):
    with Recorder(tmp_path, steps=4, pictures=8) as recorder:
        recorder.step(report(2))
        recorder.evaluation(2, {"AP": 0.5})
    one, two = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (one["step"], one["loss/box"], one["lr"]) == (2, 1.0, 1e-4)
    assert one["pictures_per_second"] == 16
    assert two == {"step": 2, "evaluation/AP": 0.5}


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    with Recorder(tmp_path, steps=4) as recorder:
        for step in (1, 2, 3):
            recorder.step(report(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "cut o')
    with Recorder(tmp_path, steps=4, start=2) as recorder:
        recorder.step(report(3))
    assert [row["step"] for row in read_records(tmp_path)] == [1, 2, 3]


def test_numbers_that_are_none_are_null(tmp_path):
    with Recorder(tmp_path, steps=1) as recorder:
        recorder.step(report(1, float("nan")))
    assert read_records(tmp_path)[0]["loss/box"] is None


def test_progress_shows_losses_and_memory(tmp_path, capsys):
    with Recorder(tmp_path, steps=4) as recorder:
        recorder.advance()
        recorder.advance()
        recorder.step(report(2, 0.125))
    shown = capsys.readouterr().err
    assert "2/4" in shown
    assert "box 0.125" in shown
    assert "GiB" in shown


def test_whoever_asks_is_told_of_the_steps_in_the_place_of_a_bar(tmp_path, capsys):
    told = []
    with Recorder(tmp_path, steps=4, start=1, progress=told.append) as recorder:
        recorder.advance()
        recorder.advance()
        recorder.step(report(3, 0.125))
    assert [(step.what, step.done, step.total, step.unit) for step in told] == [
        ("training", done, 4, "step") for done in (1, 2, 3)
    ]
    assert not capsys.readouterr().err
    assert [row["step"] for row in read_records(tmp_path)] == [3]


def test_memory_is_in_gibibytes():
    assert 0.05 < peak_memory() < 1000


def test_no_records(tmp_path):
    assert read_records(tmp_path) == []


def test_a_folder_whose_name_is_no_unicode_has_no_curves(tmp_path, caplog):
    pytest.importorskip("tensorboard")
    folder = tmp_path / os.fsdecode(b"a\xff")
    with Recorder(folder, steps=1) as recorder:
        recorder.step(report(1))
    assert "no TensorBoard logs" in caplog.text
    assert [row["step"] for row in read_records(folder)] == [1]
