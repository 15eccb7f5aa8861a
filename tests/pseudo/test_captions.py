"""Readers of captioned pictures: every kind of file, good and bad."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from glip.errors import DataError, ImageError
from glip.pseudo.caption_tables import MOST_CAPTIONS
from glip.pseudo.captions import CaptionSet


def save(path: Path, colour: str = "red", size: tuple[int, int] = (30, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def jpeg(colour: str = "red") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(data, "PNG")
    return data.getvalue()


def pack(path: Path, files: dict[str, bytes | str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def pairs(captions: CaptionSet) -> list[tuple[str, tuple[str, ...]]]:
    return [(entry.picture, entry.captions) for entry in captions]


def faults(captions: CaptionSet) -> list[str]:
    return [entry.fault for entry in captions if entry.fault]


def test_coco_captions_come_once_for_each_picture(tmp_path):
    for name in ("a.png", "b.png"):
        save(tmp_path / "images" / name)
    content = {
        "images": [
            {"id": 1, "file_name": "images/a.png", "width": 30, "height": 20},
            {"id": 2, "file_name": "images/b.png", "width": 30, "height": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "caption": " A dog. "},
            {"id": 2, "image_id": 1, "caption": "a cat"},
            {"id": 3, "image_id": 2, "caption": "two dogs"},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    captions = CaptionSet(tmp_path / "captions.json")
    expected = [("images/a.png", ("a cat",)), ("images/b.png", ("A dog.", "two dogs"))]
    assert pairs(captions) == expected
    assert captions.root == tmp_path
    assert captions.load(next(iter(captions))).size == (30, 20)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tsv", 'a.png\ta "big" cat, asleep\na.png\ta cat\nb.png\tä dog\n'),
        ("x.csv", 'a.png,"a ""big"" cat, asleep"\na.png,a cat\nb.png,ä dog\n'),
        ("x.csv", 'id,caption,image\r\n1,"a ""big"" cat, asleep",a.png\r\n'
                  "2,a cat,a.png\r\n3,ä dog,b.png"),
        ("x.jsonl", '{"path": "a.png", "captions": ["a \\"big\\" cat, asleep", "a cat"]}\n\n'
                    '{"image": "b.png", "text": "ä dog"}\n'),
        ("x.jsonl", '{"filename": "a.png", "grounding": {"caption": "a \\"big\\" cat, asleep"}}\n'
                    '{"filename": "a.png", "grounding": {"caption": "a cat"}}\n'
                    '{"filename": "b.png", "grounding": {"caption": "\\u00e4 dog"}}\n'),
    ],
)  # fmt: skip
def test_tables_join_neighbouring_lines_of_a_picture(tmp_path, name, text):
    save(tmp_path / "a.png"), save(tmp_path / "b.png")
    (tmp_path / name).write_text(text, encoding="utf-8")
    captions = CaptionSet([tmp_path / name])
    assert pairs(captions) == [("a.png", ('a "big" cat, asleep', "a cat")), ("b.png", ("ä dog",))]
    keys = [entry.key for entry in captions]
    assert keys == sorted(set(keys))


def test_bad_lines_are_faults_of_their_own(tmp_path):
    save(tmp_path / "a.png")
    lines = [
        b"a.png\tone cat",
        b"a.png",
        b"\tno picture",
        b"a.png\t  ",
        b"a.png\t\xff\xfe",
        b"a.png\tlast",
    ]
    (tmp_path / "x.tsv").write_bytes(b"\n".join(lines))
    captions = CaptionSet(tmp_path / "x.tsv")
    assert [e.captions for e in captions if not e.fault] == [("one cat",), ("last",)]
    assert [fault.removeprefix(f"{tmp_path}/") for fault in faults(captions)] == [
        "x.tsv:2 has 1 cells, needs 2",
        "x.tsv:3 has no picture or no caption",
        "x.tsv:4 has no picture or no caption",
        "x.tsv:5 is not UTF-8",
    ]
    (tmp_path / "x.jsonl").write_text('{"path": "a.png", "text": "x"}\n{"path"\n[1]\n')
    found = faults(CaptionSet(tmp_path / "x.jsonl"))
    assert [fault.split(" ", 1)[1][:20] for fault in found] == [
        "is no JSON: Expectin",
        "has no picture or no",
    ]


def test_absolute_paths_are_met_below_the_folder_only(tmp_path):
    picture = save(tmp_path / "far" / "a.png")
    (tmp_path / "x.tsv").write_text(f"{picture}\ta cat\n")
    captions = CaptionSet(tmp_path / "x.tsv")
    assert captions.load(next(iter(captions))).size == (30, 20)
    (tmp_path / "near").mkdir()
    save(tmp_path / "near" / "b.png")
    with pytest.raises(DataError, match=r"is not in .*near"):
        CaptionSet(tmp_path / "x.tsv", tmp_path / "near")


def test_folder_with_texts_beside_the_pictures(tmp_path):
    save(tmp_path / "sub" / "a.png"), save(tmp_path / "b.png"), save(tmp_path / "c.png")
    (tmp_path / "sub" / "a.txt").write_text("\ufeffa cat\n\n on a mat \n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\n")
    entries = {entry.picture: entry for entry in CaptionSet(tmp_path)}
    assert entries["sub/a.png"].captions == ("a cat", "on a mat")
    assert "b.txt is empty" in entries["b.png"].fault
    assert "c.txt cannot be read" in entries["c.png"].fault


def test_pictures_that_come_into_a_folder_do_not_rename_the_others(tmp_path):
    for name in "ac":
        save(tmp_path / f"{name}.png")
    before = {entry.picture: entry.key for entry in CaptionSet(tmp_path)}
    save(tmp_path / "b.png")
    done = set(before.values())
    left = CaptionSet(tmp_path).read(lambda key: key not in done)
    assert [entry.picture for entry in left] == ["b.png"]


def test_shards_are_streamed_with_their_pictures(tmp_path):
    pack(tmp_path / "1.tar", {
        "./x/a.png": jpeg("red"), "./x/a.txt": "a red thing\nno blue one",
        "b.json": json.dumps({"caption": "a blue thing", "width": 3}), "b.PNG": jpeg("blue"),
    })  # fmt: skip
    pack(tmp_path / "2.tar", {
        "c.txt": "no picture", "d.png": jpeg(), "e.png": jpeg(), "e.json": "{", "f.png": jpeg(),
        "f.seg.png": jpeg(), "f.txt": "last",
    })  # fmt: skip
    captions = CaptionSet(tmp_path)
    good = [entry for entry in captions if not entry.fault]
    assert [(e.picture, e.captions) for e in good] == [
        ("1.tar/x/a.png", ("a red thing", "no blue one")),
        ("1.tar/b.PNG", ("a blue thing",)),
        ("2.tar/f.png", ("last",)),
    ]
    assert captions.load(good[1]).getpixel((0, 0)) == (0, 0, 255)
    assert [fault.split(": ", 1)[-1][:18] for fault in faults(captions)] == [
        "/c has no picture", "2.tar/d.png has no", "captions of 2.tar/",
    ]  # fmt: skip
    only = {good[2].key}
    assert [entry.key for entry in captions.read(lambda key: key in only)] == [good[2].key]


def test_shard_that_breaks_off_gives_what_it_has(tmp_path):
    path = pack(tmp_path / "1.tar", {f"{n}.{s}": jpeg() if s == "png" else "a cat"
                                     for n in range(5) for s in ("png", "txt")})  # fmt: skip
    path.write_bytes(path.read_bytes()[: 512 * 9])  # in the middle of the third picture
    captions = CaptionSet(path)
    assert [entry.picture for entry in captions if not entry.fault][:2] == [
        "1.tar/0.png",
        "1.tar/1.png",
    ]
    bad = [entry for entry in captions if entry.fault]
    assert bad or len(list(captions)) < 5
    assert pack(tmp_path / "2.tar", {}).exists()
    assert list(CaptionSet(tmp_path / "2.tar")) == []


def test_damaged_picture_in_a_shard_names_it(tmp_path):
    captions = CaptionSet(pack(tmp_path / "1.tar", {"a.png": "no picture", "a.txt": "a cat"}))
    with pytest.raises(ImageError, match=r"1.tar: 1.tar/a.png cannot be decoded"):
        captions.load(next(iter(captions)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "a.png a cat\n", "one cell, 'a.png a cat'; a line is a picture, a tab and"),
        ("x.csv", "a.png a cat\n", "a picture, a comma and"),
        ("x.csv", "", "there is no caption in it"),
        ("x.tsv", "b.png\ta cat\n", "picture b.png is not in"),
        ("x.jsonl", '{"url": "a.png"}\n', "x.jsonl:1 has no picture or no caption; each line is"),
        ("x.jsonl", "a.png\n", "x.jsonl:1 is no JSON"),
        ("x.json", '{"images": []}', "has no list 'annotations'"),
        ("x.parquet", "", "are of no known kind"),
        ("x.tar.gz", "", "unpack it, or pack it again as .tar"),
        ("x.tar", "abc", "cannot be read as an uncompressed tar"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    save(tmp_path / "a.png")
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        CaptionSet(tmp_path / name)
    assert message in str(caught.value)


def test_what_does_not_go_together(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "x.tsv").write_text("a.png\ta cat\n")
    tar = pack(tmp_path / "1.tar", {"a.png": jpeg(), "a.txt": "a cat"})
    for given, images, message in [
        ([tar, tmp_path / "x.tsv"], None, "is a shard and .* is none"),
        ([tar], tmp_path, "brings its pictures"),
        ([], None, "no captions are given"),
        ([tmp_path / "nowhere.tsv"], None, "does not exist"),
    ]:
        with pytest.raises(DataError, match=message):
            CaptionSet(given, images)
    tar.unlink()
    with pytest.raises(DataError, match="holds its pictures"):
        CaptionSet(tmp_path, tmp_path)


def test_memory_does_not_grow_with_the_input(tmp_path):
    save(tmp_path / "a.png")

    def peak(lines: int) -> int:
        with (tmp_path / "x.tsv").open("w") as file:
            file.writelines(f"{'a' if n else 'a.png'}\ta cat number {n}\n" for n in range(lines))
        captions = CaptionSet(tmp_path / "x.tsv")
        tracemalloc.start()
        assert sum(len(entry.captions) for entry in captions) == lines
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20 * MOST_CAPTIONS) < 1.5 * peak(2 * MOST_CAPTIONS)


def test_fingerprint_tells_files_apart(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "x.tsv").write_text("a.png\ta cat\n")
    before = CaptionSet(tmp_path / "x.tsv").fingerprint
    assert before == CaptionSet(tmp_path / "x.tsv").fingerprint
    (tmp_path / "x.tsv").write_text("a.png\ta dog\n")  # as many letters
    assert CaptionSet(tmp_path / "x.tsv").fingerprint != before
