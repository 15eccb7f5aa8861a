"""What is asked about which picture."""

from pathlib import Path

import pytest

from glip.data.formats.coco import parse_detection
from glip.errors import ConfigError
from glip.evaluation.questions import by_picture, detection_only, detection_questions, limited

PATH = Path("set.json")


@pytest.fixture
def data():
    images = [{"id": n, "file_name": f"{n}.png", "width": 9, "height": 9} for n in (3, 1, 2)]
    images[2]["vocabulary"] = "farm"
    images[0]["vocabulary"] = images[1]["vocabulary"] = "town"
    categories = [{"id": n, "name": name} for n, name in ((9, "cow"), (2, "car"), (5, "cat"))]
    vocabularies = {"farm": [9, 5], "town": [2]}
    content = {"images": images, "annotations": [], "categories": categories}
    return parse_detection({**content, "vocabularies": vocabularies}, PATH)


def asked(questions):
    return {
        question.image_id: [(one.prompt.names, one.labels) for one in question.asked]
        for question in questions
    }


def test_pictures_are_asked_for_their_vocabulary_in_the_order_of_ids(data):
    town = [(("car",), (2,))]
    assert asked(detection_questions(data)) == {
        3: town,
        1: town,
        2: [(("cat", "cow"), (5, 9))],
    }


def test_names_are_asked_for_in_chunks_and_in_other_words(data):
    questions = detection_questions(data, chunk=1, wordings={"cat": "feline", "dog": "hound"})
    assert asked(questions)[2] == [(("feline",), (5,)), (("cow",), (9,))]


def test_prompts_of_one_vocabulary_are_shared(data):
    first, second, _ = detection_questions(data)
    assert first.asked is second.asked


def test_questions_about_one_picture_are_taken_together(data):
    questions = detection_questions(data)
    groups = by_picture([questions[0], questions[0], questions[1]])
    assert [len(group) for group in groups] == [2, 1]


def test_the_first_pictures_and_nothing_but_boxes(data):
    assert [record.image_id for record in limited(data, 2).records] == [3, 1]
    assert limited(data, None) is data and len(limited(data, 99)) == 3
    assert detection_only(data, PATH) is data
    with pytest.raises(ConfigError, match=r"set\.json holds captions"):
        detection_only([], PATH)
