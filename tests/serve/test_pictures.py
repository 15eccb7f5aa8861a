"""From what a request holds to a decoded picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from glip.errors import ImageError
from glip.serve.pictures import Picture, content_of, from_base64, no_addresses, read_picture
from glip.serve.refusals import Refusal
from tests.serve.conftest import png_of

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("YWJj", b"abc"),
        ("YW\nJj\n", b"abc"),
        ("data:image/png;base64,YWJj", b"abc"),
        ("data:;base64,YWJj", b"abc"),
        ("DATA:image/svg+xml;charset=utf-8;base64,YWJj", b"abc"),
        ("", b""),
    ],
)
def test_base64(text: str, content: bytes) -> None:
    assert from_base64(text) == content


@pytest.mark.parametrize("text", ["YWJ", "YW%Jj", "data:image/png,YWJj", "street.jpg", "é"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(Refusal, match="base64"):
        from_base64(text)


def test_only_addresses_are_fetched() -> None:
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return b"fetched"

    assert content_of(Picture(b"file", "a"), fetch) == b"file"
    assert content_of(Picture("YWJj", "a"), fetch) == b"abc"
    assert content_of(Picture("HTTPS://example.org/a", "a"), fetch) == b"fetched"
    assert fetched == ["HTTPS://example.org/a"]
    with pytest.raises(Refusal, match="no pictures from addresses"):
        content_of(Picture("http://example.org/a", "a"), no_addresses)


def test_pictures_come_out_upright_and_in_colour() -> None:
    picture = Image.new("L", (30, 20), 7)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture.save(buffer, format="JPEG", exif=exif)
    read = read_picture(buffer.getvalue(), max_pixels=600)
    assert (read.size, read.mode) == ((20, 30), "RGB")


def test_the_limit_is_that_of_the_server_not_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    content = png_of(Image.new("RGB", (30, 20)))
    with pytest.raises(Refusal, match="30 x 20 pixels"):
        read_picture(content, max_pixels=599)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # Pillow only warns of these
    assert read_picture(content, max_pixels=600).size == (30, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(Refusal, match="pixels") as refused:
        read_picture(content, max_pixels=600)
    assert refused.value.status == 413


def test_messages_do_not_tell_how_it_failed() -> None:
    for content in (b"text", png_of(Image.effect_noise((99, 99), 9))[:900]):
        with pytest.raises(ImageError) as error:
            read_picture(content, max_pixels=10**6)
        assert "damaged" in str(error.value)
        assert "Bytes" not in str(error.value)
    with pytest.raises(ImageError, match="HEIC pictures are not read by this server; send a JPEG"):
        read_picture(b"\0\0\0\x18ftypheic" + bytes(40), max_pixels=10**6)
