"""Data of a task is refused before anything is begun, if it cannot be learned."""

from dataclasses import replace

import pytest
import torch

from glip.errors import (
    DataError,
    GlipError,
    ImageError,
    PromptError,
)
from glip.tuning.options import TuneOptions
from glip.tuning.tune import tune
from tests.training.squares import write_set

CPU = torch.device("cpu")


def options(folder, weights, mode="prompt", **values):
    values = {"steps": 2, "batch_size": 2, **values}
    return TuneOptions(str(folder), mode, str(weights), **values)


BROKEN = {
    "names that collide": ({1: "red", 2: "Red "}, {1: "red", 2: "Red "}, [(1, [1, 2])], DataError,
                           "read the same to the text encoder; rename one"),
    "names of val that collide": ({1: "red"}, {1: "red", 2: "Red "}, [(1, [1])], DataError,
                                  "read the same to the text encoder; rename one"),
    "classes of val that train lacks": ({1: "red"}, {1: "rot"}, [(1, [1])], DataError,
                                        "has the class 'rot', which .* does not have"),
    "no box at all": ({1: "red"}, {1: "red"}, [(1, [])], DataError, "no picture with a box"),
    "more classes than a prompt holds": (
        {n: f"class number {n}" for n in range(90)}, {1: "class number 1"}, [(1, [1])], PromptError,
        "90 classes need [23] passes"),
    "a name that no text encoder holds": ({1: "red " * 300}, {1: "red " * 300}, [(1, [1])],
                                          PromptError, "tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_sets_that_cannot_be_learned_are_refused(calm_file, tmp_path, case):
    train, val, pictures, error, message = BROKEN[case]
    write_set(tmp_path / "set" / "train.json", train, pictures)
    write_set(tmp_path / "set" / "val.json", val, pictures)
    with pytest.raises(error, match=message):
        tune(options(tmp_path / "set", calm_file), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"retention": "nowhere.json"}, "nowhere.json does not exist"),
        ({"mode": "full", "replay": "nowhere.json"}, "nowhere.json does not exist"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"prompt": "nowhere.prompt.safetensors"}, "no learned prompt nowhere"),
    ],
)
def test_nothing_is_begun_with_files_that_are_not_there(
    squares, calm_file, tmp_path, values, message
):
    with pytest.raises(GlipError, match=message):
        tune(replace(options(squares, calm_file), **values), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_picture_that_cannot_be_read_is_told_before_the_start(calm_file, tmp_path):
    for part in ("train", "val"):
        write_set(tmp_path / "set" / f"{part}.json", {1: "red"}, [(1, [1]), (2, [1])])
    picture = tmp_path / "set" / "train_1.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(ImageError, match=picture.name):
        tune(options(tmp_path / "set", calm_file), tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()
