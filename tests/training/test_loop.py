"""The loop at toy size: it learns, and keeps its promises on the way."""

import itertools
import signal
from dataclasses import replace

import pytest
import torch
from parity.chance import without_chance

from glip.boxes import iou_matrix
from glip.config import BackboneConfig, PostprocessOptions
from glip.errors import CheckpointError, ConfigError
from glip.postprocess import select_candidates, suppress
from glip.training.freezing import FreezeConfig, freeze
from glip.training.loop import DivergedError, LoopConfig, train
from glip.training.losses import Criterion
from glip.training.optim import (
    OptimizerConfig,
    Plateau,
    PlateauConfig,
    Schedule,
    ScheduleConfig,
)
from glip.training.parallel import checkpoint_activations
from tests.toy import CONFIG, SIDE, picture, prompt, toy_batch, toy_batches, toy_model, toy_state

pytestmark = pytest.mark.whole

CONSTANT = ScheduleConfig("constant", warmup_steps=0)


def go(state, batches, config, schedule=CONSTANT, **options):
    return train(state, batches, Criterion(), Schedule(schedule, config.steps), config, **options)


@pytest.mark.learned
def test_overfits_two_pictures(seed, learned):
    batch, reports = toy_batch([0, 1]), []
    state = toy_state(
        toy_model(without_chance(CONFIG), seed), OptimizerConfig(lr=4e-3, text_lr=4e-3), ema=0.5
    )
    schedule = ScheduleConfig("cosine", warmup_steps=5, final_factor=0.1)
    config = LoopConfig(steps=100, log_every=1)
    go(state, itertools.repeat(batch), config, schedule, report=reports.append)
    first, last = reports[0].losses, reports[-1].losses
    learned("alignment loss at the end", last["alignment"] / first["alignment"], most=0.1)
    learned("box loss at the end", last["box"] / first["box"], most=0.2)

    state.model.eval()
    with torch.no_grad():
        output = state.model(batch.pixels, batch.tokens)
    options = PostprocessOptions(max_detections=2)  # each picture shows two squares
    for index, target in enumerate([picture(0)[1], picture(1)[1]]):
        found = suppress(
            select_candidates(output, index, prompt()[1], (SIDE, SIDE), options), options
        )
        best = iou_matrix(found.boxes, target.boxes).max(0)
        learned("score", found.scores.min().item(), least=0.4)
        learned("IoU", best.values.min().item(), least=0.75)
        assert found.labels[best.indices].tolist() == target.phrases.tolist()


def test_accumulated_gradients_are_those_of_the_larger_batch():
    # With one box for each picture, and equal shapes, the normalisers agree as well.
    def weights(batches, accumulate):
        state = toy_state(toy_model(without_chance(CONFIG)), OptimizerConfig(lr=1e-3, eps=1e-3))
        go(state, batches, LoopConfig(steps=2, accumulate=accumulate))
        return state.model.state_dict()

    once = weights(itertools.repeat(toy_batch([0, 0])), 1)
    twice = weights(itertools.repeat(toy_batch([0])), 2)
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, twice[name], atol=1e-6, rtol=1e-4)


def test_forgotten_activations_change_nothing():
    def weights(forget):
        model = toy_model()
        if forget:
            checkpoint_activations(model)
        state = toy_state(model)
        torch.manual_seed(0)
        go(state, toy_batches(0, 1), LoopConfig(steps=2))
        return state.model.state_dict()

    plain, forgotten = weights(False), weights(True)
    assert plain.keys() == forgotten.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, forgotten[name])


def test_low_precision_trains_float32_weights():
    state, reports = toy_state(toy_model()), []
    config = LoopConfig(steps=2, log_every=1, precision="bfloat16")
    go(state, toy_batches(0, 1), config, report=reports.append)
    assert all(parameter.dtype == torch.float32 for parameter in state.model.parameters())
    assert all(report.losses["total"] > 0 for report in reports)


def test_frozen_parts_do_not_move_and_the_others_do():
    model = toy_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    resting = freeze(model, FreezeConfig(parts=("backbone", "text")))
    state = toy_state(model)
    go(state, toy_batches(0, 1), LoopConfig(steps=2), resting=resting)
    for name, tensor in model.state_dict().items():
        if name.startswith(("backbone", "text")):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(before["head.outputs.project.weight"], model.head.outputs.project.weight)


def test_reports_are_means_over_their_steps():
    def reports(log_every):
        state, found = toy_state(toy_model(without_chance(CONFIG))), []
        config = LoopConfig(steps=4, log_every=log_every)
        go(state, toy_batches(0, 1), config, report=found.append)
        return found

    each, pairs = reports(1), reports(2)
    assert [report.step for report in pairs] == [2, 4]
    assert pairs[0].losses["box"] == pytest.approx(
        (each[0].losses["box"] + each[1].losses["box"]) / 2
    )
    assert each[0].losses["total"] == pytest.approx(
        sum(each[0].losses[name] for name in ("alignment", "box", "centerness"))
    )


def poisoned(batches, steps):
    for number, batch in enumerate(batches):
        if number in steps:
            batch.pixels.fill_(float("nan"))
        yield batch


def test_step_without_numbers_leaves_the_weights_alone(caplog):
    clean, dirty = toy_state(toy_model()), toy_state(toy_model())
    for state, bad in ((clean, {1}), (dirty, {1, 2})):
        torch.manual_seed(0)
        go(state, poisoned(toy_batches(0, 1), bad), LoopConfig(steps=max(bad) + 1))
    assert dirty.step == 3
    for name, tensor in clean.model.state_dict().items():
        assert tensor.isfinite().all()
        assert torch.equal(tensor, dirty.model.state_dict()[name])
    assert "step 1 skipped" in caplog.text


@pytest.mark.parametrize("accumulate", [1, 2])
def test_step_without_numbers_leaves_the_statistics_of_batch_norms_alone(accumulate):
    """Of a batch that is no number, and of a good one whose gradients join it."""
    model = toy_model(replace(CONFIG, backbone=BackboneConfig("test_efficientnet")))
    resting = freeze(model, FreezeConfig(batch_norm="batch"))
    state, seen = toy_state(model), []

    def report(_):
        buffers = dict(model.backbone.named_buffers())
        seen.append({n: buffers[n].clone() for n in buffers if "running" in n or "tracked" in n})

    config = LoopConfig(steps=3, accumulate=accumulate, log_every=1)
    bad = {2 * accumulate - 1}  # the last batch of the second step
    go(state, poisoned(toy_batches(0, 1), bad), config, resting=resting, report=report)
    first, second, third = seen
    assert first
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        assert third[name].isfinite().all(), name
        assert not torch.equal(tensor, third[name]), name


def test_run_that_stays_without_numbers_ends(monkeypatch):
    monkeypatch.setattr("glip.training.loop.MAX_BAD_STEPS", 2)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        go(toy_state(toy_model()), poisoned(toy_batches(0, 1), {0, 1}), LoopConfig(steps=9))


def test_data_that_ends_too_soon_is_named():
    with pytest.raises(ConfigError, match="the data ended at step 1 of 3"):
        go(toy_state(toy_model()), [toy_batch([0])], LoopConfig(steps=3))


def test_best_weights_are_saved_when_they_are_found():
    state = toy_state(toy_model())
    metrics, saved = iter([0.3, 0.5, 0.4]), []

    def evaluate(model):
        assert not model.training
        return {"AP": next(metrics), "AP50": 1.0}

    go(
        state,
        toy_batches(0, 1),
        LoopConfig(steps=3, evaluate_every=1, save_every=100),
        evaluate=evaluate,
        save=lambda state: saved.append((state.step, state.best)),
    )
    assert saved == [(1, 0.3), (2, 0.5), (3, 0.5)]
    assert (state.best, state.best_step) == (0.5, 2)
    assert [row["AP"] for row in state.history] == [0.3, 0.5, 0.4]


def test_evaluation_sees_the_average():
    state = toy_state(toy_model())
    state.ema.average["head.outputs.bias"].fill_(42.0)
    seen = []

    def evaluate(model):
        seen.append(model.head.outputs.bias.item())
        return {"AP": 0.0}

    go(state, toy_batches(0, 1), LoopConfig(steps=1), evaluate=evaluate)
    assert seen[0] > 30
    assert state.model.head.outputs.bias.item() < 0


def test_plateau_ends_the_run():
    state = toy_state(toy_model())
    state.plateau = Plateau(PlateauConfig(stop_patience=2))
    metrics, saved = iter([0.5, 0.4, 0.4, 0.4]), []
    go(
        state,
        toy_batches(0, 1),
        LoopConfig(steps=10, evaluate_every=1),
        evaluate=lambda model: {"AP": next(metrics)},
        save=lambda state: saved.append(state.step),
    )
    assert (state.step, state.stopped, saved[-1]) == (3, True, 3)


def test_unknown_metric_is_named():
    config = LoopConfig(steps=1, metric="mAP")
    with pytest.raises(ConfigError, match="no metric 'mAP'; it has AP"):
        go(toy_state(toy_model()), toy_batches(0, 1), config, evaluate=lambda model: {"AP": 0})
    with pytest.raises(ConfigError, match="it has none, as there was nothing to find"):
        go(toy_state(toy_model()), toy_batches(0, 1), LoopConfig(1), evaluate=lambda model: {})


def test_failed_save_on_the_way_does_not_end_the_run(caplog):
    tried = []

    def save(state):
        tried.append(state.step)
        raise CheckpointError("disk full")

    with pytest.raises(CheckpointError):  # at the end there is nothing left to do but to say so
        go(toy_state(toy_model()), toy_batches(0, 1), LoopConfig(2, save_every=1), save=save)
    assert tried == [1, 2]
    assert "disk full; training goes on" in caplog.text


def test_a_run_that_goes_on_with_another_metric_judges_its_best_weights_by_it():
    state = toy_state(toy_model())
    state.plateau = Plateau(PlateauConfig(patience=0, stop_patience=1))
    metrics = iter([{"AP": 0.1, "AP50": 0.6}, {"AP": 0.05, "AP50": 0.9}, {"AP": 0.2, "AP50": 0.3}])
    options = {"evaluate": lambda model: next(metrics)}
    go(state, toy_batches(0, 1), LoopConfig(1, metric="AP50"), **options)
    assert (state.best, state.best_step) == (0.6, 1)
    go(state, toy_batches(1, 1), LoopConfig(2, metric="AP"), **options)
    assert (state.best, state.best_step, state.stopped) == (0.1, 1, False)
    go(state, toy_batches(2, 1), LoopConfig(3, metric="AP"), **options)
    assert (state.best, state.best_step) == (0.2, 3)


def test_weights_that_could_not_be_saved_are_not_the_best():
    metrics = iter([0.3, 0.5, 0.4])

    def save(state):
        if state.step == 2:
            raise CheckpointError("disk full")

    state = go(
        toy_state(toy_model()),
        toy_batches(0, 3),
        LoopConfig(3, evaluate_every=1),
        save=save,
        evaluate=lambda model: {"AP": next(metrics)},
    )
    assert (state.best, state.best_step) == (0.4, 3)


def test_finished_run_does_nothing_more():
    state = replace(toy_state(toy_model()), step=5)
    assert go(state, [], LoopConfig(steps=5)).step == 5


def test_float16_finds_its_loss_scale():
    state = toy_state(toy_model(without_chance(CONFIG)))
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1000)
    before = state.model.head.outputs.project.weight.clone()
    go(state, itertools.repeat(toy_batch([0])), LoopConfig(steps=3, precision="float16"))
    assert torch.equal(before, state.model.head.outputs.project.weight)  # all three overflowed
    assert state.scaler.get_scale() == 2.0**117
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    go(state, itertools.repeat(toy_batch([0])), LoopConfig(steps=5, precision="float16"))
    assert not torch.equal(before, state.model.head.outputs.project.weight)


class Interrupted(Exception):
    pass


def stopping(batches, at):
    """The batches up to one in whose place an error comes."""
    for number, batch in enumerate(batches):
        if number == at:
            raise Interrupted
        yield batch


def test_checkpoint_is_written_on_the_way_out_of_an_error():
    saved = []
    state = toy_state(toy_model())
    with pytest.raises(Interrupted):
        go(
            state,
            stopping(toy_batches(0, 1), 3),
            LoopConfig(9, accumulate=2),
            save=lambda now: saved.append((now.step, now.model.state_dict())),
        )
    assert [step for step, _ in saved] == [1]  # the step that was going on has not happened


def test_ctrl_c_ends_the_run_after_its_step_with_a_checkpoint():
    saved, done = [], []

    def batches():
        for batch in toy_batches(0, 1):
            if len(done) == 1:
                signal.raise_signal(signal.SIGINT)
            done.append(1)
            yield batch

    with pytest.raises(KeyboardInterrupt):
        go(
            toy_state(toy_model()),
            batches(),
            LoopConfig(9, evaluate_every=2),
            save=lambda now: saved.append(now.step),
            evaluate=lambda model: pytest.fail("evaluated"),
        )
    assert saved == [2]


def test_evaluation_that_a_stop_prevented_comes_first_when_the_run_goes_on():
    evaluated, saved = [], []
    state = toy_state(toy_model())
    state.step = 2  # stopped after the step and before its evaluation
    go(
        state,
        itertools.islice(toy_batches(0, 1), 1),
        LoopConfig(3, evaluate_every=2),
        save=lambda now: saved.append(now.step),
        evaluate=lambda model: evaluated.append(state.step) or {"AP": 0.5},
    )
    assert evaluated == [2, 3]
    assert saved == [2, 3]  # the first is the best


def test_no_checkpoint_of_a_run_that_diverged(monkeypatch):
    monkeypatch.setattr("glip.training.loop.MAX_BAD_STEPS", 1)
    saved = []
    with pytest.raises(DivergedError):
        go(
            toy_state(toy_model()),
            poisoned(toy_batches(0, 1), {1}),
            LoopConfig(9),
            save=lambda now: saved.append(now.step),
        )
    assert saved == []
