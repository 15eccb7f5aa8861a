"""Whole adaptations over files, and the table of what can be wrong with a set."""

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import glip
from glip.checkpoint import read
from glip.cli.main import main
from glip.detector import load
from glip.errors import (
    ConfigError,
    StorageError,
)
from glip.evaluation.results import read_results
from glip.model.prompt_table import PromptTable
from glip.task_prompt import read_prompt, save_prompt
from glip.training.loop import DivergedError
from glip.training.record import read_records
from glip.tuning.interpolate import interpolate_prompt
from glip.tuning.options import RATES, TuneOptions
from glip.tuning.tune import tune
from glip.tuning.wording import Said, worded
from tests.training.squares import write_set

pytestmark = pytest.mark.whole

CPU = torch.device("cpu")


def options(folder, weights, mode="prompt", **values):
    values = {"steps": 2, "batch_size": 2, **values}
    return TuneOptions(str(folder), mode, str(weights), **values)


def test_prompt_tuning_leaves_a_file_that_predicts_as_the_tuned_model(
    squares, calm_file, tmp_path, make_picture
):
    result = tune(options(squares, calm_file, steps=4, shots=1, seed=3), tmp_path / "out", CPU)
    file = tmp_path / "out" / "task.prompt.safetensors"
    task = read_prompt(file)
    assert task.names == ("red square", "green square")
    assert np.abs(task.offsets).max() > 0
    base = load(calm_file, device="cpu")
    [found] = base.with_prompt(file).predict(make_picture(), threshold=0.1)
    # The tuned model: the same weights with states and offsets in the encoder's place.
    model = load(calm_file, device="cpu").model
    model.text = PromptTable.from_arrays(task.token_ids, task.states, task.offsets)
    [output] = [model(torch.zeros(1, 3, 96, 96), read_tokens(task))]
    assert output.logits.isfinite().all()
    assert len(found)
    assert result["base"]["AP"] is not None
    assert result["selection"]["seed"] == 3
    assert result["lr"]["chosen"] == RATES["prompt"].lr
    assert not list((tmp_path / "out").glob("lr_*/checkpoints"))


def read_tokens(task):
    from glip.model.text_encoder import Tokens

    return Tokens.pad([task.token_ids])


def test_evaluation_while_tuning_is_that_of_the_file(squares, calm_file, tmp_path):
    result = tune(options(squares, calm_file, steps=3), tmp_path / "out", CPU)
    assert result["tuned"]["AP"] == pytest.approx(
        max(value for value in result["lr"]["tried"].values()), abs=1e-6
    )


@pytest.mark.parametrize("mode", ["linear_probe", "head", "language", "lora", "full"])
def test_each_way_trains_its_part_and_leaves_plain_weights(squares, calm_file, tmp_path, mode):
    tune(options(squares, calm_file, mode), tmp_path / "out", CPU)
    before, after = read(calm_file).state, read(tmp_path / "out" / "tuned.safetensors").state
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    parts = {
        "linear_probe": "head.outputs.",
        "head": "head.",
        "language": "text.",
        "lora": ("head.stages.", "text."),
        "full": "",
    }[mode]
    assert moved
    assert all(name.startswith(parts) for name in moved)
    glip.load(tmp_path / "out" / "tuned.safetensors", device="cpu")


def test_rates_are_tried_and_the_best_is_kept(squares, calm_file, tmp_path):
    told = []
    asked = options(squares, calm_file, lr=(1e-9, 0.5))
    result = tune(asked, tmp_path / "out", CPU, progress=told.append)
    assert [(step.done, step.total) for step in told] == [(0, 2), (1, 2), (2, 2)] * 2
    tried = result["lr"]["tried"]
    assert list(tried) == ["1e-09", "0.5"]
    assert tried[f"{result['lr']['chosen']:g}"] == max(tried.values())


def test_rerun_goes_on_or_is_done_and_refuses_other_settings(squares, calm_file, tmp_path):
    out, asked = tmp_path / "out", options(squares, calm_file)
    first = tune(asked, out, CPU)
    assert tune(asked, out, CPU) == first  # nothing is computed again
    with pytest.raises(ConfigError, match="holds another job: steps was 2, is 3"):
        tune(replace(asked, steps=3), out, CPU)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        tune(asked, tmp_path / "mine", CPU)


@pytest.mark.parametrize(
    ("home", "function", "call"),
    [("glip.training.run", "evaluate_on", 3), ("glip.tuning.tune", "_interpolated", 1)],
)
def test_interrupted_run_ends_as_one_that_was_not(
    squares, calm_file, tmp_path, monkeypatch, home, function, call
):
    asked = options(squares, calm_file, steps=4)
    whole = tune(asked, tmp_path / "whole", CPU)
    module = importlib.import_module(home)
    original, calls = getattr(module, function), []

    def stop_in_time(*args, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(module, function, stop_in_time)
    with pytest.raises(KeyboardInterrupt):
        tune(asked, tmp_path / "cut", CPU)
    monkeypatch.undo()
    cut = tune(asked, tmp_path / "cut", CPU)
    assert cut["tuned"] == whole["tuned"]
    one, other = (
        read_prompt(tmp_path / name / "task.prompt.safetensors") for name in ("whole", "cut")
    )
    torch.testing.assert_close(one.offsets, other.offsets)


def test_killed_run_ends_as_one_that_was_not(squares, calm_file, tmp_path):
    asked = options(squares, calm_file, "lora", steps=40, evaluations=4)
    whole = tune(asked, tmp_path / "whole", CPU)
    words = [*("tune", "--data", squares, "--mode", "lora", "--weights", calm_file), "--steps", 40]
    words += ["--batch-size", 2, "--evaluations", 4, "--device", "cpu", "--out", tmp_path / "cut"]
    script = "import sys; from glip.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, words)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as the tests, or sums are rounded otherwise
    )
    while process.poll() is None and not list((tmp_path / "cut").glob("lr_*/checkpoints/*.pt")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / "result.json").exists()
    cut = tune(asked, tmp_path / "cut", CPU)
    assert (cut["tuned"], cut["base"]) == (whole["tuned"], whole["base"])
    one, other = (read(tmp_path / name / "tuned.safetensors").state for name in ("whole", "cut"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_retention_replay_and_interpolation(squares, calm_file, tmp_path):
    other = write_set(tmp_path / "other" / "set.json", {3: "blue thing"}, [(1, [3]), (2, [3])])
    asked = options(
        squares,
        calm_file,
        "linear_probe",
        lr=(0.05,),
        retention=str(other),
        replay=str(other),
        interpolate=(0.0, 0.5),
    )
    result = tune(asked, tmp_path / "out", CPU)
    assert set(result["retention"]) == {"base", "tuned"}
    none, half = result["interpolated"]
    assert none["retention"]["AP"] == result["retention"]["base"]["AP"]
    assert none["tuned"]["AP"] == result["base"]["AP"]
    base, tuned = read(calm_file), read(tmp_path / "out" / "tuned.safetensors")
    between = read(tmp_path / "out" / half["file"]).state
    name = "head.outputs.project.weight"
    torch.testing.assert_close(between[name], (base.state[name] + tuned.state[name]) / 2)


def test_prompt_tuning_forgets_nothing(squares, calm_file, tmp_path):
    other = write_set(tmp_path / "other" / "set.json", {3: "blue thing"}, [(1, [3])])
    result = tune(
        options(squares, calm_file, retention=str(other), interpolate=(0.5,)),
        tmp_path / "out",
        CPU,
    )
    assert result["retention"]["base"] == result["retention"]["tuned"]
    whole = read_prompt(tmp_path / "out" / "task.prompt.safetensors")
    half = read_prompt(tmp_path / "out" / result["interpolated"][0]["file"])
    torch.testing.assert_close(half.offsets, whole.offsets / 2)
    assert not interpolate_prompt(whole, 0.0).offsets.any()


FINE = {
    "one class only": ({1: "red"}, [(1, [1]), (2, [1])]),
    "ids from 0": ({0: "red", 1: "green"}, [(0, [0]), (1, [1])]),
    "ids with gaps": ({7: "red", 1000: "green"}, [(5, [7]), (99, [1000])]),
    "fewer photos than shots": ({1: "red", 2: "green"}, [(1, [1]), (2, [1]), (3, [2])]),
    "a class without photos": ({1: "red", 2: "never"}, [(1, [1]), (2, [1])]),
    "a class that a mirror turns": ({1: "left hand", 2: "right hand"}, [(1, [1]), (2, [2])]),
}


@pytest.mark.parametrize("case", FINE)
def test_sets_of_every_kind_are_learned(calm_file, tmp_path, case):
    categories, pictures = FINE[case]
    # Other ids and another order of the classes than in training.
    moved = {number + 50: name for number, name in reversed(categories.items())}
    write_set(tmp_path / "set" / "train.json", categories, pictures)
    write_set(
        tmp_path / "set" / "val.json",
        moved,
        [(number, [owner + 50 for owner in owners]) for number, owners in pictures],
    )
    asked = options(tmp_path / "set", calm_file, shots=2, steps=1)
    result = tune(asked, tmp_path / "out", CPU)
    assert result["tuned"]["AP"] is not None
    drawn = json.loads((tmp_path / "out" / "train.json").read_text())
    assert {c["id"]: c["name"] for c in drawn["categories"]} == categories
    assert set(result["selection"]["pictures"]) == set(categories.values())


def test_result_of_data_that_has_changed_is_not_taken_for_the_present_one(calm_file, tmp_path):
    for part in ("train", "val"):
        write_set(tmp_path / "set" / f"{part}.json", {1: "red"}, [(1, [1]), (2, [1])])
    asked = options(tmp_path / "set", calm_file, steps=1)
    tune(asked, tmp_path / "out", CPU)
    (tmp_path / "out" / "task.prompt.safetensors").rename(tmp_path / "task.prompt.safetensors")
    with pytest.raises(ConfigError, match=r"its task.prompt.safetensors is gone; delete"):
        tune(asked, tmp_path / "out", CPU)
    write_set(tmp_path / "set" / "train.json", {1: "red"}, [(1, [1])])
    with pytest.raises(ConfigError, match=r"holds another job: content of .*train.json was"):
        tune(asked, tmp_path / "out", CPU)


def test_retention_may_be_added_to_a_run_that_has_not_ended(
    squares, calm_file, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    asked = options(squares, calm_file, "linear_probe", steps=1)
    monkeypatch.setattr("glip.tuning.tune._interpolated", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(asked, tmp_path / "out", CPU)
    monkeypatch.undo()
    result = tune(replace(asked, retention=str(squares)), tmp_path / "out", CPU)
    assert result["retention"]["tuned"]["AP"] == result["tuned"]["AP"]  # the val part of the same


def test_damaged_settings_are_told(squares, calm_file, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "settings.json").write_text('{"options": {')
    with pytest.raises(ConfigError, match=r"settings.json is damaged .*; delete .*out"):
        tune(options(squares, calm_file), out, CPU)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file or holds other files"):
        tune(options(squares, calm_file), tmp_path / "file", CPU)
    with pytest.raises(StorageError, match="cannot be written"):
        tune(options(squares, calm_file), tmp_path / "file" / "below", CPU)


def test_rate_that_diverges_is_left_out_and_the_others_are_tried(
    squares, calm_file, tmp_path, caplog
):
    asked = options(squares, calm_file, "full", lr=(1e18, 1e-5), steps=3)
    result = tune(asked, tmp_path / "out", CPU)
    assert result["lr"]["chosen"] == 1e-5
    assert result["lr"]["tried"]["1e+18"] is None
    assert "rate 1e+18: " in caplog.text
    with pytest.raises(DivergedError, match="diverged at the learning rate 1e"):
        tune(replace(asked, lr=(1e18,)), tmp_path / "alone", CPU)


def test_prompt_tuning_starts_from_a_wording(squares, calm_file, tmp_path):
    said = Said({"green square": ("green box",), "red square": ("crimson thing", "red square")})
    start = replace(worded(load(calm_file, device="cpu"), said), thresholds=(0.4, 0.4))
    file = tmp_path / "start.prompt.safetensors"
    save_prompt(file, start)
    asked = options(squares, calm_file, prompt=str(file), steps=4)
    tune(asked, tmp_path / "out", CPU)
    task = read_prompt(tmp_path / "out" / "task.prompt.safetensors")
    assert task.prompt == start.prompt and np.array_equal(task.states, start.states)
    assert np.abs(task.offsets).max() > 0 and task.thresholds == ()
    few = worded(load(calm_file, device="cpu"), Said({"red square": ("red square",)}))
    save_prompt(file, few)
    with pytest.raises(ConfigError, match="has the classes red square, the data red square, green"):
        tune(asked, tmp_path / "other", CPU)


def test_set_without_a_part_to_evaluate_on_is_tuned_to_the_end(calm_file, tmp_path):
    write_set(tmp_path / "set" / "all.json", {1: "red"}, [(1, [1]), (2, [1])])
    asked = options(tmp_path / "set" / "all.json", calm_file)
    result = tune(asked, tmp_path / "out", CPU)
    assert result["base"] is result["tuned"] is None
    assert (tmp_path / "out" / "task.prompt.safetensors").exists()


def test_command_prints_what_was_won(squares, calm_file, tmp_path, capsys):
    words = ["tune", "--data", str(squares), "--weights", str(calm_file), "--shots", "1"]
    words += ["--steps", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "learned from  " in told.out
    assert "before" in told.out
    assert told.err.splitlines()[-1].endswith("report.html")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "learned from" in page and "AP of each class" in page and page.count("<img") >= 2
    assert main([*words, "--steps", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_learned_prompt_is_evaluated_on_other_photos(squares, calm_file, tmp_path, capsys):
    result = tune(options(squares, calm_file, steps=1), tmp_path / "out", CPU)
    words = ["evaluate", "--task", "custom", "--data", str(squares / "val.json"), "--device", "cpu"]
    words += ["--weights", str(calm_file), "--output", str(tmp_path / "again")]
    prompt = tmp_path / "out" / "task.prompt.safetensors"
    assert main([*words, "--prompt", str(prompt)]) == 0
    again = read_results(tmp_path / "again")
    assert again["metrics"]["AP"] == result["tuned"]["AP"]
    assert again["settings"]["prompt"] == prompt.name
    assert main(words) == 2  # the folder holds what the prompt has found
    assert 'prompt was "task.prompt.safetensors", is absent' in capsys.readouterr().err


def test_evaluations_on_the_way_are_as_many_as_asked(squares, calm_file, tmp_path):
    asked = options(squares, calm_file, "linear_probe", steps=4, evaluations=2)
    tune(asked, tmp_path / "out", CPU)
    rows = read_records(next((tmp_path / "out").glob("lr_*")))
    assert [row["step"] for row in rows if "evaluation/AP" in row] == [2, 4]


def test_weights_of_an_experiment_need_not_stay(squares, calm_file, tmp_path):
    asked = options(squares, calm_file, "linear_probe", steps=1, keep_weights=False)
    tune(asked, tmp_path / "out", CPU)
    assert not list((tmp_path / "out").rglob("*.safetensors"))
