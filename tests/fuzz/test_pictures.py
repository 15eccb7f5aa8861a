"""Pictures of every kind that no picture should be: used, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from glip.data.pictures import PictureFolder, decode
from glip.images import FORMATS, expand_sources, load_image, register_formats
from glip.serve.pictures import from_base64, read_picture
from tests.fuzz.border import refusal
from tests.fuzz.odd import KINDS, damaged

LIMIT = 10_000
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB",
         "HSV", "I", "F", "I;16", "I;16B", "I;16L")  # fmt: skip


def files() -> dict[str, bytes]:
    """A small file of every format that can be written here, in every mode that it takes."""
    register_formats()
    found = {}
    for kind in sorted(FORMATS & set(Image.SAVE)):
        for mode in MODES:
            content = io.BytesIO()
            try:
                Image.new(mode, (17, 9)).save(content, kind)
            except Exception:  # the format does not know the mode
                continue
            found[f"{kind}-{mode}"] = content.getvalue()
    return found


FILES = files()


def check(source: Any, *names: object) -> None:
    """One picture is 8-bit RGB below the limit, or refused."""

    def look() -> None:
        picture = load_image(source, max_pixels=LIMIT)
        assert picture.mode == "RGB" and 0 < picture.width * picture.height <= LIMIT
        assert np.asarray(picture).dtype == np.uint8

    refusal(look, *names)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """Some 3,000 of them, in files, in memory, in data sets and in requests."""
    path = tmp_path / "photo"
    for content in damaged(FILES[name], 40):
        path.write_bytes(content)
        check(path, path)
        check(content)
        folder = PictureFolder(tmp_path)
        refusal(lambda folder=folder: folder.read("photo"), path)  # type: ignore[misc]
        refusal(lambda folder=folder: folder.size_hw("photo"), path)  # type: ignore[misc]
        refusal(lambda content=content: decode(content, "x.tar: photo"), "x.tar: photo")  # type: ignore[misc]
        refusal(lambda content=content: read_picture(content, max_pixels=LIMIT))  # type: ignore[misc]


@pytest.mark.parametrize("name", FILES)
def test_first_bytes_alone(name: str) -> None:
    for size in (1, 2, 3, 4, 8, 12, 15, 16, 17, 30):
        check(FILES[name][:size], f"{min(size, len(FILES[name]))} bytes")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


BOMBS = {
    "huge sides": png(2**31 - 1, 2**31 - 1, (b"IDAT", zlib.compress(b"\0" * 100))),
    "long and flat": png(2**30, 1, (b"IDAT", zlib.compress(b"\0" * 100))),
    "no side": png(0, 5, (b"IDAT", b"")),
    "text that unpacks": png(
        9, 9, (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 200_000_000, 9)),
        (b"IDAT", zlib.compress(bytes(28 * 9))),
    ),
    "profile that unpacks": png(
        9, 9, (b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 200_000_000, 9)),
        (b"IDAT", zlib.compress(bytes(28 * 9))),
    ),
    "pixels without end": png(9, 9, (b"IDAT", zlib.compress(b"\0" * 200_000_000, 9))),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + b"\xff" * 9,
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 9, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24,
                               0, 0, 0, 0, 0, 0),
    "ppm": b"P6 99999999999 99999999999 255\n" + b"\0" * 9,
    "ppm of many digits": b"P6 " + b"9" * 100_000,
    "qoi": b"qoif" + struct.pack(">IIBB", 2**32 - 1, 2**32 - 1, 4, 0),
    "tiff in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "tiff of many entries": b"II*\0\x08\0\0\0\xff\xff" + b"\0\x01\x04\0\xff\xff\xff\xff" * 9000,
    "text": b"hello, world " * 99,
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
    "icon": b"\0\0\1\0\1\0" + b"\0" * 16,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_files_that_lie(name: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(BOMBS[name])
    check(path, path)
    check(BOMBS[name])
    check(io.BytesIO(BOMBS[name]))
    refusal(lambda: PictureFolder(tmp_path).size_hw("photo.png"), path)
    refusal(lambda: PictureFolder(tmp_path).read("photo.png"), path)
    refusal(lambda: read_picture(BOMBS[name], max_pixels=LIMIT))


@pytest.mark.parametrize("become", KINDS)
def test_what_is_no_picture_file(become: Any, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    become(path)
    check(path, path)
    refusal(lambda: [load_image(one) for one in expand_sources([path])], path)
    refusal(lambda: PictureFolder(tmp_path).size_hw("photo.png"), path, "photo.png")
    refusal(lambda: PictureFolder(tmp_path).read("photo.png"), path, "photo.png")


NAMES = ("", " ", "a\0b.png", "x" * 5_000, "\ud800.png", "../../etc/passwd", "/dev/zero",
         "~", "file:///etc/passwd", "file://", "data:", "data:image/png;base64,!!!", "data:,x",
         "http://[", "http://127.0.0.1:1/x.png", "http://a b/", "https://\0", "s3://a/b",
         "ftp://127.0.0.1:1/x", "*?[", "[a-", "**/*.nothing", "http://x:99999/",
         "HTTP://x:y/")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_nowhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(lambda: load_image(name))
    refusal(lambda: [load_image(one) for one in expand_sources([name])])
    refusal(lambda: PictureFolder(tmp_path).read(name))
    refusal(lambda: PictureFolder(tmp_path).size_hw(name))
    refusal(lambda: from_base64(name))


DTYPES = arrays.scalar_dtypes() | arrays.array_dtypes(max_size=2)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)))
def test_arrays_of_any_kind(array: np.ndarray[Any, Any]) -> None:
    check(array)
    check(np.moveaxis(array, 0, -1) if array.ndim else array)
    refusal(lambda: [load_image(one) for one in expand_sources(array)])


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    arrays.arrays(
        arrays.floating_dtypes(),
        some.tuples(some.integers(1, 6), some.integers(1, 6), some.just(3)),
    )
)
def test_floats_of_any_value(array: np.ndarray[Any, Any]) -> None:
    check(array)
    if array.dtype.itemsize <= 8:
        check(torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))))


TENSOR_TYPES = [kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)]


@pytest.mark.parametrize("dtype", sorted(set(TENSOR_TYPES), key=str), ids=str)
def test_tensors_of_any_type(dtype: torch.dtype) -> None:
    for shape in ((), (0,), (3,), (5, 5), (1, 5, 5), (3, 5, 5), (5, 5, 3), (4, 0, 5), (1, 3, 5, 5)):
        try:
            tensor = torch.empty(shape, dtype=dtype)
        except Exception:  # torch cannot make it
            continue
        check(tensor)
        refusal(lambda tensor=tensor: [load_image(one) for one in expand_sources(tensor)])  # type: ignore[misc]


def test_tensors_without_usual_memory() -> None:
    pixels = torch.rand(3, 8, 8)
    sparse = pixels.to_sparse()
    quantised = torch.quantize_per_tensor(pixels, 0.1, 0, torch.quint8)
    tensors = [
        sparse, quantised, pixels.to("meta"), pixels[:, ::2, ::3], pixels.flip(1),
        torch.nested.nested_tensor([pixels, pixels]), torch.zeros(1).expand(3, 10**5, 10**5),
        pixels.clone().requires_grad_(), torch.nn.Parameter(torch.rand(3, 4, 4)),
        torch.rand(4, 4, 3).permute(2, 0, 1), torch.zeros(3, 4, 4, dtype=torch.complex64).conj(),
    ]  # fmt: skip
    if torch.backends.mkldnn.is_available():
        tensors.append(pixels.to_mkldnn())
    for tensor in tensors:
        check(tensor)
    check(np.broadcast_to(np.uint8(0), (10**6, 10**6, 3)))
    check(np.ma.masked_array(np.zeros((4, 4, 3), np.uint8), True))
    check(np.asmatrix(np.zeros((4, 4))))


@pytest.mark.parametrize("mode", MODES)
def test_open_pictures_of_any_mode(mode: str) -> None:
    for size in ((0, 0), (0, 3), (1, 1), (5, 4)):
        check(Image.new(mode, size))
    closed = Image.open(io.BytesIO(FILES["PNG-RGB"]))
    closed.close()
    check(closed)


class Torn(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise RuntimeError("the line is dead")


@pytest.mark.parametrize(
    "source",
    [None, 7, 2.5, object(), {}, {"image": "a.png"}, set(), [], [[[[1]]]], iter(()),
     io.StringIO("x"), Torn(), b"", bytearray(b"\xff"), memoryview(b"ab"), "", [None], [b"", None],
     (1, 2), True, load_image],
)  # fmt: skip
def test_objects_that_are_no_picture(source: Any) -> None:
    check(source)
    refusal(lambda: [load_image(one) for one in expand_sources(source)])
