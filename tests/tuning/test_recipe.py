"""The training run that tuning is."""

import json
from dataclasses import replace

import pytest

from glip.checkpoint import read
from glip.tuning.inputs import read_inputs
from glip.tuning.options import RATES, TuneOptions
from glip.tuning.recipe import MAX_STEPS, MIN_STEPS, at_rate, best_metric, run_config
from tests.training.squares import write_set

pytestmark = pytest.mark.whole


@pytest.fixture
def recipe(squares, calm_file, tmp_path):
    def make(mode="lora", data=squares, **values):
        options = TuneOptions(str(data), mode, str(calm_file), **values)
        return run_config(options, read(calm_file).config, tmp_path, read_inputs(options))

    return make


def test_length_follows_from_the_data_within_bounds(recipe):
    assert recipe().steps == MIN_STEPS  # four pictures
    assert recipe(steps=7).steps == 7
    assert (recipe(epochs=3.0).steps, recipe(epochs=3.0).epochs) == (None, 3.0)
    assert MIN_STEPS < MAX_STEPS


def test_features_are_kept_only_where_something_rests(recipe):
    assert recipe("lora").data.cache and not recipe("full").data.cache
    cached = recipe("linear_probe")
    assert cached.freeze.parts == ("head.stages",)
    assert cached.data.augment.short_sides == (96,)  # that of prediction
    assert recipe("lora", cache=False).data.augment.short_sides is None


def test_replayed_pictures_are_their_share(recipe, squares):
    run = recipe("full", replay=str(squares), replay_share=0.75, steps=1)
    replayed = run.data.sources[1]  # the same five pictures
    assert replayed.weight == pytest.approx(0.75 / 0.25)


def test_mirror_images_stay_out_where_they_turn_a_class_into_another(recipe, tmp_path):
    hands = {1: "left hand", 2: "right hand"}
    for part in ("train", "val"):
        write_set(tmp_path / "set" / f"{part}.json", hands, [(1, [1]), (2, [2])])
    assert recipe("prompt", tmp_path / "set").data.augment.flip == 0.0
    assert recipe("lora", tmp_path / "set").data.augment.flip == 0.5


def test_rate_of_the_text_follows(recipe):
    usual = RATES["full"]
    tried = at_rate(recipe("full", steps=1), "full", 2 * usual.lr).optimizer
    assert (tried.lr, tried.text_lr) == pytest.approx((2 * usual.lr, 2 * usual.text_lr))
    assert replace(usual.at(usual.lr)) == usual


def test_best_of_a_run(tmp_path):
    assert best_metric(tmp_path) is None
    rows = [{"step": 1, "evaluation/AP": 0.2}, {"step": 2, "loss": 1}, {"evaluation/AP": 0.1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert best_metric(tmp_path) == 0.2
