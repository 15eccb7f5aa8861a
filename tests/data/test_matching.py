"""Names that travelled, and the pictures they mean."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from glip.data.faults import Faults
from glip.data.matching import Finder, match_names, pictures_for
from glip.data.pictures import PictureFolder
from glip.errors import DataError, ImageError
from tests.data.formats.trees import grow


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("sub/a.png", "sub/a.png"),
        ("./sub/a.png", "sub/a.png"),
        ("sub\\a.png", "sub/a.png"),
        ("C:\\x\\sub\\a.png", "sub/a.png"),
        ("/far/away/sub/a.png", "sub/a.png"),
        ("../elsewhere/sub/a.png", "sub/a.png"),
        ("https://example.org/x/sub/a.png?size=1", "sub/a.png"),
        ("/data/local-files/?d=x/sub/a.png", "sub/a.png"),
        ("a.png", "sub/a.png"),
        ("A.PNG", "sub/a.png"),
        ("a", "sub/a.png"),
        ("sub__a.png", "sub/a.png"),
        ("my%20b.png", "my b.png"),
        ("0123abcd-my b.png", "my b.png"),
        (unicodedata.normalize("NFD", "é.png"), "é.png"),
        ("twice.png", None),
        ("one/twice.png", "one/twice.png"),
        ("none.png", None),
        ("", None),
        ("..", None),
        ("/", None),
        ("http://[", None),
        ("n" * 5_000, None),
    ],
)
def test_names(name: str, picture: str | None, tmp_path: Path) -> None:
    files = ("sub/a.png", "my b.png", "é.png", "one/twice.png", "two/twice.png")
    grow(tmp_path, dict.fromkeys(files))
    assert Finder(PictureFolder(tmp_path)).find(name) == picture


def test_two_names_for_one_picture_mean_none(tmp_path: Path) -> None:
    pictures = PictureFolder(grow(tmp_path, {"a.png": None, "b.png": None}))
    names: dict[str, tuple[str, ...]] = {"x/a.png": (), "y/a.png": (), "c.png": ("b.png",)}
    faults = Faults(tmp_path)
    assert match_names(pictures, names, faults) == {"c.png": "b.png"}
    assert len(faults.notes) == 1
    assert match_names(pictures, {"a.png": (), "x/a.png": ()}) == {"a.png": "a.png"}


def test_nothing_outside_is_looked_at(tmp_path: Path) -> None:
    grow(tmp_path, {"secret.png": None, "photos/a.png": None})
    pictures = PictureFolder(tmp_path / "photos")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png"):
        assert name not in pictures and Finder(pictures).find(name) is None
        with pytest.raises(ImageError, match="leads out of the picture folder"):
            pictures.read(name)
        with pytest.raises(ImageError, match="leads out of the picture folder"):
            pictures.size_hw(name)


@pytest.mark.parametrize(
    ("annotations", "picture"),
    [
        ("train.json", "a.png"),
        ("train.json", "images/a.png"),
        ("labels.json", "data/a.png"),
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("annotations/instances_default.json", "images/default/a.png"),
        ("annotations/train.json", "images/train/a.png"),
        ("annotations/train.json", "images/a.png"),
    ],
)
def test_where_pictures_are_by_habit(annotations: str, picture: str, tmp_path: Path) -> None:
    grow(tmp_path, {annotations: "", picture: None})
    found = pictures_for(tmp_path / annotations, None, ["a.png"])
    assert found.root == (tmp_path / picture).parent


def test_places_that_were_looked_at_are_named(tmp_path: Path) -> None:
    grow(tmp_path, {"x.json": "", "ph/a.png": None})
    with pytest.raises(DataError, match=r"picture ../ph/b.png is not in .*say where .*--images"):
        pictures_for(tmp_path / "x.json", None, ["../ph/b.png"])
