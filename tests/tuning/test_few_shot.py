import json

import pytest

from glip.data.formats.coco import parse_detection, read_detection
from glip.errors import ConfigError, DataError
from glip.tuning.few_shot import KEY, select, write_selection


def data_of(categories, pictures, crowd=()):
    """Ids and names of categories; of each picture its id and the categories in it."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 50, "height": 50} for i, _ in pictures]
    annotations = [
        {
            "image_id": i,
            "category_id": owner,
            "bbox": [0, 0, 9, 9],
            "iscrowd": int((i, owner) in crowd),
        }
        for i, owners in pictures
        for owner in owners
    ]
    named = [{"id": number, "name": name} for number, name in categories.items()]
    content = {"images": images, "annotations": annotations, "categories": named}
    return parse_detection(content, "set.json")


MANY = [(n, [n % 3]) for n in range(30)]


@pytest.mark.parametrize("shift", [0, 1, 1000])
def test_ids_from_zero_or_with_gaps_get_their_shots(shift):
    names = {shift: "a", 7 * shift + 1: "b", 9 * shift + 2: "c"}
    ids = list(names)
    data = data_of(names, [(n, [ids[k] for k in row]) for n, row in MANY])
    drawn, selection = select(data, 3, seed=0)
    assert selection.pictures == {"a": 3, "b": 3, "c": 3}
    assert len(drawn) == 9
    assert drawn.category_ids == data.category_ids


def test_seed_decides_and_repeats():
    data = data_of({0: "a", 1: "b", 2: "c"}, MANY)
    draws = [select(data, 2, seed)[1].image_ids for seed in (3, 3, 30, 300)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_order_of_the_file_does_not_matter():
    names = {0: "a", 1: "b", 2: "c"}
    one = select(data_of(names, MANY), 2, 3)[1].image_ids
    other = select(data_of(names, MANY[::-1]), 2, 3)[1].image_ids
    assert set(one) == set(other)


def test_quota_counts_pictures_of_all_classes_in_them():
    # Each picture has both classes, so two of them serve two shots of each, whatever their boxes.
    data = data_of({1: "a", 2: "b"}, [(n, [1, 1, 2]) for n in range(9)])
    selection = select(data, 2)[1]
    assert selection.pictures == {"a": 2, "b": 2}
    assert selection.boxes == {"a": 4, "b": 2}


def test_fewer_pictures_than_shots_and_none_at_all():
    data = data_of({1: "a", 2: "rare", 3: "never"}, [*((n, [1]) for n in range(9)), (9, [2])])
    drawn, selection = select(data, 5)
    assert selection.pictures == {"a": 5, "rare": 1, "never": 0}
    assert selection.short == "fewer pictures with a box than 5: 'rare' 1, 'never' 0"
    assert select(data, 1)[1].short == "fewer pictures with a box than 1: 'never' 0"
    many = data_of({n: f"class {n}" for n in range(30)}, [(0, [0])])
    assert select(many, 1)[1].short.endswith("'class 10' 0 and 19 more classes")
    assert select(data_of({1: "a"}, [(0, [1])]), 1)[1].short is None
    assert drawn.names == ("a", "rare", "never")


def test_crowds_and_empty_pictures_are_no_shots():
    data = data_of({1: "a"}, [(0, [1]), (1, [1]), (2, [])], crowd={(1, 1)})
    assert select(data, 5)[1].image_ids == (0,)
    assert select(data, None)[1].image_ids == (0, 1, 2)  # all is all


@pytest.mark.parametrize(
    ("pictures", "shots", "error", "message"),
    [
        ([(0, [1])], 0, ConfigError, "shots must be at least 1, got 0; leave it out"),
        ([(0, [])], 1, DataError, "has no picture with a box"),
        ([(0, [])], None, DataError, "has no picture with a box"),
    ],
)
def test_nothing_to_draw(pictures, shots, error, message):
    with pytest.raises(error, match=message):
        select(data_of({1: "a"}, pictures), shots)


def test_written_file_reads_as_drawn_and_says_how(tmp_path):
    data = data_of({0: "a", 5: "b", 6: "c"}, [(n, [[0, 5, 6][k] for k in row]) for n, row in MANY])
    drawn, selection = select(data, 2, seed=30)
    path = tmp_path / "train.json"
    write_selection(path, drawn, selection)
    back = read_detection(path)
    assert (back.names, back.category_ids) == (data.names, data.category_ids)
    assert [record.image_id for record in back.records] == list(selection.image_ids)
    record = json.loads(path.read_text())[KEY]
    assert (record["shots"], record["seed"], record["pictures"]["b"]) == (2, 30, 2)
