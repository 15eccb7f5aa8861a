"""Data sets that lie in a folder of many, at several depths."""

from pathlib import Path

from glip.data.formats.folders import folders_below


def test_names_are_those_of_the_official_code(tmp_path: Path) -> None:
    sets = ("Aquarium/Aquarium Combined.v2-raw-1024.coco", "EgoHands/generic", "pothole")
    for place in (*sets, "EgoHands/specific", "dice/mediumColor/export"):
        (tmp_path / place / "valid").mkdir(parents=True)
    (tmp_path / ".hidden" / "valid").mkdir(parents=True)
    (tmp_path / "note.txt").write_text("no folder")
    found = dict(folders_below(tmp_path, lambda folder: (folder / "valid").is_dir()))
    assert list(found) == [
        "Aquarium_Aquarium_Combined.v2-raw-1024.coco",
        "EgoHands_generic",
        "EgoHands_specific",
        "dice_mediumColor_export",
        "pothole",
    ]
    assert found["EgoHands_generic"] == tmp_path / "EgoHands" / "generic"


def test_nothing_is_looked_for_in_a_set_or_too_deep(tmp_path: Path) -> None:
    (tmp_path / "one" / "below" / "valid").mkdir(parents=True)
    seen: list[str] = []

    def is_set(folder: Path) -> bool:
        seen.append(folder.name)
        return folder.name == "one"

    assert [name for name, _ in folders_below(tmp_path, is_set)] == ["one"]
    assert seen == ["one"]
    assert not list(folders_below(tmp_path, lambda folder: folder.name == "below", depth=1))
