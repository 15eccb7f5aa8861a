"""What a run leaves."""

import json

import torch

import glip
from glip.data.formats.recognise import read_annotated
from glip.evaluation.predictions import prediction, write_predictions
from glip.training.lora import LoraConfig, add_lora
from glip.training.outcome import sample_pictures, save_outcome, weights_suffix
from glip.training.run_config import RunConfig
from tests.toy import toy_state


def test_a_learned_prompt_is_no_file_of_weights():
    assert weights_suffix("prompt") == ".prompt.safetensors"
    assert weights_suffix("lora") == weights_suffix("full") == ".safetensors"


def test_the_average_is_saved_and_factors_are_merged(calm_file, tmp_path, make_picture):
    detector = glip.load(calm_file, device="cpu")
    config = RunConfig(tune="lora", lora=LoraConfig())
    add_lora(detector.model, config.lora)
    state = toy_state(detector.model)
    with torch.no_grad():
        for tensor in state.ema.average.values():
            tensor.mul_(1.01)
    save_outcome(tmp_path / "out.safetensors", state, detector, config)
    saved = glip.load(tmp_path / "out.safetensors", device="cpu")
    before = glip.load(calm_file, device="cpu").model.state_dict()
    after = saved.model.state_dict()
    assert before.keys() == after.keys()  # plain weights
    torch.testing.assert_close(
        after["head.outputs.project.weight"], 1.01 * before["head.outputs.project.weight"]
    )
    saved.predict(make_picture(), ["cat"])


def test_samples_are_the_first_pictures_with_boxes_and_detections(squares, tmp_path):
    found = [prediction(0, [[4, 10, 34, 40]], [0.9], [0]), prediction(2, [], [], [])]
    write_predictions(found, tmp_path / "predictions.jsonl", {})
    shown = sample_pictures(read_annotated(squares / "train.json"), tmp_path, 0.3, 5)
    content = json.loads((squares / "train.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert [picture.name for picture in shown] == [names[0], names[2]]
    assert all(picture.truth.size == picture.found.size == (120, 90) for picture in shown)
    assert len(sample_pictures(read_annotated(squares / "train.json"), tmp_path, 0.3, 1)) == 1
    assert sample_pictures(None, tmp_path, 0.3, 5) == []
