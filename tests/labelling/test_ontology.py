"""Ontologies: what they ask for, what they make of the answer, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glip.data.labels import Label
from glip.errors import ConfigError
from glip.labelling.ontology import Class, Ontology
from glip.structures import Detections
from glip.text.prompt import Prompt

FILE = """\
# things in the street
defaults:
  threshold: 0.35
classes:
  raccoon:
  person:
    phrases: [person, pedestrian]
    not: [mannequin, wax figure]
    threshold: 4e-1
    min_side_px: 12
    max_area_share: 0.9
    nms_group: living
    parent: mammal
  bin: [trash can, dustbin]
  no: {phrases: "no sign"}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "things.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def found(ontology: Ontology, *rows: tuple[str, tuple[float, ...], float]) -> Detections:
    """Detections of (phrase, box as files have it, score) in a picture of 200 x 100 pixels."""
    prompt = Prompt.from_classes(ontology.phrases)
    boxes = torch.tensor([box for _, box, _ in rows], dtype=torch.float32).reshape(-1, 4)
    return Detections(
        boxes=boxes,
        scores=torch.tensor([score for _, _, score in rows], dtype=torch.float32),
        phrase_ids=torch.tensor([ontology.phrases.index(p) for p, _, _ in rows]).long(),
        prompt=prompt,
        image_hw=(100, 200),
    )


def test_a_file_is_read(tmp_path: Path) -> None:
    ontology = Ontology.read(write(tmp_path, FILE))
    assert ontology.classes == (
        Class("raccoon", ("raccoon",), threshold=0.35),
        Class(
            "person",
            ("person", "pedestrian"),
            negatives=("mannequin", "wax figure"),
            threshold=0.4,
            min_side_px=12,
            max_area_share=0.9,
            nms_group="living",
            parent="mammal",
        ),
        Class("bin", ("trash can", "dustbin"), threshold=0.35),
        Class("no", ("no sign",), threshold=0.35),  # not the truth value that YAML makes of it
    )
    assert ontology.phrases == (
        *("raccoon", "person", "pedestrian", "trash can", "dustbin", "no sign"),
        *("mannequin", "wax figure"),
    )
    assert ontology.lowest_threshold == 0.35


def test_a_list_of_names_is_enough(tmp_path: Path) -> None:
    short = Ontology.read(write(tmp_path, "classes: [raccoon, trash can]"), threshold=0.5)
    assert short == Ontology.of_names(["raccoon", "trash can"], threshold=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "things.yaml is empty; it needs 'classes'"),
        ("a: [" + "[" * 5000, "things.yaml: is no YAML: too many levels"),
        ("a: [", "things.yaml:1: is no YAML: "),
        ("classes:\n\t- cat", "things.yaml:2: is no YAML: found character '\\t'"),
        ("- cat", "things.yaml:1: the file must be a mapping of classes, defaults"),
        ("clases: {}", "things.yaml:1: the file: unknown key 'clases'; did you mean 'classes'?"),
        ("defaults: {}", "things.yaml: has no 'classes'"),
        ("classes: {}", "things.yaml:1: no classes; name at least one"),
        ("classes: 3", "things.yaml:1: classes must be a mapping of names"),
        ("classes:\n  cat: cat", "things.yaml:2: class 'cat' must be a mapping of phrases"),
        (
            "classes:\n  cat:\n    treshold: 1",
            "things.yaml:3: class 'cat': unknown key 'treshold'; did you mean 'threshold'?",
        ),
        (
            "classes:\n  cat:\n    threshold: high",
            "things.yaml:3: threshold must be a number, got 'high'",
        ),
        (
            "classes:\n  cat:\n    threshold: [0.3]",
            "things.yaml:3: threshold must be a number, got 'a list or mapping'",
        ),
        (
            "classes:\n  cat:\n\n    threshold: 30",
            "things.yaml:4: class 'cat': threshold must lie in [0, 1], got 30",
        ),
        ("defaults: {threshold: .nan}\nclasses: [a]", "things.yaml:1: threshold must be a number"),
        (
            "classes:\n  cat:\n    min_side_px: -1",
            "things.yaml:3: class 'cat': min_side_px must be at least 0, got -1",
        ),
        (
            "classes:\n  cat:\n    min_side_px: 9\n    max_side_px: 5",
            "things.yaml:4: class 'cat': no box has min_side_px 9.0 and max_side_px 5.0",
        ),
        (
            "classes:\n  cat:\n    min_area_share: 0.5\n    max_area_share: 0.1",
            "things.yaml:4: class 'cat': no box has min_area_share 0.5 and max_area_share 0.1",
        ),
        ("classes:\n  cat:\n  dog:\n  cat:", "things.yaml:4: 'cat' is already there, in line 2"),
        ("classes:\n  Cat:\n  cat :", "things.yaml:3: class 'cat': is already there, as 'Cat'"),
        ("classes:\n  cat: []", "things.yaml:2: class 'cat': no phrases"),
        ("classes:\n  cat: [{a: b}]", "things.yaml:2: an entry of 'cat' must be a word or phrase"),
        ("classes:\n  cat:\n    not: ['']", "things.yaml:2: class 'cat': a phrase is empty"),
        ("classes:\n  '':", "things.yaml:2: class '': the name is empty"),
        (
            "classes:\n  cat:\n  lion: [big cat, Cat]",
            "things.yaml:3: class 'lion': phrase 'Cat' already belongs to 'cat'",
        ),
        (
            "classes:\n  person:\n    not: [person]",
            "things.yaml:3: class 'person': 'person' is both a phrase and a negative of it",
        ),
        (
            "classes:\n  a: {parent: b}\n  b: {parent: a}",
            "things.yaml:2: class 'a': parents in a ring: a -> b -> a",
        ),
    ],
)
def test_faults_of_a_file_are_named_with_their_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Ontology.read(write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml cannot be opened: No such file"):
        Ontology.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"classes: [\xe9]")
    with pytest.raises(ConfigError, match=r"latin.yaml is not UTF-8 text"):
        Ontology.read(tmp_path / "latin.yaml")


def test_names_that_are_no_ontology() -> None:
    with pytest.raises(ConfigError, match="ontology: class 'cat': is already there"):
        Ontology.of_names(["cat", "cat"])
    with pytest.raises(ConfigError, match="ontology: no classes"):
        Ontology.of_names([])


def test_wordings_become_classes_and_overlapping_ones_one_box() -> None:
    ontology = Ontology((Class("bin", ("trash can", "dustbin")), Class("cat", ("cat",))))
    labels = ontology.labels(
        found(
            ontology,
            ("trash can", (10, 10, 50, 50), 0.6),
            ("dustbin", (10, 10, 50, 49), 0.8),
            ("cat", (11, 10, 50, 50), 0.7),  # another class may lie there
            ("dustbin", (60, 10, 90, 50), 0.5),
        ),
        nms=0.6,
    )
    assert labels == (
        Label("bin", (10, 10, 50, 49), 0.8, "dustbin"),
        Label("cat", (11, 10, 50, 50), 0.7, "cat"),
        Label("bin", (60, 10, 90, 50), 0.5, "dustbin"),
    )


def test_classes_of_a_group_suppress_each_other() -> None:
    ontology = Ontology(
        (Class("car", ("car",), nms_group="wheels"), Class("van", ("van",), nms_group="wheels"))
    )
    rows = [("car", (10, 10, 50, 50), 0.6), ("van", (10, 11, 50, 50), 0.7)]
    [label] = ontology.labels(found(ontology, *rows), nms=0.6)
    assert label.name == "van"


def test_negatives_take_away_what_they_explain_better() -> None:
    ontology = Ontology((Class("person", ("person",), negatives=("mannequin",)),))
    box, elsewhere = (10, 10, 50, 90), (100, 10, 150, 90)
    for negative_box, score, kept in (
        (box, 0.7, False),
        (box, 0.5, True),  # scores below the person
        (elsewhere, 0.9, True),
    ):
        rows = [("person", box, 0.6), ("mannequin", negative_box, score)]
        labels = ontology.labels(found(ontology, *rows), nms=0.6)
        assert [label.name for label in labels] == ["person"] * kept


def test_a_negative_can_be_a_class_of_its_own() -> None:
    ontology = Ontology(
        (Class("person", ("person",), negatives=("mannequin",)), Class("doll", ("mannequin",)))
    )
    assert ontology.phrases == ("person", "mannequin")
    rows = [("person", (10, 10, 50, 90), 0.6), ("mannequin", (10, 10, 50, 90), 0.7)]
    assert [label.name for label in ontology.labels(found(ontology, *rows), nms=0.6)] == ["doll"]


@pytest.mark.parametrize(
    ("limits", "box", "kept"),
    [
        ({}, (10, 10, 10, 50), False),  # no extent
        ({"min_side_px": 20}, (10, 10, 30, 90), True),
        ({"min_side_px": 20}, (10, 10, 29, 90), False),
        ({"max_side_px": 80}, (10, 10, 30, 90), True),
        ({"max_side_px": 80}, (10, 10, 30, 91), False),
        ({"min_area_share": 0.01}, (0, 0, 10, 20), True),  # 200 of 20,000 pixels
        ({"min_area_share": 0.01}, (0, 0, 10, 19), False),
        ({"max_area_share": 0.5}, (0, 0, 100, 100), True),
        ({"max_area_share": 0.5}, (0, 0, 101, 100), False),
        ({"threshold": 0.6}, (0, 0, 9, 9), False),  # above, not at
    ],
)
def test_limits_of_a_class(limits: dict[str, float], box: tuple[float, ...], kept: bool) -> None:
    ontology = Ontology((Class("cat", ("cat",), **limits),))
    rows = [("cat", box, 0.5)]
    assert len(ontology.labels(found(ontology, *rows), nms=0.6)) == kept


def test_nothing_found_gives_no_labels() -> None:
    ontology = Ontology.of_names(["cat"])
    assert ontology.labels(found(ontology), nms=0.6) == ()


def test_a_class_is_called_the_same_in_both_unicode_forms() -> None:
    assert Ontology.of_names(["cafe\u0301"]).names == ("caf\u00e9",)
    with pytest.raises(ConfigError, match="is already there"):
        Ontology.of_names(["cafe\u0301", "caf\u00e9"])
