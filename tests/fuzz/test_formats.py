"""Odd values in every place of every format: what cannot be used is said, and nothing else happens.

Every value of a sound data set is replaced in turn by others that real files and careless scripts
have in such places. Readers either read what is left, in finite numbers, or raise an error that
names the data set; so does the doctor, who never raises.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.data.doctor.examine import examine
from glip.data.formats.recognise import read_annotated
from glip.errors import GlipError
from glip.text.tokenizer import Tokenizer
from tests.data.formats.trees import grow
from tests.fuzz.border import bounded
from tests.fuzz.odd import KINDS, VALUES, places, spoiled

COCO: Any = {
    "images": [
        {"id": n, "file_name": f"{n}.png", "width": 60, "height": 40, "neg_category_ids": [1],
         "not_exhaustive_category_ids": [2], "vocabulary": "all"} for n in (1, 2)
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
         "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"id": 2, "image_id": 2, "category_id": 2, "iscrowd": 0,
         "segmentation": {"counts": [5, 3, 2392], "size": [40, 60]}},
    ],
    "categories": [{"id": 1, "name": "cat", "supercategory": "x"}, {"id": 2, "name": "dog"}],
    "vocabularies": {"all": [1, 2]},
}  # fmt: skip
MDETR: Any = {
    "images": [{"id": 1, "file_name": "1.png", "width": 60, "height": 40, "caption": "a cat"}],
    "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "tokens_positive": [[0, 5]]}],
}
LABEL_STUDIO: Any = [
    {
        "id": 1,
        "data": {"image": "/data/local-files/?d=1.png"},
        "annotations": [
            {
                "was_cancelled": False,
                "updated_at": "2024",
                "result": [
                    {
                        "id": "a",
                        "original_width": 60,
                        "original_height": 40,
                        "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 5,
                                  "rectanglelabels": ["cat"]},
                    },
                    {"id": "b", "value": {"points": [[1, 2], [3, 4]], "polygonlabels": ["dog"]}},
                ],
            }
        ],
    }
]  # fmt: skip
LABELME: Any = {
    "imagePath": "1.png",
    "imageWidth": 60,
    "imageHeight": 40,
    "shapes": [{"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}],
}
CREATEML: Any = [
    {
        "image": "1.png",
        "annotations": [{"label": "cat", "coordinates": {"x": 9, "y": 9, "width": 3, "height": 4}}],
    }
]
LINE: Any = {
    "filename": "1.png",
    "width": 60,
    "height": 40,
    "grounding": {
        "caption": "a cat",
        "regions": [{"bbox": [1, 2, 3, 4], "phrase": "cat", "tokens_positive": [[2, 5]],
                     "score": 0.5}],
    },
}  # fmt: skip
LABELS: Any = {
    "filename": "1.png",
    "width": 60,
    "height": 40,
    "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 0}]},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bert_uncased()


@pytest.fixture
def check(tmp_path: Path, tokenizer: Tokenizer) -> Callable[[Path], None]:
    for number in (1, 2):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{number}.png")

    def look(path: Path) -> None:
        report = examine(path, quick=True, tokenizer=tokenizer)
        try:
            read = read_annotated(path)
        except GlipError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:
            assert str(path.parent) in refused and report.exit_code == 1
            return
        for record in read.data.records:
            assert np.isfinite(record.boxes.astype(np.float32)).all() and min(record.image_hw) > 0
            assert record.file_name in read.pictures
        assert read.pictures.root == tmp_path

    return look


JSON = {
    "coco.json": COCO,
    "mdetr.json": MDETR,
    "tasks.json": LABEL_STUDIO,
    "1.json": LABELME,
    "createml.json": CREATEML,
    "lines.jsonl": LINE,
    "labels.jsonl": LABELS,
}


@pytest.mark.parametrize("name", JSON)
def test_sound_content_is_read(name: str, tmp_path: Path, check: Callable[[Path], None]) -> None:
    if name == "labels.jsonl":
        (tmp_path / "label_map.json").write_text('{"0": "cat"}')
    (tmp_path / name).write_text(json.dumps(JSON[name]))
    check(tmp_path / name)
    assert len(read_annotated(tmp_path / name).data)


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON)
def test_odd_values(name: str, tmp_path: Path, check: Callable[[Path], None]) -> None:
    """Each place of each format gets each odd value; some 2,400 files."""
    if name == "labels.jsonl":
        (tmp_path / "label_map.json").write_text('{"0": "cat"}')
    content = JSON[name]
    for place in places(content):
        for value in VALUES:
            (tmp_path / name).write_text(json.dumps(spoiled(content, place, value)))
            check(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"images": ' + "1" * 5_000 + "}", "null", "7", '"x"', "", "{", '{"a": NaN}',
     '{"images": [1], "annotations": [1], "categories": [1]}', "[[]]", "[{}]"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_text_that_is_no_data_set(
    name: str, text: str, tmp_path: Path, check: Callable[[Path], None]
) -> None:
    if not text and name == "x.jsonl":
        pytest.skip("a grounding data set in which nothing was found")
    (tmp_path / name).write_text(text)
    with pytest.raises(GlipError):
        read_annotated(tmp_path / name)
    assert examine(tmp_path / name, quick=True).exit_code == 1


WORDS = {
    "data.yaml": "path: .\ntrain: .\nnames: [cat, dog]\nkpt_shape: [1, 3]\n",
    "1.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.5 0.1 0.5 0.6\n",
    "a.xml": "<annotation><filename>1.png</filename><size><width>60</width><height>40</height>"
    "</size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin>"
    "<xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>",
    "b.xml": "<annotations><meta><labels><label><name>cat</name></label></labels></meta>"
    '<image id="0" name="1.png" width="60" height="40"><box label="cat" xtl="1" ytl="2" xbr="3" '
    'ybr="4" rotation="5"/><polygon label="cat" points="1,2;3,4;5,6"/></image></annotations>',
    "t.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n1.png,60,40,cat,1,2,3,4\n",
}
CUTS = ("", "nan", "inf", "-1", "1e999", "x", "\0", "é" * 300, "../..", "/", "&a;", '"', "<", ",,,")


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_odd_words(name: str, tmp_path: Path, check: Callable[[Path], None]) -> None:
    """Pieces of text files are replaced or lost at random places."""
    rng = random.Random(name)
    yolo = name in ("data.yaml", "1.txt")
    for _ in range(150):
        if yolo:
            for other in ("data.yaml", "1.txt"):
                (tmp_path / other).write_text(WORDS[other])
        text = WORDS[name]
        start = rng.randrange(len(text))
        end = start + rng.randrange(1, 9)
        (tmp_path / name).write_text(text[:start] + rng.choice(CUTS) + text[end:])
        check(tmp_path if yolo else tmp_path / name)


TREES: dict[str, dict[str, Any]] = {
    "coco": {"train/_annotations.coco.json": COCO, "valid/_annotations.coco.json": COCO},
    "yolo": {"data.yaml": WORDS["data.yaml"], "1.txt": WORDS["1.txt"]},
    "darknet": {"obj.data": "train = train.txt\nnames = obj.names", "obj.names": "cat\ndog",
                "train.txt": "x/1.png", "1.txt": "0 0.5 0.5 0.1 0.1"},
    "voc": {"Annotations/1.xml": WORDS["a.xml"], "labelmap.txt": "cat:::",
            "ImageSets/Main/train.txt": "1"},
    "cvat": {"annotations.xml": WORDS["b.xml"]},
    "labelme": {"1.json": LABELME},
    "odvg": {"a.jsonl": LABELS, "label_map.json": {"0": "cat"}},
    "flickr": {"Annotations/1.xml": WORDS["a.xml"], "Sentences/1.txt": "[/EN#1/people A man] ."},
    "table": {"_annotations.csv": WORDS["t.csv"]},
    "zip": {"x.zip": b"PK\x03\x04"},
}  # fmt: skip


@pytest.mark.parametrize("become", KINDS)
@pytest.mark.parametrize("tree", TREES)
def test_files_that_are_something_else(
    tree: str, become: Callable[[Path], None], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Each file of a data set in turn is no file, or not in words."""
    for number, name in enumerate(TREES[tree]):
        root = grow(tmp_path / str(number), {**TREES[tree], "1.png": None, "2.png": None})
        (root / name).unlink()
        become(root / name)
        with bounded():
            report = examine(root, quick=True, tokenizer=tokenizer)
            try:
                len(read_annotated(root).data)
            except GlipError:
                assert report.exit_code == 1
    for place in (tmp_path / "0" / "1.png", tmp_path / "0" / "2.png"):
        place.unlink(missing_ok=True)
        become(place)
    with bounded():
        assert examine(tmp_path / "0", quick=True, tokenizer=tokenizer).text()
