"""Flickr30k Entities."""

import pytest

from glip.data.formats.flickr import parse_sentence, read_flickr
from glip.errors import DataError

XML = """<annotation><filename>12.jpg</filename>
<size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>1</name><name>3</name>
  <bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>1</name>
  <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>
<object><name>2</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""


@pytest.fixture
def entities(tmp_path):
    for name in ("Sentences", "Annotations"):
        (tmp_path / name).mkdir()
    (tmp_path / "Sentences" / "12.txt").write_text(
        "[/EN#1/people Two men] sit in [/EN#2/scene a park] .\n[/EN#3/people/other A man] waves .\n"
    )
    (tmp_path / "Annotations" / "12.xml").write_text(XML)
    (tmp_path / "test.txt").write_text("12\n")
    return tmp_path


def test_markup_becomes_spans():
    text, marked = parse_sentence(
        "See [/EN#283585/people/other Two men] and [/EN#0/notvisual it] ."
    )
    assert text == "See Two men and it ."
    assert [(text[a:b], number, kinds) for (a, b), number, kinds in marked] == [
        ("Two men", 283585, ("people", "other")),
        ("it", 0, ("notvisual",)),
    ]


@pytest.mark.parametrize("split", [None, "test"])
def test_phrases_have_the_boxes_of_their_entity(entities, split):
    first, second = read_flickr(entities, split=split).sentences
    assert first.text == "Two men sit in a park ."
    assert first.image_hw == (40, 60) and first.file_name == "12.jpg"
    assert first.phrases[0].boxes.tolist() == [[10, 5, 30, 15], [1, 2, 3, 4]]
    assert first.phrases[1].boxes.shape == (0, 4)
    assert second.number == 1
    assert second.phrases[0].kinds == ("people", "other")
    assert second.phrases[0].boxes.tolist() == [[10, 5, 30, 15]]


def test_training_records_hold_boxed_phrases_only(entities):
    first, second = read_flickr(entities).grounding().records
    assert first.phrases == (((0, 7),),) and first.owners.tolist() == [0, 0]
    assert second.image_id == "12#1"


def test_missing_and_broken_files_are_named(entities):
    with pytest.raises(DataError, match=r"val.txt does not exist"):
        read_flickr(entities, split="val")
    (entities / "Annotations" / "12.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"12.xml is not valid XML"):
        read_flickr(entities)
