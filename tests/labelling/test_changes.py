"""What people changed: made-up boxes, matched one to one."""

from __future__ import annotations

import pytest

from glip.data.labels import Label, Labelled
from glip.labelling.changes import EXAMPLES, KINDS, Change, Counts, compare, count_changes

HERE = (10.0, 10.0, 50.0, 50.0)
NEAR = (10.0, 10.0, 50.0, 40.0)  # IoU 0.75
FAR = (10.0, 10.0, 50.0, 29.0)  # IoU 0.475
AWAY = (200.0, 10.0, 240.0, 50.0)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (("cat", HERE), ("cat", HERE), ["accepted"]),
        (("cat", HERE), ("cat", (9.0, 11.0, 51.0, 49.5)), ["accepted"]),  # rounded
        (("cat", (3.0, 3.0, 5.0, 5.0)), ("cat", (4.0, 3.0, 6.0, 5.0)), ["accepted"]),  # IoU 1/3
        (("cat", HERE), ("cat", (10.0, 10.0, 51.5, 50.0)), ["moved"]),
        (("cat", HERE), ("cat", NEAR), ["moved"]),
        (("cat", HERE), ("cat", FAR), ["deleted", "added"]),
        (("cat", HERE), ("dog", HERE), ["relabelled"]),
        (("cat", HERE), ("dog", NEAR), ["relabelled"]),
        (("cat", HERE), ("dog", FAR), ["deleted", "added"]),
        (("cat", HERE), ("cat", AWAY), ["deleted", "added"]),
    ],
)
def test_one_box(
    before: tuple[str, tuple[float, ...]], after: tuple[str, tuple[float, ...]], kinds: list[str]
) -> None:
    changes = compare([Label(*before)], [Label(*after)])  # type: ignore[arg-type]
    assert [change.kind for change in changes] == kinds


def test_an_iou_is_that_of_exclusive_edges() -> None:
    [change] = compare([Label("cat", HERE)], [Label("cat", NEAR)])
    assert change.iou == pytest.approx(0.75)


def test_each_box_is_matched_once_and_the_best_overlap_first() -> None:
    before = [Label("cat", NEAR, 0.5), Label("cat", HERE, 0.9)]
    after = [Label("dog", (10.0, 10.0, 50.0, 48.0))]
    assert [(c.kind, c.before) for c in compare(before, after)] == [
        ("relabelled", before[1]),
        ("deleted", before[0]),
    ]
    twice = [Label("cat", HERE), Label("cat", HERE)]
    assert [c.kind for c in compare(twice[:1], twice)] == ["accepted", "added"]


def test_boxes_of_two_classes_in_one_place_keep_to_their_own() -> None:
    before = [Label("person", HERE), Label("rider", (10.0, 10.0, 50.0, 49.6))]
    rounded = [Label("rider", HERE), Label("person", HERE)]
    assert [c.kind for c in compare(before, rounded)] == ["accepted", "accepted"]
    # "person" would overlap "rider" as well as "rider" itself does.
    moved = (10.0, 10.0, 50.0, 45.0)
    both = [Label("person", HERE), Label("rider", HERE)]
    changes = compare(both, [Label("rider", moved)])
    assert [(c.kind, c.before) for c in changes] == [("moved", both[1]), ("deleted", both[0])]


def test_nothing_on_one_side() -> None:
    label = Label("cat", HERE)
    assert compare([], []) == []
    assert compare([label], []) == [Change("deleted", label, None)]
    assert compare([], [label]) == [Change("added", None, label)]


def test_counts_by_class_and_examples_the_most_telling_first() -> None:
    pairs = []
    for number in range(2 * EXAMPLES):
        deleted = Label("dog", HERE, number / 100)
        drawn = Label("fox", (0.0, 0.0, 10.0 + number, 10.0))
        boxes = Label("cat", AWAY, number / 100), Label("dog", AWAY)
        before = Labelled(f"{number}.png", (90, 300), (deleted, boxes[0]))
        pairs.append((before, Labelled(f"{number}.png", (90, 300), (drawn, boxes[1]))))
    found = count_changes(iter(pairs), ("cat", "dog", "bird"), not_compared=3)
    count = 2 * EXAMPLES
    assert found.classes == {
        "cat": Counts(relabelled=count),
        "dog": Counts(deleted=count),
        "bird": Counts(),
        "fox": Counts(added=count),
    }
    assert found.total == Counts(relabelled=count, deleted=count, added=count)
    assert found.total.proposed == 2 * count
    assert (found.pictures, found.not_compared) == (count, 3)
    assert found.relabelled == {("cat", "dog"): count}
    surest = [f"{number}.png" for number in reversed(range(EXAMPLES, count))]
    for kind in ("deleted", "relabelled", "added"):
        assert [one.picture for one in found.examples[kind]] == surest
    assert not found.examples["moved"] and not found.examples["accepted"]


def test_the_table_has_a_row_for_each_class_and_one_for_all() -> None:
    pair = (
        Labelled("a.png", (90, 300), (Label("cat", HERE, 0.5),)),
        Labelled("a.png", (90, 300), (Label("cat", HERE), Label("trash can", AWAY))),
    )
    header, cat, can, total = map(str.split, str(count_changes([pair], ("cat",))).splitlines())
    assert header == ["class", "proposed", *KINDS]
    assert cat == ["cat", "1", "1", "0", "0", "0", "0"]
    assert can == ["trash", "can", "0", "0", "0", "0", "0", "1"]
    assert total == ["all", "1", "1", "0", "0", "0", "1"]
    assert len(str(count_changes([], ("cat",))).splitlines()) == 2
    assert count_changes([], ()).total == Counts()
