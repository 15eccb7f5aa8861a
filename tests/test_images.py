"""Whatever a user may hand in becomes upright 8-bit RGB, or an error that says what to do."""

import base64
import functools
import importlib.util
import io
import logging
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageCms

from glip.errors import ConfigError, GlipError, ImageError
from glip.images import (
    MAX_PIXELS,
    expand_sources,
    list_images,
    list_pictures,
    load_image,
    save_image,
    unusable_name,
    warn_of_unread,
)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def red_beside_blue(mode: str = "RGB") -> Image.Image:
    """4 wide, 2 high: the left half red, the right half blue."""
    picture = Image.new("RGB", (4, 2), RED)
    picture.paste(BLUE, (2, 0, 4, 2))
    return picture.convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind)
    return stream.getvalue()


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """Top left and bottom right."""
    assert picture.mode == "RGB"
    return [picture.getpixel((0, 0)), picture.getpixel((picture.width - 1, picture.height - 1))]


# --- files and Pillow images ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "P", "YCbCr", "HSV", "CMYK"])
def test_colour_modes_keep_their_colours(mode: str) -> None:
    for pixel, colour in zip(corners(load_image(red_beside_blue(mode))), (RED, BLUE), strict=True):
        assert np.allclose(pixel, colour, atol=3)


def test_lab_keeps_its_colours() -> None:
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    picture = ImageCms.applyTransform(red_beside_blue(), to_lab)
    assert picture is not None
    assert np.allclose(load_image(picture).getpixel((0, 0)), RED, atol=6)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_modes_become_three_equal_channels(mode: str) -> None:
    picture = Image.new("L", (2, 1), 0)
    picture.putpixel((1, 0), 255)
    assert corners(load_image(picture.convert(mode))) == [(0, 0, 0), WHITE]


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_transparent_parts_show_white_and_opaque_ones_their_colour(mode: str) -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (80, 80, 80, 255))
    through = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    assert corners(load_image(picture.convert(through).convert(mode))) == [WHITE, (80, 80, 80)]


def test_half_transparent_black_is_grey() -> None:
    picture = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert load_image(picture).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_png_whose_transparency_is_one_colour_is_composited_too(
    tmp_path: Path, mode: str
) -> None:
    black = (0, 0, 0) if mode == "RGB" else 0
    Image.new(mode, (1, 1), black).save(tmp_path / "x.png", transparency=black)
    assert load_image(tmp_path / "x.png").getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_by_the_full_range(tmp_path: Path, suffix: str) -> None:
    grey = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / f"x.{suffix}")
    loaded = np.asarray(load_image(tmp_path / f"x.{suffix}"))
    assert loaded[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    assert load_image(Image.fromarray(np.full((2, 2), 514, np.uint16))).getpixel((0, 0)) == (
        2,
        2,
        2,
    )


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("I", [0, 255], [0, 255]),
        ("I", [0, 65535], [0, 255]),
        ("F", [0.0, 1.0], [0, 255]),
        ("F", [0.0, 255.0], [0, 255]),
        ("F", [257.0, 65535.0], [1, 255]),
    ],
)
def test_modes_without_a_range_get_the_smallest_usual_one(
    mode: str, values: list[float], expected: list[int]
) -> None:
    dtype = np.int32 if mode == "I" else np.float32
    picture = Image.fromarray(np.array([values], dtype))
    assert picture.mode == mode
    assert [pixel[0] for pixel in corners(load_image(picture))] == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["file", "image"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str) -> None:
    # How a viewer finds the stored pixels if the picture to be seen is red above blue or beside it.
    stored = {
        1: [0, 1], 2: [1, 0], 3: [1, 0], 4: [0, 1], 5: [0, 1], 6: [0, 1], 7: [1, 0], 8: [1, 0],
    }[orientation]  # fmt: skip
    picture = Image.new("RGB", (2, 1))
    for x, place in enumerate(stored):
        picture.putpixel((x, 0), (RED, BLUE)[place])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "x.png", exif=exif)

    source = tmp_path / "x.png" if kind == "file" else Image.open(tmp_path / "x.png")
    loaded = load_image(source)
    assert loaded.size == ((1, 2) if orientation >= 5 else (2, 1))
    assert corners(loaded) == [RED, BLUE]
    assert corners(load_image(loaded)) == [RED, BLUE]


def test_damaged_exif_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    picture = red_beside_blue()
    picture.info["exif"] = b"Exif\0\0MM\0*\0\0\0"
    with caplog.at_level(logging.WARNING):
        assert corners(load_image(picture)) == [RED, BLUE]
    assert "EXIF" in caplog.text


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert corners(load_image(tmp_path / "x.gif")) == [RED, RED]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tiff", "webp", "ppm", "jp2"])
def test_common_formats_are_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (16, 16), RED).save(tmp_path / f"x.{suffix}")
    assert np.allclose(corners(load_image(str(tmp_path / f"x.{suffix}"))), [RED, RED], atol=3)


def test_the_format_is_told_by_content_and_not_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(encoded(red_beside_blue(), "PNG"))
    assert corners(load_image(tmp_path / "x.txt")) == [RED, BLUE]


def test_an_upright_rgb_image_comes_back_itself() -> None:
    picture = red_beside_blue()
    assert load_image(picture) is picture


def test_a_file_is_closed_and_its_picture_carries_nothing_over(tmp_path: Path) -> None:
    red_beside_blue().save(tmp_path / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        picture = load_image(tmp_path / "x.png")
    assert type(picture) is Image.Image
    assert picture.info == {}


def test_loading_leaves_the_users_image_as_it_was() -> None:
    picture = red_beside_blue("RGBA")
    picture.info["note"] = "mine"
    load_image(picture)
    assert (picture.mode, picture.info) == ("RGBA", {"note": "mine"})


@pytest.mark.parametrize("size", [(1, 1), (30_000, 200), (1, 5_000)])
def test_tiny_and_very_long_pictures_load(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size).save(tmp_path / "x.png")
    assert load_image(tmp_path / "x.png").size == size


# --- what cannot be read --------------------------------------------------------------------------

WHOLE_PNG = encoded(Image.effect_noise((64, 64), 50), "PNG")
WHOLE_JPEG = encoded(Image.effect_noise((64, 64), 50), "JPEG")
WHOLE_TIFF = encoded(Image.effect_noise((64, 64), 50), "TIFF")

BAD_FILES = [
    ("empty.jpg", b"", "is empty (0 bytes)"),
    ("text.jpg", b"once upon a time there was a picture", "not a picture in a known format"),
    ("paper.pdf", b"%PDF-1.7\n1 0 obj", "not a picture in a known format"),
    ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
    ("zeros.png", bytes(1000), "not a picture in a known format"),
    ("clip.mp4", b"\0\0\0\x1cftypisom" + bytes(100), "clip.mp4 is a film by its content"),
    ("clip.webm", b"\x1aE\xdf\xa3" + bytes(100), "is a film"),
    ("clip.avi", b"RIFF" + bytes(4) + b"AVI LIST" + bytes(100), "is a film"),
    ("half.png", WHOLE_PNG[: len(WHOLE_PNG) // 2], "damaged or incomplete"),
    ("half.jpg", WHOLE_JPEG[: len(WHOLE_JPEG) // 2], "damaged or incomplete"),
    ("half.tiff", WHOLE_TIFF[: len(WHOLE_TIFF) // 2], "damaged or incomplete"),
    ("start.png", WHOLE_PNG[:20], "damaged or incomplete"),
    ("start.jpg", WHOLE_JPEG[:4], "damaged or incomplete"),
    ("start.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "damaged or incomplete"),
    ("start.gif", b"GIF89a", "damaged or incomplete"),
    ("zero_size.png", png_header(0, 5), "damaged or incomplete"),
    ("hollow.png", png_header(50, 50), "damaged or incomplete"),
    ("bomb.png", png_header(20_000, 20_000), "400,000,000 pixels, more than the limit of 178,956"),
    ("bomb.ppm", b"P6 99999 99999 255\n", "more than the limit"),
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_refused_by_name_and_reason(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "path of a picture is empty"),
        ("missing.jpg", "missing.jpg does not exist in "),
        ("/nowhere/missing.jpg", "/nowhere/missing.jpg does not exist"),
        ("https://127.0.0.1:9/cat.jpg", "cannot be fetched ("),
        ("s3://bucket/cat.jpg", "cannot be fetched from here; download it and pass its path"),
        ("file:///nowhere/cat.jpg", "file:///nowhere/cat.jpg cannot be fetched"),
        ("data:image/png;base64," + "A" * 5_000, "AAA... is not a picture in a known format"),
        ("data:nothing", "data:nothing cannot be fetched"),
        ("nul\0character.jpg", "no file can have this name"),
        ("x" * 5_000, "cannot be opened"),
    ],
)
def test_a_path_without_a_picture_is_refused(source: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(source)
    assert message in str(caught.value)


def test_a_folder_is_not_a_picture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"is a folder, not a picture; list_images"):
        load_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(tmp_path / "x.png")


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    red_beside_blue().save(tmp_path / "x.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, under whom containers test, may open anything
    with pytest.raises(ImageError, match=r"x\.png cannot be opened: Permission denied"):
        load_image(tmp_path / "x.png")


def test_a_closed_pillow_image_is_refused(tmp_path: Path) -> None:
    red_beside_blue().save(tmp_path / "x.png")
    picture = Image.open(tmp_path / "x.png")
    picture.close()
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_image(picture)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "object of type NoneType is no picture; pass a path"),
        (7, "object of type int is no picture"),
        ({"image": "x.jpg"}, "object of type dict is no picture"),
    ],
)
def test_an_object_of_another_kind_is_refused(source: object, message: str) -> None:
    for read in (load_image, expand_sources):
        with pytest.raises(ImageError) as caught:
            read(source)
        assert message in str(caught.value)


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".jp2", ".qoi"])
def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path, length: int, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\xff\xd8\xff"[:length])
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError):
            load_image(source)


def test_bytes_open_files_and_urls_are_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    red_beside_blue().save(path)
    content = path.read_bytes()
    sources = [
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        path.as_uri(),
        f"data:image/png;base64,{base64.b64encode(content).decode()}",
    ]
    expected = load_image(path)
    for source in sources:
        assert load_image(source) == expected
        if not isinstance(source, io.BytesIO):  # which has been read to its end
            assert load_image(expand_sources([source])[0]) == expected
    with path.open("rb") as file:
        assert load_image(file) == expected
    with pytest.raises(ImageError, match=r"picture of 0 bytes is empty"):
        load_image(b"")
    with path.open(errors="replace") as file, pytest.raises(ImageError, match="binary mode"):
        load_image(file)  # type: ignore[arg-type]


def test_a_picture_behind_an_address_is_fetched(tmp_path: Path) -> None:
    red_beside_blue().save(tmp_path / "x.png")
    (tmp_path / "page.html").write_text("<html>")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert load_image(f"{address}/x.png") == load_image(tmp_path / "x.png")
        with pytest.raises(ImageError, match=r"none\.png cannot be fetched \(.*; download the pic"):
            load_image(f"{address}/none.png")
        with pytest.raises(ImageError, match=r"page\.html is not a picture in a known format"):
            load_image(f"{address}/page.html")
        server.shutdown()


def test_photos_of_phones_say_what_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pillow_heif") is not None:
        pytest.skip("pillow-heif reads them here")
    with pytest.raises(ImageError, match=r"pillow-heif: pip install 'glip\[heic\]'"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(100))


def test_image_errors_are_caught_as_glip_errors_and_as_os_errors() -> None:
    for family in (GlipError, OSError):
        with pytest.raises(family):
            load_image("missing.jpg")


# --- decompression bombs --------------------------------------------------------------------------


def test_the_limit_is_inclusive_and_adjustable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "x.png")
    assert load_image(tmp_path / "x.png", max_pixels=100).size == (10, 10)
    with pytest.raises(ImageError, match=r"10 x 10 = 100 pixels, .* limit of 99; .*GLIP_MAX"):
        load_image(tmp_path / "x.png", max_pixels=99)
    for pixels in (np.zeros((10, 10, 3), np.uint8), torch.zeros(3, 10, 10), np.zeros((10, 10))):
        assert load_image(pixels, max_pixels=100).size == (10, 10)
        with pytest.raises(ImageError, match=r"10 x 10 = 100 pixels, .* limit of 99; .*GLIP_MAX"):
            load_image(pixels, max_pixels=99)
    monkeypatch.setenv("GLIP_MAX_PIXELS", "50")
    with pytest.raises(ImageError, match="limit of 50"):
        load_image(Image.new("RGB", (10, 10)))
    assert load_image(tmp_path / "x.png", max_pixels=100).size == (10, 10)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_a_senseless_limit_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="max_pixels must be a positive whole number"):
        load_image(Image.new("RGB", (1, 1)), max_pixels=value)


@pytest.mark.parametrize("value", ["0", "-3", "lots"])
def test_a_senseless_limit_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GLIP_MAX_PIXELS", value)
    with pytest.raises(ConfigError, match=f"GLIP_MAX_PIXELS must be .* got '{value}'"):
        load_image(Image.new("RGB", (1, 1)))


PILLOW_CHECKS_WEBP = int(PIL.__version__.split(".")[0]) >= 13


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "gif", "webp"])
@pytest.mark.parametrize("pillows_limit", [10, 300])
def test_pillows_own_limit_is_neither_changed_nor_felt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pillows_limit: int
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (20, 20)).save(path)
    # Pillow would raise beyond twice its limit and warn beyond the limit itself.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    if (suffix, pillows_limit) == ("webp", 10) and PILLOW_CHECKS_WEBP:
        with pytest.raises(
            ImageError, match=r"refused by Pillow.*raise PIL\.Image\.MAX_IMAGE_PIXELS"
        ):
            load_image(path)
    else:
        assert load_image(path).size == (20, 20)
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_the_default_limit_is_the_size_that_pillow_refuses() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert abs(MAX_PIXELS - 2 * Image.MAX_IMAGE_PIXELS) <= 1


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_header(60_000, 60_000))
    with pytest.raises(
        ImageError, match="more than the limit"
    ):  # not "damaged", as decoding would find
        load_image(tmp_path / "x.png")


# --- arrays and tensors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 255]], np.uint8),
        np.array([[[0], [255]]], np.uint8),
        np.array([[0, 65535]], np.uint16),
        np.array([[0, 65535]], ">u2"),
        np.array([[False, True]]),
        np.array([[0, 1]], np.float16),
        np.array([[0, 1]], np.float32),
        np.array([[-0.0005, 1.0005]], np.float64),
        np.array([[255, 0]], np.uint8)[:, ::-1],
        np.asfortranarray(np.array([[[0] * 3, [255] * 3]], np.uint8)),
        np.array([[[0, 0, 0, 255], [255, 255, 255, 255]]], np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_every_supported_kind(array: np.ndarray) -> None:
    assert corners(load_image(array)) == [(0, 0, 0), WHITE]


def test_arrays_are_read_as_rgb_and_alpha_is_composited() -> None:
    assert corners(load_image(np.array([[RED, BLUE]], np.uint8))) == [RED, BLUE]
    clear = np.array([[(255, 0, 0, 0), (0, 0, 255, 255)]], np.uint8)
    assert corners(load_image(clear)) == [WHITE, BLUE]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([[[255, 0]], [[0, 0]], [[0, 255]]], dtype=torch.uint8),
        torch.tensor([[[1.0, 0]], [[0, 0]], [[0, 1]]]),
        torch.tensor([[[1.0, 0]], [[0, 0]], [[0, 1]]], dtype=torch.bfloat16),
        torch.tensor([[[1.0, 0]], [[0, 0]], [[0, 1]]], requires_grad=True),
        torch.tensor([[[255, 0]], [[0, 0]], [[0, 255]], [[255, 255]]], dtype=torch.uint8),
    ],
    ids=["uint8", "float32", "bfloat16", "with gradient", "rgba"],
)
def test_tensors_have_their_channels_first(tensor: torch.Tensor) -> None:
    assert corners(load_image(tensor)) == [RED, BLUE]


@pytest.mark.parametrize("shape", [(2, 5), (1, 2, 5)])
def test_grey_tensors(shape: tuple[int, ...]) -> None:
    assert load_image(torch.ones(shape)).size == (5, 2)


def test_every_8_bit_value_survives_the_way_through_floats() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(np.asarray(load_image(values / 255))[..., 0], values)
    assert np.array_equal(np.asarray(load_image(torch.tensor(values) / 255))[..., 0], values)


BAD_PIXELS = [
    (np.zeros((3, 20, 30), np.uint8), "array.transpose(1, 2, 0)"),
    (np.zeros((20, 30, 2), np.uint8), "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"),
    (np.zeros((2, 20, 30, 3), np.uint8), "pass its members one by one"),
    (np.zeros(5, np.uint8), "array of shape (5,) and type uint8 is no picture"),
    (np.zeros((0, 5, 3), np.uint8), "has no pixels"),
    (np.zeros((5, 5), np.int64), "expected uint8, uint16, bool or floats"),
    (np.zeros((5, 5), complex), "expected uint8, uint16, bool or floats"),
    (np.array([["a"]]), "expected uint8, uint16, bool or floats"),
    (np.full((2, 3), np.nan, np.float32), "NaN or infinite values (6 of 6)"),
    (np.array([[0.0, np.inf]]), "NaN or infinite values (1 of 2)"),
    (np.full((2, 2), 200.0), "values from 200 to 200, floats must lie in [0, 1]; divide by 255"),
    (np.array([[-2.1, 2.6]]), "undo the normalisation"),
    (torch.zeros(20, 30, 3), ".permute(2, 0, 1)"),
    (torch.zeros(2, 20, 30), "expected (1, H, W), (3, H, W) or (4, H, W)"),
    (torch.zeros(2, 3, 20, 30), "as a batch (B, C, H, W), pass its members one by one"),
    (torch.tensor(1.0), "tensor of shape () and type float32 is no picture"),
    (torch.zeros(3, 0, 5), "has no pixels"),
    (torch.zeros(3, 5, 5, dtype=torch.int64), "expected uint8, uint16, bool or floats"),
    (torch.full((3, 2, 2), float("nan")), "NaN or infinite values (12 of 12)"),
    (torch.full((3, 2, 2), 255.0), "divide by 255"),
    (torch.zeros(3, 2, 2, device="meta"), "no dense values"),
    (torch.zeros(2, 2).to_sparse(), "no dense values"),
    (torch.zeros(3, 2, 2).to(torch.float8_e4m3fn), "type float8_e4m3fn is no picture: expected"),
    (torch.nested.nested_tensor([torch.zeros(3, 2, 2)]), "nested shape and type float32"),
    (torch.zeros(3, 2, 2, dtype=torch.complex64), "expected uint8, uint16, bool or floats"),
    (Image.fromarray(np.array([[np.nan]], np.float32)), "NaN or infinite values"),
    (Image.fromarray(np.array([[1e6]], np.float32)), "scale them to 0 ... 1 or 255 or 65535"),
    (Image.fromarray(np.array([[-5]], np.int32)), "scale them to 0 ... 255 or 65535"),
    (Image.new("RGB", (0, 4)), "has no pixels (0x4)"),
]


@pytest.mark.filterwarnings("error:invalid value")
@pytest.mark.parametrize(("pixels", "message"), BAD_PIXELS)
def test_pixels_that_cannot_be_used_are_refused_with_the_way_out(
    pixels: np.ndarray | torch.Tensor | Image.Image, message: str
) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(pixels)
    assert message in str(caught.value)


# --- folders and lists ----------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Pictures here and below, and files that are none."""
    for name in ("img10.jpg", "img2.JPG", "a.png", "more/b1.webp", "more/2/c.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", "paper.pdf", ".hidden.jpg", ".thumbnails/a.jpg", "clip.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_is_listed_in_natural_order(album: Path) -> None:
    expected = ["a.png", "img2.JPG", "img10.jpg", "more/2/c.bmp", "more/b1.webp"]
    assert list_images(album) == [album / name for name in expected]
    assert list_images(str(album), recursive=False) == [album / name for name in expected[:3]]


@pytest.mark.parametrize(
    ("folder", "message"),
    [("missing", "does not exist"), ("a.png", "is a file, not a folder"), ("none", "no picture")],
)
def test_a_folder_without_pictures_is_refused(album: Path, folder: str, message: str) -> None:
    (album / "none").mkdir()
    with pytest.raises(ImageError) as caught:
        list_images(album / folder)
    assert message in str(caught.value)
    assert str(album / folder) in str(caught.value)


def test_a_folder_that_cannot_be_read_is_an_error_and_one_below_a_warning(
    album: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    locked = album / "more"
    scan = os.scandir

    def guarded(path: str | os.PathLike[str]) -> object:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        list_images(locked)
    assert len(list_images(album)) == 3
    assert f"{locked} is skipped" in caplog.text


def test_sources_become_one_flat_list(album: Path) -> None:
    picture, array, tensor = Image.new("RGB", (1, 1)), np.zeros((2, 2)), torch.zeros(3, 2, 2)
    assert expand_sources("x.jpg") == ["x.jpg"]
    assert expand_sources(picture) == [picture]
    assert len(expand_sources(str(album))) == 5
    assert len(expand_sources([album, "x.jpg", [picture, array, tensor]])) == 9
    assert expand_sources(path for path in ("b.jpg", "a.jpg")) == ["b.jpg", "a.jpg"]
    assert expand_sources([]) == []


@pytest.mark.parametrize(
    ("batch", "shape"),
    [(torch.zeros(2, 3, 4, 5), (3, 4, 5)), (np.zeros((2, 4, 5, 3)), (4, 5, 3))],
)
def test_a_batch_is_split_alone_and_within_a_list(
    batch: torch.Tensor | np.ndarray, shape: tuple[int, ...]
) -> None:
    for images in (batch, [batch]):
        assert [tuple(image.shape) for image in expand_sources(images)] == [shape, shape]


def test_patterns_give_the_files_that_fit(album: Path) -> None:
    assert expand_sources(f"{album}/img*.*") == [album / "img2.JPG", album / "img10.jpg"]
    assert len(expand_sources([f"{album}/**/*.webp", "x.jpg"])) == 2
    (album / "[1].png").touch()
    assert expand_sources(f"{album}/[1].png") == [f"{album}/[1].png"]
    with pytest.raises(ImageError, match=r"no file fits .*\*\.tif"):
        expand_sources(f"{album}/*.tif")


def test_folders_behind_links_are_entered_once(album: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.png").touch()
    (album / "linked").symlink_to(elsewhere)
    (album / "more" / "circle").symlink_to(album)
    names = {path.relative_to(album).as_posix() for path in list_images(album)}
    assert "linked/c.png" in names and len(names) == 6
    assert set(list_pictures(album)) == names


def test_deeper_nesting_is_refused() -> None:
    with pytest.raises(ImageError, match="nested too deeply"):
        expand_sources([[["x.jpg"]]])


# --- saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "bmp", "tif"])
def test_a_saved_picture_is_what_was_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / "folder" / f"x.{suffix}"
    assert save_image(Image.new("RGB", (16, 16), RED), path) == path
    assert np.allclose(corners(load_image(path)), [RED, RED], atol=3)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x", "no suffix; use one of"),
        ("x.xyz", "suffix '.xyz'; use one of"),
        ("x.eps", "suffix '.eps'"),
        ("x.ico", "suffix '.ico'"),
        ("taken/x.png", "cannot save"),
        ("x.webp", "cannot save"),
    ],
)
def test_a_picture_that_cannot_be_saved_leaves_nothing_behind(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(ImageError) as caught:
        save_image(Image.new("RGB", (20_000, 1)), tmp_path / name)  # wider than WebP can be
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_the_old_file_stays_when_saving_fails(tmp_path: Path) -> None:
    save_image(Image.new("RGB", (4, 4), RED), tmp_path / "x.webp")
    with pytest.raises(ImageError):
        save_image(Image.new("RGB", (20_000, 1)), tmp_path / "x.webp")
    assert load_image(tmp_path / "x.webp").size == (4, 4)


@pytest.mark.whole
def test_a_disk_that_takes_half_of_a_picture_is_told(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from PIL import Image
from glip.errors import ImageError
from glip.images import save_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    save_image(Image.effect_noise((200, 200), 90).convert("RGB"), sys.argv[1])
except ImageError as error:
    print("refused:", error)
"""
    path = tmp_path / "x.jpg"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"refused: cannot save {path}")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_threads_that_save_to_one_path_leave_one_whole_picture(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (200, 200), colour) for colour in (RED, BLUE)]
    threads = [
        threading.Thread(target=save_image, args=(picture, tmp_path / "x.png"))
        for picture in pictures * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert corners(load_image(tmp_path / "x.png")) in ([RED, RED], [BLUE, BLUE])
    assert len(list(tmp_path.iterdir())) == 1


def test_folders_are_walked_without_results_and_hidden_files(tmp_path: Path) -> None:
    for name in ("a.png", "straße/01 é.png", "labelled/copy.png", ".hidden/a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "00.glip.jpg").touch()  # drawn by glip predict
    names = set(list_pictures(tmp_path, without=tmp_path / "labelled"))
    assert names == {"a.png", "straße/01 é.png"}
    with pytest.raises(ConfigError, match=r"notes.txt is a file, not a folder"):
        next(list_pictures(tmp_path / "notes.txt"))
    with pytest.raises(ConfigError, match="none does not exist"):
        next(list_pictures(tmp_path / "none"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("straße/🦝\N{ZERO WIDTH JOINER}.jpg", None),
        ("a\nb.jpg", r"'a\nb.jpg': its name has control characters; rename it"),
        (os.fsdecode(b"\xff.jpg"), r"b'\xff.jpg': its name is not Unicode; rename it"),
    ],
)
def test_names_that_no_label_file_can_hold(name: str, reason: str | None) -> None:
    assert unusable_name(name) == reason


def test_linked_folders_are_looked_into_once(tmp_path, make_picture):
    for name in ("photos/real", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
    make_picture().save(tmp_path / "photos" / "real" / "a.png")
    make_picture().save(tmp_path / "elsewhere" / "deep" / "b.png")
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "again").symlink_to("real")
    (tmp_path / "photos" / "real" / "up").symlink_to("..")
    (tmp_path / "photos" / "dangling").symlink_to("nowhere")
    names = ["link/deep/b.png", "real/a.png"]
    assert sorted(list_pictures(tmp_path / "photos")) == names
    assert [str(p.relative_to(tmp_path / "photos")) for p in list_images(tmp_path / "photos")] == [
        "link/deep/b.png",
        "real/a.png",
    ]


def test_photos_of_other_kinds_are_named(tmp_path, caplog):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.CR2", "sub/c.cr2", "d.psd", "notes.txt", ".hidden.nef"):
        (tmp_path / name).touch()
    warn_of_unread(tmp_path)
    assert "left out: 2 .cr2, 1 .psd; export them as JPEG" in caplog.text
    caplog.clear()
    warn_of_unread(tmp_path / "sub", without=tmp_path / "sub")
    assert not caplog.text


@pytest.mark.parametrize("name", ["0.png", "loop"])
def test_a_link_to_itself_hides_no_picture(tmp_path: Path, name: str) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number + 1}.png")
    (tmp_path / name).symlink_to(tmp_path / name)
    found = {"1.png", "2.png", "3.png"} | ({name} if name.endswith(".png") else set())
    assert {path.name for path in list_images(tmp_path)} == found
    assert set(list_pictures(tmp_path)) == found
