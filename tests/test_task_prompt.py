import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from glip.checkpoint import Weights, fingerprint
from glip.cli.main import main
from glip.detector import Detector, load
from glip.errors import CheckpointError, PromptError
from glip.task_prompt import (
    METADATA,
    read_prompt,
    rows_of,
    save_prompt,
)
from glip.text.prompt import Prompt, reads_as
from glip.training.words import as_table

pytestmark = pytest.mark.whole

NAMES = ["cat", "traffic light", "dog"]


@pytest.fixture
def task(tiny_detector):
    return as_table(tiny_detector, Prompt.from_classes(NAMES))


def same(found, other):
    assert found.phrases == other.phrases
    torch.testing.assert_close(found.boxes, other.boxes)
    torch.testing.assert_close(found.scores, other.scores)


def test_table_of_a_text_predicts_what_the_text_does(tiny_detector, task, make_picture):
    [expected] = tiny_detector.predict(make_picture(), NAMES)
    [found] = tiny_detector.with_prompt(task).predict(make_picture())
    assert len(expected)
    same(found, expected)


def test_text_encoder_does_not_run(tiny_detector, task, make_picture, monkeypatch):
    tuned = tiny_detector.with_prompt(task)
    monkeypatch.setattr(
        tiny_detector.model.text, "forward", lambda tokens: pytest.fail("was asked")
    )
    tuned.predict(make_picture())


def test_offsets_change_what_is_found(tiny_detector, task, make_picture):
    changed = task.learned(np.ones_like(task.offsets))
    [before] = tiny_detector.with_prompt(task).predict(make_picture(), threshold=0.0)
    [after] = tiny_detector.with_prompt(changed).predict(make_picture(), threshold=0.0)
    assert not np.array_equal(before.scores, after.scores)


def test_file_holds_all_of_it(tmp_path, task):
    task = replace(task, thresholds=(0.1, 0.2, 0.3), notes={"step": 7})
    task = task.learned(np.random.default_rng(0).normal(size=task.offsets.shape))
    path = tmp_path / "task.prompt.safetensors"
    save_prompt(path, task)
    back = read_prompt(path)
    for name in ("prompt", "token_ids", "base", "fingerprint", "thresholds", "notes"):
        assert getattr(back, name) == getattr(task, name)
    for name in ("states", "offsets", "token_map", "negatives"):
        assert np.array_equal(getattr(back, name), getattr(task, name))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size < 10_000


def test_many_prompts_on_one_model_switch_per_call(tiny_detector, make_picture):
    first, second = (
        tiny_detector.with_prompt(as_table(tiny_detector, Prompt.from_classes(names)))
        for names in (["cat"], ["dog", "bus"])
    )
    assert first.model.head is second.model.head
    for _ in range(2):
        [one], [two] = first.predict(make_picture()), second.predict(make_picture())
        assert set(one.phrases) <= {"cat"}
        assert set(two.phrases) <= {"dog", "bus"}
    same(tiny_detector.predict(make_picture(), ["cat"])[0], one)


def test_class_order_may_change_between_tuning_and_use(tiny_detector, task, make_picture):
    tuned = tiny_detector.with_prompt(task)
    every = 10_000  # detections
    [expected] = tuned.predict(make_picture(), max_detections=every)
    asked = ["dog", "Cat", "traffic_light"]
    [found] = tuned.predict(make_picture(), asked, max_detections=every)
    renamed = {"dog": "dog", "Cat": "cat", "traffic_light": "traffic light"}
    assert [renamed[name] for name in found.phrases] == expected.phrases
    [some] = tuned.predict(make_picture(), ["dog"], max_detections=every)
    assert some.phrases == [name for name in expected.phrases if name == "dog"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["cow"], "does not know 'cow'; its classes are cat, traffic light, dog"),
        (["traffic light", "Traffic_Light"], "'Traffic_Light' is asked for twice"),
    ],
)
def test_other_classes_are_refused(tiny_detector, task, make_picture, asked, message):
    with pytest.raises(PromptError, match=message):
        tiny_detector.with_prompt(task).predict(make_picture(), asked)


def test_name_that_fits_two_classes_is_refused():
    assert rows_of(["a b"], ["a b", "A_b"]) == [0]
    with pytest.raises(PromptError, match="knows twice"):
        rows_of(["A B"], ["a b", "A_b"])
    assert reads_as("Big_ Cat (animal)") == "big cat"


def test_detector_without_prompt_wants_words(tiny_detector, make_picture):
    with pytest.raises(PromptError, match="say what to look for"):
        tiny_detector.predict(make_picture())


def test_thresholds_of_classes_are_those_of_predict(tiny_detector, task, make_picture):
    [everything] = tiny_detector.with_prompt(task).predict(make_picture(), threshold=0.0)
    limits = {"cat": 0.2, "traffic light": 0.99, "dog": 0.6}
    tuned = tiny_detector.with_prompt(replace(task, thresholds=tuple(limits.values())))
    [found] = tuned.predict(make_picture(), ["dog", "cat", "traffic light"], max_detections=1000)
    assert all(
        score > limits[name]
        for name, score in zip(found.phrases, found.scores.tolist(), strict=True)
    )
    assert len(found)
    assert len(tuned.predict(make_picture(), threshold=0.0)[0]) == len(everything)
    [some] = tuned.predict(make_picture(), threshold={"cat": 0.5}, max_detections=1000)
    for name, limit in {**limits, "cat": 0.5}.items():
        assert (some[name].scores > limit).all()
    assert len(some["dog"]) == len(found["dog"])


def test_negatives_take_the_place_of_what_they_explain_better(tiny_detector, task, make_picture):
    # The same tokens as the first class, and a copy of them: equal scores beat nothing.
    equal = replace(task, negatives=task.token_map[:1])
    [plain] = tiny_detector.with_prompt(task).predict(make_picture(), ["cat"])
    [found] = tiny_detector.with_prompt(equal).predict(make_picture(), ["cat"])
    same(found, plain)
    [other] = tiny_detector.with_prompt(replace(task, negatives=task.token_map[1:])).predict(
        make_picture(), ["cat"], threshold=0.0, max_detections=10_000
    )
    [alone] = tiny_detector.with_prompt(task).predict(
        make_picture(), ["cat"], threshold=0.0, max_detections=10_000
    )
    assert set(other.phrases) <= {"cat"}
    assert len(other) < len(alone)


def test_another_base_model_is_refused(tiny_detector, task):
    state = dict(tiny_detector.model.state_dict())
    state["head.outputs.bias"] = state["head.outputs.bias"] + 1e-3
    other = Detector.from_weights(Weights(tiny_detector.config, state))
    with pytest.raises(CheckpointError, match=r"was made for tiny_for_tests with the fingerprint"):
        other.with_prompt(task)


def test_fingerprint_is_that_of_the_weights_in_any_number_format(tiny_detector):
    weights = Weights(
        tiny_detector.config,
        {k: t.half() if t.is_floating_point() else t
         for k, t in tiny_detector.model.state_dict().items()},
    )  # fmt: skip
    exact = Detector.from_weights(weights).fingerprint
    assert exact == Detector.from_weights(weights, dtype="bfloat16").fingerprint
    assert exact == fingerprint(weights.state) != tiny_detector.fingerprint


def test_fingerprint_does_not_look_at_the_text_encoder(tiny_detector):
    state = dict(tiny_detector.model.state_dict())
    without = {name: t for name, t in state.items() if not name.startswith("text.")}
    assert fingerprint(without) == tiny_detector.fingerprint


def test_reduced_precision_takes_a_prompt(tiny_weights, task, make_picture):
    detector = Detector.from_weights(tiny_weights, dtype="bfloat16")
    [expected] = detector.predict(make_picture(), NAMES)
    [found] = detector.with_prompt(task).predict(make_picture())
    assert abs(len(found) - len(expected)) <= 3


def damaged(path, task, how):
    save_prompt(path, task)
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif how == "pickle":
        torch.save({"states": torch.from_numpy(task.states)}, path)
    elif how == "weights":
        save_file({"a": torch.zeros(1)}, path)
    else:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if how == "shapes":
            tensors["offsets"] = torch.zeros(1, 1)
        elif how == "scalar":
            tensors["states"] = torch.tensor(0.0)
        elif how == "nan":
            tensors["states"][0] = torch.nan
        elif how == "lacking":
            del tensors["offsets"]
        elif how == "thresholds":
            header = json.loads(metadata[METADATA])
            metadata[METADATA] = json.dumps({**header, "thresholds": [2.0] * len(task.names)})
        elif how == "newer":
            header = json.loads(metadata[METADATA])
            metadata[METADATA] = json.dumps({**header, "format": 99})
        save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "there is no learned prompt"),
        ("cut", "or damaged"),
        ("pickle", r"is no learned prompt, or damaged .*names and texts go to .*predict\(image"),
        ("weights", "weights are loaded with glip.load"),
        ("shapes", r"task.prompt.safetensors: offsets of the prompt is \(1, 1\), expected"),
        ("scalar", r"states of the prompt is \(\), expected"),
        ("nan", "states or offsets of the prompt are no numbers"),
        ("lacking", r"is damaged, its header cannot be read \(KeyError\('offsets'\)\); make"),
        ("thresholds", "thresholds lie between 0 and 1"),
        ("newer", "it has format 99, this version of glip reads"),
    ],
)
def test_bad_files_are_named(tmp_path, task, how, message):
    path = tmp_path / "task.prompt.safetensors"
    damaged(path, task, how)
    with pytest.raises(CheckpointError, match=message):
        read_prompt(path)
    with pytest.raises(CheckpointError, match="is a folder; name the learned prompt in it"):
        read_prompt(tmp_path)


def test_prompt_of_several_passes_is_refused(tiny_detector):
    prompt = Prompt.from_classes([f"thing number {n}" for n in range(90)])
    with pytest.raises(PromptError, match="a learned prompt has one; split the task"):
        as_table(tiny_detector, prompt)


def test_command_predicts_with_a_learned_prompt(tmp_path, task, tiny_file, make_picture, capsys):
    save_prompt(tmp_path / "t.prompt.safetensors", replace(task, thresholds=(0.3, 0.9999, 0.3)))
    make_picture().save(tmp_path / "a.png")
    words = ["predict", "--image", str(tmp_path / "a.png"), "--no-output", "--device", "cpu"]
    words += ["--weights", str(tiny_file), "--json", "-"]
    assert main([*words, "--task", str(tmp_path / "t.prompt.safetensors")]) == 0
    found = json.loads(capsys.readouterr().out)
    phrases = {one["phrase"] for one in found["detections"]}
    assert phrases
    assert "traffic light" not in phrases
    assert main([*words, "--task", str(tmp_path / "no.prompt.safetensors")]) == 2
    assert "there is no learned prompt" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_model_is_loaded_without_a_text_encoder(tmp_path, task, tiny_file, make_picture, dtype):
    path = tmp_path / "t.prompt.safetensors"
    save_prompt(path, task.learned(np.full_like(task.offsets, 0.1)))
    beside = load(tiny_file, device="cpu", dtype=dtype).with_prompt(path)
    instead = load(tiny_file, device="cpu", dtype=dtype, prompt=path)
    same(instead.predict(make_picture())[0], beside.predict(make_picture())[0])
    names = [name for name, _ in instead.model.named_parameters() if name.startswith("text.")]
    assert names == ["text.offsets"]
    save_prompt(path, replace(task, fingerprint="0" * 16))
    with pytest.raises(CheckpointError, match=f"{tiny_file}: this prompt was made for"):
        load(tiny_file, device="cpu", prompt=path)
