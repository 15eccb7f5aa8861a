import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glip.errors import ConfigError, DataError
from glip.report.chart import Line
from glip.tuning.options import TuneOptions
from glip.tuning.protocol import ALL, Cell, Plan, cells_table, compare, curves, data_sets, finished
from tests.training.squares import write_set

pytestmark = pytest.mark.whole

CPU = torch.device("cpu")
TOOL = Path(__file__).parents[2] / "tools" / "odinw.py"

CELLS = [
    Cell("a", "zero_shot", 0, 0, 0.1, None, 0.0),
    Cell("a", "prompt", 1, 3, 0.2, -0.01, 4.0),
    Cell("a", "prompt", 1, 30, 0.4, -0.03, 6.0),
    Cell("a", "full", ALL, 3, 0.5, None, 9.0),
    Cell("b", "zero_shot", 0, 0, 0.3, None, 0.0),
    Cell("b", "prompt", 1, 3, 0.6, None, 5.0),
]


def test_table_has_means_and_deviations_over_seeds():
    lines = cells_table(CELLS).splitlines()
    assert lines[0] == "| mode | shots | a | b | mean over sets | other words | seconds |"
    assert lines[2:] == [
        "| zero_shot | - | 10.0 | 30.0 | 20.0 | - | 0 |",
        "| prompt | 1 | 30.0 ± 14.1 | 60.0 | 45.0 | -2.0 | 5 |",
        "| full | all | 50.0 | - | - | - | 9 |",  # no mean over fewer sets
    ]


def test_curves_join_what_every_set_has():
    prompt, full = curves(CELLS)
    spread = pytest.approx(50**0.5)  # mean of 14.1 and, of a single run, 0
    assert prompt == Line("prompt", ((0.0, "0", 20.0, 0.0), (1.0, "1", 45.0, spread)))
    assert full.points == ((0.0, "0", 20.0, 0.0),)  # b has no result with all pictures


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modes": ()}, "modes must be different values"),
        ({"seeds": (3, 3)}, "seeds must be different values"),
        ({"shots": (-1,)}, "must be at least 0"),
    ],
)
def test_plans_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Plan("data", **values)


def test_rates_are_for_one_mode():
    with pytest.raises(ConfigError, match="are for a single mode, got prompt, full"):
        Plan("data", ("prompt", "full"), options=TuneOptions("", lr=(0.1,)))


def test_sets_are_found_in_a_folder_or_are_it(squares, tmp_path, caplog):
    assert data_sets(squares) == {squares.name: squares}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data set with parts"):
        data_sets(tmp_path)
    shutil.copytree(squares, tmp_path / "sets")
    write_set(tmp_path / "half" / "train.json", {1: "red"}, [(1, [1])])
    deep = tmp_path / "Packages" / "Raw"
    shutil.copytree(squares, deep)
    assert data_sets(tmp_path) == {"Packages_Raw": deep, "sets": tmp_path / "sets"}
    assert "half is left out: it has nothing to evaluate on beside train.json" in caplog.text
    with pytest.raises(DataError, match="does not exist"):
        data_sets(tmp_path / "nowhere")


@pytest.fixture
def two_sets(tmp_path):
    for name, colour in (("one", "red"), ("two", "green")):
        for part in ("train", "val"):
            write_set(tmp_path / "sets" / name / f"{part}.json", {0: colour}, [(1, [0]), (2, [0])])
    return tmp_path / "sets"


def test_results_resume_and_grow(two_sets, calm_file, tmp_path, monkeypatch):
    options = TuneOptions("", weights=str(calm_file), steps=1, batch_size=1, keep_weights=False)
    plan = Plan(str(two_sets), ("prompt",), (1, ALL), (3, 30), options)
    told = []
    cells = compare(plan, tmp_path / "out", CPU, progress=told.append)
    assert [step.what for step in told[:3]] == [
        "one: prompt, 1_shots, seed 3",
        "one: prompt, 1_shots, seed 30",
        "one: prompt, all_shots, seed 3",
    ]
    assert [(c.name, c.mode, c.shots, c.seed) for c in cells[:4]] == [
        ("one", "zero_shot", 0, 0),
        ("one", "prompt", 1, 3),
        ("one", "prompt", 1, 30),
        ("one", "prompt", ALL, 3),
    ]
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == len(cells) == 8
    for name in ("results.md", "one.svg", "two.svg", "mean.svg"):
        assert (tmp_path / "out" / name).exists()
    from glip.tuning import tune as module

    monkeypatch.setattr(module, "run_training", lambda *args, **more: pytest.fail("ran again"))
    assert compare(plan, tmp_path / "out", CPU) == cells
    # Less is asked for, and all that is there is told.
    assert (
        compare(replace(plan, shots=(ALL,)), tmp_path / "out", CPU)
        == cells
        == finished(tmp_path / "out")
    )
    assert finished(tmp_path / "other") == []


def test_one_broken_set_does_not_stop_the_others(two_sets, calm_file, tmp_path):
    write_set(two_sets / "one" / "train.json", {0: "red", 1: "Red"}, [(1, [0, 1])])
    options = TuneOptions("", weights=str(calm_file), steps=1, batch_size=1, evaluations=1)
    plan = Plan(str(two_sets), ("prompt",), (1,), (3,), options)
    with pytest.raises(DataError, match="read the same"):
        compare(plan, tmp_path / "out", CPU)
    failures = {}
    cells = compare(plan, tmp_path / "out", CPU, failed=failures.__setitem__)
    assert [(cell.name, cell.mode) for cell in cells] == [("two", "zero_shot"), ("two", "prompt")]
    assert list(failures) == ["one: prompt, 1_shots, seed 3"]


def test_retention_of_the_base_is_measured_once_for_all_sets(two_sets, calm_file, tmp_path):
    options = TuneOptions(
        "",
        weights=str(calm_file),
        steps=1,
        batch_size=1,
        evaluations=1,
        retention=str(two_sets / "two" / "val.json"),
    )
    plan = Plan(str(two_sets), ("linear_probe",), (1,), (3,), options)
    cells = compare(plan, tmp_path / "out", CPU)
    assert [c.retention is None for c in cells] == [True, False, True, False]
    folders = [p.parent.name for p in (tmp_path / "out").rglob("results.json")]
    assert folders.count("other_words") == 1
    assert folders.count("retention_tuned") == 2


def test_tool_runs_from_the_command_line(two_sets, calm_file, tmp_path, monkeypatch, capsys):
    words = ["--data", two_sets / "one", "--weights", calm_file, "--out", tmp_path / "out"]
    words += ["--modes", "linear_probe", "--shots", "1", "--seeds", "3", "--steps", "1"]
    command = [*map(str, [TOOL, *words]), "--device", "cpu"]
    for more, code in (([], 0), (["--finished-only"], 0), (["--shots", "-1"], 2)):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        with pytest.raises(SystemExit) as done:
            runpy.run_path(str(TOOL), run_name="__main__")
        assert done.value.code == code
    told = capsys.readouterr()
    assert "| linear_probe | 1 |" in told.out
    assert told.err.splitlines()[-1].endswith("'-1' is no number of pictures, 1 or more, nor 'all'")
