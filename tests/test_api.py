"""What the commands do, as functions: one source of options for both, results that print well."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glip
from glip import api
from glip.association.options import FollowOptions
from glip.cli.main import parser_of
from glip.detector import Detector
from glip.errors import ConfigError, GlipError
from glip.evaluation.config import TaskOptions
from glip.labelling.job import LabelOptions
from glip.progress import Step
from glip.tracking.job import TrackOptions
from glip.tuning.options import TuneOptions

pytestmark = pytest.mark.whole

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "doctor": api.doctor,
    "label": api.label,
    "ground": api.ground_captions,
    "evaluate": api.evaluate,
    "train": api.train,
    "tune": api.tune,
    "track": api.track,
    "export": api.export,
}
OF_THE_COMMAND = {"text", "strict", "num_gpus", "num_machines", "machine_rank", "dist_url"}
OF_THE_FUNCTION = {"progress"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_has_the_options_of_its_function(name: str) -> None:
    taken = set(inspect.signature(FUNCTIONS[name]).parameters)
    offered = {action.dest for action in parser_of(name)._actions} - {"help"}
    # Where a process trains is what it is started with.
    by_processes = {"device"} if name == "train" else set()
    assert offered - OF_THE_COMMAND == taken - OF_THE_FUNCTION - by_processes


@pytest.mark.parametrize("name", FUNCTIONS)
def test_defaults_are_those_of_the_function(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    for action in parser_of(name)._actions:
        if action.dest in parameters and not action.required and action.dest != "format":
            default = parameters[action.dest].default
            if default is not inspect.Parameter.empty and action.default != []:
                assert action.default == default, action.dest


@pytest.mark.parametrize(
    ("function", "kind", "renamed"),
    [
        (api.tune, TuneOptions, {}),
        (api.evaluate, TaskOptions, {}),
        (api.label, LabelOptions, {}),
        (api.track, TrackOptions, {}),
        (Detector.track, FollowOptions, {}),
    ],
)
def test_defaults_are_those_of_the_library(
    function: Callable[..., Any], kind: type, renamed: dict[str, str]
) -> None:
    parameters = inspect.signature(function).parameters
    for field in fields(kind):
        if field.name in parameters and field.default is not MISSING:
            default = parameters[field.name].default
            assert default == field.default, field.name


def test_all_options_of_following_can_be_said_everywhere() -> None:
    names = [field.name for field in fields(FollowOptions)]
    for function in (api.track, Detector.track):
        assert set(names) <= set(inspect.signature(function).parameters)


def test_every_argument_is_described() -> None:
    for function in FUNCTIONS.values():
        said = inspect.cleandoc(function.__doc__ or "")
        for name in inspect.signature(function).parameters:
            assert f"\n    {name}: " in said, (function, name)


def test_photos_are_labelled_and_the_result_prints_its_counts(
    tmp_path: Path, make_picture: Callable[..., Image.Image], tiny_file: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        make_picture(seed=number).save(tmp_path / "photos" / f"{number}.png")
    told: list[Step] = []
    labels = glip.label(
        tmp_path / "photos",
        tmp_path / "out",
        classes="cat, red car",  # as a command takes them
        format=["coco", "yolo"],
        weights=tiny_file,
        device="cpu",
        max_detections=np.int64(100),  # of numpy, as loops over settings may have them
        val=np.float32(0),
        progress=told.append,
    )
    assert labels is not None and set(labels.data_sets) == {"coco", "yolo"}
    names = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())["categories"]
    assert [name["name"] for name in names] == ["cat", "red car"]
    assert str(labels).endswith("2 pictures labelled, 0 rejected") and "red car" in str(labels)
    assert (told[-1].done, told[-1].total) == (2, 2)
    report = glip.doctor(tmp_path / "out" / "yolo")
    assert report.exit_code == 0
    results = glip.evaluate(
        tmp_path / "out" / "coco" / "annotations.json",
        images=tmp_path / "photos",
        weights=tiny_file,
        output=tmp_path / "evaluation",
        device="cpu",
    )
    assert results is not None and results["metrics"]["AP"] > 0.3
    assert str(results).startswith("AP ") and results.folder == tmp_path / "evaluation"
    few = glip.evaluate(
        tmp_path / "out" / "coco" / "annotations.json",
        images=tmp_path / "photos",
        weights=tiny_file,
        output=tmp_path / "few",
        device="cpu",
        shortlist=1,
    )
    assert few is not None and few["settings"]["shortlist"] == 1
    assert few["metrics"]["AP"] < results["metrics"]["AP"]
    told.clear()
    trained = glip.train(
        tmp_path / "out" / "coco" / "annotations.json",
        images=tmp_path / "photos",
        weights=tiny_file,
        output=tmp_path / "run",
        overrides=["steps=2", "batch_size=1", "log_every=1"],
        device="cpu",
        progress=told.append,
    )
    assert trained.folder == tmp_path / "run"
    assert [(step.what, step.done, step.total) for step in told] == [
        ("training", done, 2) for done in range(3)
    ]


def test_one_of_several_needs_no_list(tmp_path: Path) -> None:
    for call, message in (
        (lambda: glip.ground_captions("no.tsv", tmp_path / "a"), "no.tsv does not exist"),
        (lambda: glip.label(tmp_path, tmp_path / "b", classes="cat", format="coco"), "no picture"),
        (
            lambda: glip.ground_captions("no.tsv", tmp_path, overrides="steps"),
            "'steps' is not of the form",
        ),
        (lambda: glip.tune("no.json", tmp_path / "c", lr=1e-4), "no.json"),
    ):
        with pytest.raises(GlipError, match=message):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: glip.label("photos", "out"), "say what to label"),
        (lambda: glip.label(None, "out", classes=["cat"]), "say where the pictures are"),
        (lambda: glip.label("a", "out", classes="cat", format=[]), "no format to write"),
        (lambda: glip.label("a", "out", classes="cat", format="coc"), "format must be one of"),
        (lambda: glip.label("a", "out", classes="cat", pictures="all"), "pictures must be one of"),
        (lambda: glip.label("a", "out", classes="cat", engine="rays"), "engine must be one of"),
        (lambda: glip.label("a", "out", classes="cat", actors=2), "actors are of the engine ray"),
        (lambda: glip.label("a", "out", classes="cat", proposed="b"), "leave it out"),
        (lambda: glip.label(None, "out", corrected="a", limit=2), "leave --limit out"),
        (lambda: glip.label(None, "out", corrected="a", threshold=0.2), "leave --threshold out"),
        (lambda: glip.ground_captions("a", "out", preset="wep"), "preset must be one of"),
        (lambda: glip.train(), "nothing to train on"),
        (lambda: glip.export("x", task="a", classes=["b"]), "give `task` or `classes`"),
        (lambda: glip.export("x", dtype="int8"), "add --calibration DIR"),
        (lambda: glip.evaluate("x.json", rescore=True, chunk=3), "leave --chunk out"),
        (lambda: glip.evaluate("x.json", rescore=True, shortlist=3), "leave --shortlist out"),
        (lambda: glip.evaluate("x", task="flickr", shortlist=3), "the task flickr has captions"),
    ],
)
def test_what_is_missing_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_models_are_listed() -> None:
    found = {model.name: model for model in glip.models()}
    assert set(found) >= {"glip_nano", "glip_tiny", "glip_large"}
    assert found["glip_tiny"].file is None and "glip_tiny" in found["glip_tiny"].source
    assert 150e6 < found["glip_tiny"].parameters < 260e6
    assert "not on this machine" in str(found["glip_tiny"])
