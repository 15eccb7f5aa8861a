"""Data sets of ODinW in folders."""

from pathlib import Path

import pytest

from glip.errors import DataError
from glip.evaluation.odinw import odinw_sets


def test_folder_without_data_sets(tmp_path):
    with pytest.raises(DataError, match="holds no ODinW data set"):
        odinw_sets([tmp_path])


def test_sets_as_the_authors_archives_have_them(tmp_path):
    files = [
        "EgoHands/generic/valid/annotations_without_background.json",
        "pistols/export/val_annotations_without_background.json",
    ]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("{}")
    found = {"EgoHands_generic": tmp_path / files[0], "pistols_export": tmp_path / files[1]}
    assert odinw_sets([tmp_path]) == found


def test_parts_of_a_data_set_are_no_data_sets(tmp_path, monkeypatch):
    for name in ("Aquarium", "pothole"):
        for part in ("train", "valid", "test"):
            (tmp_path / name / part).mkdir(parents=True)
            (tmp_path / name / part / "_annotations.coco.json").write_text("{}")
    valid = tmp_path / "Aquarium" / "valid" / "_annotations.coco.json"
    assert odinw_sets([tmp_path / "Aquarium"]) == {"Aquarium": valid}
    assert list(odinw_sets([tmp_path])) == ["Aquarium", "pothole"]
    monkeypatch.chdir(tmp_path / "Aquarium")
    assert list(odinw_sets([Path()])) == ["Aquarium"]
    tests = [tmp_path / name / "test" / valid.name for name in ("Aquarium", "pothole")]
    assert odinw_sets(tests) == {"Aquarium": tests[0], "pothole": tests[1]}
    with pytest.raises(DataError, match="are both of a data set named 'Aquarium'"):
        odinw_sets([tests[0], tmp_path])
