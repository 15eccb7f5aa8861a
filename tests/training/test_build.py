"""What a run is built of."""

import pytest
import torch

from glip.checkpoint import Weights, save
from glip.data.augment import AugmentConfig
from glip.data.formats.recognise import READERS
from glip.data.sampling import SamplingConfig
from glip.errors import ConfigError, StorageError
from glip.evaluation.config import EvaluationConfig
from glip.model.presets import PRESETS
from glip.samples import copy_samples
from glip.training.build import (
    materials,
    starting_point,
    steps_between_evaluations,
    steps_of,
    tokenizer_json,
)
from glip.training.run_config import DataConfig, RunConfig, SourceConfig
from tests.toy import CONFIG, toy_model

CPU = torch.device("cpu")
WORDS = {"cat": ["kitty"], "CAT": ["tom"], "zeppelin": ["airship"]}


def test_length_is_in_steps_or_in_parts_of_epochs():
    assert steps_of(RunConfig(steps=7), epoch=100) == 7
    assert steps_of(RunConfig(epochs=2.5), epoch=100) == 250
    assert steps_of(RunConfig(epochs=0.001), epoch=100) == 1
    with pytest.raises(ConfigError, match="the run has no length: set epochs or steps"):
        steps_of(RunConfig(), epoch=100)


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"every_epochs": 0.5}, 50),
        ({"every_epochs": 0.001}, 1),
        ({"every_epochs": 1.0, "every_steps": 30}, 30),
        ({"every_epochs": None}, None),
    ],
)
def test_steps_between_evaluations(values, steps):
    assert steps_between_evaluations(EvaluationConfig("a.json", **values), 100) == steps


def test_run_starts_from_its_weights_or_its_seed(tmp_path, monkeypatch, caplog):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model(seed=3).state_dict()))
    given = starting_point(RunConfig(weights=str(tmp_path / "toy.safetensors")), CPU)
    assert given.config == CONFIG and tokenizer_json(given.tokenizer) is None
    assert not caplog.records
    other = RunConfig(weights=str(tmp_path / "toy.safetensors"), model={"head": {"blocks": 1}})
    assert starting_point(other, CPU).config == CONFIG
    assert "bring their own model, " in caplog.text and "weights=null" in caplog.text
    monkeypatch.setitem(PRESETS, "glip_tiny", CONFIG)
    one, same, other = (
        starting_point(RunConfig(model="glip_tiny", seed=seed), CPU).model.state_dict()
        for seed in (3, 3, 4)
    )
    name = "head.outputs.project.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])


def test_files_of_several_sources_are_read_once(tmp_path, monkeypatch, caplog):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model().state_dict()))
    sample_set = copy_samples(tmp_path / "samples")
    (sample_set / "train.json").write_text(
        (sample_set / "train.json").read_text().replace('"annotations": [', '"annotations": [7, ')
    )
    read = []

    def reader(request, own=READERS["coco"]):
        read.append(request.path.name)
        return own(request)

    monkeypatch.setitem(READERS, "coco", reader)
    files = [str(sample_set / name) for name in ("train.json", "val.json", "train.json")]
    sources = tuple(SourceConfig(file, max_bad=0.5, weight=w) for w, file in enumerate(files, 1))
    weights = str(tmp_path / "toy.safetensors")
    _, made = materials(RunConfig(weights=weights, data=DataConfig(sources)), CPU)
    assert read == ["train.json", "val.json"]
    assert len(made[0]) == len(made[2]) > len(made[1]) > 0
    assert caplog.text.count("left out 1 of") == 1  # what the reader says, it says once


def test_names_that_differ_in_letter_case_are_told_once_with_the_way_out(tmp_path, caplog):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model().state_dict()))
    file = copy_samples(tmp_path / "samples") / "train.json"
    file.write_text(file.read_text().replace('"cup"', '"Cat"'))
    twice = (SourceConfig(str(file)), SourceConfig(str(file), weight=2))
    config = RunConfig(weights=str(tmp_path / "toy.safetensors"), data=DataConfig(twice))
    materials(config, CPU)
    said = [r.getMessage() for r in caplog.records if "'cat' and 'Cat'" in r.getMessage()]
    assert len(said) == 1 and "make them one category" in said[0]


def test_other_words_for_no_class_of_any_data_set_are_told_once(tmp_path, caplog):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model().state_dict()))
    sample_set = copy_samples(tmp_path / "samples")
    one, other = (
        SourceConfig(str(sample_set / name), sampling=SamplingConfig(wordings=WORDS, decorations=d))
        for name, d in (("train.json", {"kitty": ["a ", ""]}), ("val.json", {"kity": ["a ", ""]}))
    )
    config = RunConfig(weights=str(tmp_path / "toy.safetensors"), data=DataConfig((one, other)))
    materials(config, CPU)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "sampling.wordings: no data set has the class 'CAT' (did you mean 'cat'?), 'zeppelin'",
        "sampling.decorations: no data set has the class 'kity' (did you mean 'kitty'?)",
    ]


def test_other_words_of_each_data_set_may_be_decorated(tmp_path, caplog):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model().state_dict()))
    sample_set = copy_samples(tmp_path / "samples")
    sampling = (
        SamplingConfig(wordings={"cat": ["kitty"]}, decorations={"kitty": ["a ", ""]}),
        SamplingConfig(wordings={"cat": ["feline"]}),
    )
    sources = tuple(SourceConfig(str(sample_set / "train.json"), sampling=one) for one in sampling)
    materials(RunConfig(weights=str(tmp_path / "toy.safetensors"), data=DataConfig(sources)), CPU)
    assert "sampling" not in caplog.text


def test_large_pictures_are_kept_small_on_request(tmp_path):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model(seed=3).state_dict()))
    sample_set = copy_samples(tmp_path / "samples")

    def source(**options):
        data = DataConfig(
            (SourceConfig(str(sample_set / "train.json")),),
            AugmentConfig(short_sides=(48, 64), long_side=128),
            **options,
        )
        return materials(RunConfig(weights=str(tmp_path / "toy.safetensors"), data=data), CPU)[1][0]

    _, plain = source().scene(0)
    _, small = source(picture_cache=str(tmp_path / "kept")).scene(0)
    assert min(plain.image.size) > 128 and min(small.image.size) == 64
    torch.testing.assert_close(
        torch.from_numpy(small.boxes) / small.image.width,
        torch.from_numpy(plain.boxes) / plain.image.width,
    )
    (tmp_path / "in_the_way").write_text("")
    with pytest.raises(StorageError, match="in_the_way cannot be written"):
        source(picture_cache=str(tmp_path / "in_the_way"))
    with pytest.raises(ConfigError, match=r"data\.picture_cache_gib must be above 0, got 0"):
        source(picture_cache_gib=0)
