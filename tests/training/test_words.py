"""The words that a task starts from, and data that has no one prompt."""

import numpy as np
import pytest

from glip.data.formats.coco import parse_detection, read_detection
from glip.data.pictures import PictureFolder
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.errors import ConfigError, DataError, PromptError
from glip.text.prompt import Prompt
from glip.training.words import as_table, check_names, prompt_of
from tests.training.squares import write_set

ALL = SamplingConfig("all", shuffle=False)


@pytest.fixture
def source_of(tmp_path, tiny_detector):
    def make(names=("red", "green"), sampling=ALL):
        path = write_set(tmp_path / "set.json", dict(enumerate(names)), [(1, [0]), (2, [1])])
        data = read_detection(path)
        return DetectionSource(data, PictureFolder(tmp_path), tiny_detector.tokenizer, sampling)

    return make


def test_table_holds_what_the_encoder_says(tiny_detector):
    table = as_table(tiny_detector, Prompt.of(["red", "green"]))
    assert table.names == ("red", "green")
    assert table.states.shape == (len(table.token_ids), 32)
    assert not table.offsets.any()
    assert table.token_map.sum(1).tolist() == [1, 1]
    assert table.fingerprint == tiny_detector.fingerprint
    assert np.isfinite(table.states).all() and table.states.dtype == np.float32


def test_table_is_one_pass(tiny_detector):
    with pytest.raises(PromptError, match=r"200 classes need \d+ passes .* split the task"):
        as_table(tiny_detector, Prompt.of([f"class number {n}" for n in range(200)]))


def test_all_pictures_are_asked_for_all_names_in_their_order(source_of):
    assert prompt_of([source_of()], flip=0.5).names == ("red", "green")


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (SamplingConfig("all"), "the same prompt for all pictures"),
        (SamplingConfig(shuffle=False), "the same prompt for all pictures"),
        (SamplingConfig("all", shuffle=False, wordings={"red": ("scarlet",)}), "without wordings"),
        (SamplingConfig("all", shuffle=False, partial_probability=0.3), "partial_probability"),
    ],
)
def test_prompts_that_change_are_refused(source_of, sampling, message):
    with pytest.raises(ConfigError, match=message):
        prompt_of([source_of(sampling=sampling)], flip=0.0)


def test_mirror_images_of_classes_that_a_mirror_exchanges_are_refused(source_of):
    source = source_of(("left hand", "right hand"))
    assert len(prompt_of([source], flip=0.0)) == 2
    with pytest.raises(ConfigError, match="'left hand', which a mirror turns into another"):
        prompt_of([source], flip=0.5)


def test_several_sources_are_refused(source_of):
    with pytest.raises(ConfigError, match="got 2 sources"):
        prompt_of([source_of(), source_of()], flip=0.0)


def test_pictures_that_were_not_searched_for_a_class_are_refused(tmp_path, tiny_detector):
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 50, "height": 50, "vocabulary": v}
            for n, v in enumerate("ab")
        ],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}],
        "vocabularies": {"a": [1], "b": [1, 2]},
    }
    data = parse_detection(content, tmp_path / "set.json")
    source = DetectionSource(data, PictureFolder(tmp_path), tiny_detector.tokenizer, ALL)
    with pytest.raises(ConfigError, match=r"in 0.png .* some were never looked for"):
        prompt_of([source], flip=0.0)


def test_names_that_read_the_same_are_refused():
    check_names(["red", "reddish"])
    with pytest.raises(DataError, match=r"'red' and 'Red ' read the same"):
        check_names(["red", "green", "Red "])
