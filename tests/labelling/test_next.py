"""What a person should look at next."""

from glip.data.labels import Label, Labelled
from glip.labelling.next import Doubt, label_next


def photo(name: str, *labels: tuple[str, float | None]) -> Labelled:
    boxes = (Label(of, (0.0, 0.0, 10.0, 10.0), score) for of, score in labels)
    return Labelled(name, (20, 20), tuple(boxes))


PHOTOS = [
    photo("sure.jpg", ("cat", 0.9)),
    photo("unsure.jpg", ("cat", 0.31), ("cat", 0.8)),
    photo("middling.jpg", ("cat", 0.5)),
    photo("rare.jpg", ("dog", 0.7), ("cat", 0.32)),
    photo("drawn.jpg", ("dog", None)),
    photo("empty.jpg"),
]


def test_least_sure_come_first_and_rare_classes_before_others() -> None:
    assert label_next(PHOTOS) == [
        Doubt("rare.jpg", "dog", 0.7),
        Doubt("unsure.jpg", "cat", 0.31),
        Doubt("middling.jpg", "cat", 0.5),
        Doubt("sure.jpg", "cat", 0.9),
    ]


def test_no_more_than_asked_for_and_each_once() -> None:
    assert [doubt.picture for doubt in label_next(PHOTOS, 2)] == ["rare.jpg", "unsure.jpg"]
    assert label_next([], 5) == label_next(PHOTOS[-2:]) == []


def test_memory_does_not_grow_with_the_photos() -> None:
    many = (photo(f"{number}.jpg", ("cat", 0.3 + number / 20000)) for number in range(10_000))
    assert [doubt.picture for doubt in label_next(many, 3)] == ["0.jpg", "1.jpg", "2.jpg"]
