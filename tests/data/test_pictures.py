"""Pictures by name."""

import os
import pickle
import tarfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from PIL import Image

from glip.data.matching import pictures_for
from glip.data.pictures import PictureFolder, PictureTar, missing, open_pictures
from glip.errors import DataError, ImageError


def test_tar_and_folder_hold_the_same_pictures(coco, tar_of):
    folder, tar = PictureFolder(coco.parent), PictureTar(tar_of(coco.parent))
    assert folder.names() == ["a.png", "b.png", "c.png"]
    assert tar.names() == ["images/a.png", "images/b.png", "images/c.png"]
    for name in folder.names():
        assert folder.read(name).tobytes() == tar.read(f"images/{name}").tobytes()
        assert folder.size_hw(name) == tar.size_hw(f"images/{name}")


def test_tars_in_a_folder_are_folders(coco, tar_of):
    tar = tar_of(coco.parent)
    folder, inside = PictureFolder(tar.parent), PictureTar(tar)
    name = f"{tar.name}/images/a.png"
    assert name in folder and f"{tar.name}/x.png" not in folder and "x.tar/a.png" not in folder
    assert folder.read(name).tobytes() == inside.read("images/a.png").tobytes()
    assert folder.source(name).size == folder.read(name).size
    assert folder.size_hw(name) == inside.size_hw("images/a.png")
    assert pictures_for(tar.parent / "x.jsonl", tar.parent, [name]).root == tar.parent


def _first_bytes(pictures):
    return pictures.read("images/a.png").tobytes()


def test_tar_is_read_by_other_processes(coco, tar_of):
    tar = PictureTar(tar_of(coco.parent))
    expected = _first_bytes(tar)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_first_bytes, [tar] * 4)) == [expected] * 4


def test_tar_is_small_to_send_and_reads_on_the_other_side(coco, tar_of):
    tar = PictureTar(tar_of(coco.parent))
    sent = pickle.dumps(tar)
    assert len(sent) < 1000
    assert _first_bytes(pickle.loads(sent)) == _first_bytes(tar)


def test_compressed_tar_says_what_to_do(coco, tar_of):
    with pytest.raises(DataError, match="unpack it, or pack it again without compression"):
        PictureTar(tar_of(coco.parent, "w:gz"))


def test_missing_places_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="say where the pictures are"):
        pictures_for(tmp_path / "x.json", None, ["a.png"])


def test_pictures_beside_the_annotations_are_found(coco):
    assert pictures_for(coco, None, ["a.png"]).root == coco.parent
    (coco.parent / "images").mkdir()
    (coco.parent / "a.png").rename(coco.parent / "images" / "a.png")
    assert pictures_for(coco, None, ["a.png"]).root == coco.parent / "images"
    assert pictures_for(coco.parent, None, ["a.png"]).root == coco.parent / "images"


def test_wrong_picture_folder_is_corrected(coco):
    (coco.parent / "sub").mkdir()
    with pytest.raises(DataError, match=f"did you mean {coco.parent}"):
        pictures_for(coco, coco.parent / "sub", ["x.png", "a.png"])
    with pytest.raises(DataError, match="relative to the picture folder"):
        pictures_for(coco, coco.parent, ["x.png"])


def test_unknown_name_in_a_tar_is_an_image_error(coco, tar_of):
    with pytest.raises(ImageError, match=r"packed.tar holds no file x.png"):
        PictureTar(tar_of(coco.parent)).read("x.png")


def test_damaged_picture_names_tar_and_member(coco, tar_of):
    (coco.parent / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    tar = PictureTar(tar_of(coco.parent))
    with pytest.raises(ImageError, match=r"packed.tar: images/a.png"):
        tar.read("images/a.png")
    with pytest.raises(ImageError, match=r"packed.tar: images/a.png"):
        tar.size_hw("images/a.png")


def test_size_is_that_of_the_upright_picture(tmp_path, draw):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    draw(30, 20).save(tmp_path / "turned.jpg", exif=exif)
    folder = PictureFolder(tmp_path)
    assert folder.size_hw("turned.jpg") == (30, 20)
    assert folder.read("turned.jpg").size == (20, 30)


@pytest.mark.skipif(os.name == "nt", reason="there it is a drive")
def test_a_colon_is_a_letter_where_there_are_no_drives(coco):
    (coco.parent / "a.png").rename(coco.parent / "a:b.png")
    folder = PictureFolder(coco.parent)
    assert all(name in folder for name in folder.names())
    assert folder.read("a:b.png").size == folder.size_hw("a:b.png")[::-1]


def test_missing_names_come_once(coco):
    assert missing(PictureFolder(coco.parent), ["x", "a.png", "x", "y"]) == ["x", "y"]


def _tar_with(path, *members):
    """A tar of (header, data) whatever the header claims."""
    data = b""
    for member, content in members:
        padding = b"\0" * (-len(content) % 512)
        data += member.tobuf(tarfile.GNU_FORMAT) + content + padding
    path.write_bytes(data + b"\0" * 1024)
    return path


def _member(name, size, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, target
    return member


def test_tar_headers_that_lie_cost_nothing(tmp_path):
    good = (_member("a.png", 3), b"abc")
    huge = (_member("big.png", 20 << 30), b"")
    with pytest.raises(DataError, match="cannot be read as an uncompressed tar"):
        PictureTar(_tar_with(tmp_path / "x.tar", good, huge))
    long_name = (_member("././@LongLink", 20 << 30, tarfile.GNUTYPE_LONGNAME), b"x")
    with pytest.raises(DataError, match="cannot be read as an uncompressed tar"):
        PictureTar(_tar_with(tmp_path / "x.tar", good, long_name))


def test_tar_names_do_not_lead_out_and_links_are_no_pictures(tmp_path):
    path = _tar_with(
        tmp_path / "x.tar",
        (_member("../up.png", 3), b"abc"),
        (_member("/etc/x.png", 3), b"abc"),
        (_member("link.png", 0, tarfile.SYMTYPE, "/etc/passwd"), b""),
        (_member("./a.png", 3), b"abc"),
    )
    tar = PictureTar(path)
    assert tar.names() == ["a.png"]
    for name in ("../up.png", "/etc/x.png", "link.png"):
        assert name not in tar


def test_picture_of_a_gibibyte_in_a_tar_is_refused_unread(coco, tar_of, monkeypatch):
    tar = PictureTar(tar_of(coco.parent))
    monkeypatch.setattr("glip.data.pictures.LARGEST", 10)
    with pytest.raises(ImageError, match=r"images/a.png has \d+ bytes, too many for a picture"):
        tar.read("images/a.png")
