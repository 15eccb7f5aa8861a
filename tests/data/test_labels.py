"""Labels between a model and the files that keep them."""

import json

import pytest

from glip.data.labels import Label, Labelled, part_of


def test_label_comes_back_from_a_journal():
    labels = (Label("cat", (1.5, 2.0, 11.5, 7.0), 0.75, "kitten"), Label("dog", (0, 0, 1, 1)))
    kept = Labelled("a/é.png", (90, 120), labels)
    assert Labelled.from_json("a/é.png", json.loads(json.dumps(kept.to_json()))) == kept
    assert labels[0].sides == (10.0, 5.0)


def test_parts_follow_from_names_alone():
    names = [f"folder/{number}.jpg" for number in range(2000)]
    parts = [part_of(name, 0.2) for name in names]
    assert 0.16 < parts.count("val") / len(parts) < 0.24
    assert [part_of(name, 0.2) for name in reversed(names)] == parts[::-1]
    wider = [part_of(name, 0.4) for name in names]  # a greater share takes more, gives none back
    assert all(b == "val" for a, b in zip(parts, wider, strict=True) if a == "val")
    assert {part_of(name, 0.0) for name in names} == {"train"}
    assert {part_of(name, 1.0) for name in names} == {"val"}


@pytest.mark.parametrize("name", ["\udcff.png", "猫.png", ""])
def test_any_name_has_a_part(name):
    assert part_of(name, 0.5) in ("train", "val")
