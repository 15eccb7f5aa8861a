"""Classes asked for in other words."""

from pathlib import Path

import pytest

from glip.data.formats.coco import parse_detection
from glip.errors import ConfigError
from glip.evaluation.reworded import reworded_part


@pytest.fixture
def data():
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 9, "height": 9, "vocabulary": v}
        for n, v in enumerate(["farm", "town", "farm"])
    ]
    categories = [{"id": 1, "name": "cow"}, {"id": 2, "name": "car"}]
    content = {"images": images, "annotations": [], "categories": categories}
    return parse_detection({**content, "vocabularies": {"farm": [1], "town": [2]}}, Path("a.json"))


def test_pictures_whose_vocabulary_has_the_class_are_taken(data):
    part = reworded_part(data, {"cow": "cattle"})
    assert [record.image_id for record in part.records] == [0, 2]
    assert part.names == data.names


@pytest.mark.parametrize(
    ("name", "way_out"), [("cows", "did you mean 'cow'"), ("aeroplane", "leave it out")]
)
def test_a_name_that_is_no_class_is_refused(data, name, way_out):
    with pytest.raises(ConfigError, match=rf"'{name}' is no class of a\.json; {way_out}"):
        reworded_part(data, {name: "x"})
