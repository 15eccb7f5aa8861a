"""Frames come out in order, upright, of one size; what is no film says so."""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.errors import ConfigError, DataError
from glip.video.reading import BrokenClipError, Clip, FrameAt, camera_number, is_video
from glip.video.writing import whole_film


def picture(grey: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.new("RGB", size, (grey, grey, grey))


def film(path: Path, pictures: list[Image.Image], rate: Fraction = Fraction(10)) -> Path:
    pytest.importorskip("av")
    with whole_film(path, rate=rate) as add:
        for number, one in enumerate(pictures):
            add(one, float(number / rate))
    return path


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Ten frames of 96 x 64 pixels, each of one grey, brighter from frame to frame."""
    return film(tmp_path / "film.mp4", [picture(20 * number) for number in range(10)])


def test_frames_in_order_with_their_times(ten: Path) -> None:
    with Clip(ten) as clip:
        assert (clip.rate, clip.total) == (10, 10)
        for number, frame in enumerate(clip):
            assert (frame.number, frame.width, frame.height) == (number, 96, 64)
            assert frame.seconds == pytest.approx(number / 10, abs=1e-3)
            assert np.asarray(frame.picture()).mean() == pytest.approx(20 * number, abs=3)
    assert number == 9


@pytest.mark.parametrize("jumps", [True, False])
def test_a_frame_by_its_place(ten: Path, monkeypatch: pytest.MonkeyPatch, jumps: bool) -> None:
    if not jumps:
        monkeypatch.setattr(Clip, "sought", lambda clip, place: None)
    for number in (0, 4, 9):
        shown = FrameAt(str(ten), number, number / 10).picture()
        assert np.asarray(shown).mean() == pytest.approx(20 * number, abs=3)
    with pytest.raises(DataError, match="has no frame 10 any more"):
        FrameAt(str(ten), 10, 1.0).picture()
    ten.unlink()
    with pytest.raises(DataError, match="does not exist"):
        FrameAt(str(ten), 4, 0.4).picture()


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The film with a display matrix in its track header, as phones that are held upright write."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target = path.with_name("turned.mp4")
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("matrix", "size", "bright"),
    [
        ((1, 0, 0, 1), (96, 64), "left"),
        ((0, 1, -1, 0), (64, 96), "top"),  # a quarter with the clock
        ((-1, 0, 0, -1), (96, 64), "right"),
        ((0, -1, 1, 0), (64, 96), "bottom"),
    ],
)
def test_turned_as_the_file_asks(
    tmp_path: Path, matrix: tuple[int, int, int, int], size: tuple[int, int], bright: str
) -> None:
    half = picture(0)
    half.paste((255, 255, 255), (0, 0, 48, 64))
    path = turned(film(tmp_path / "film.mp4", [half] * 3), matrix)
    with Clip(path) as clip:
        first = next(iter(clip))
    assert (first.width, first.height) == first.picture().size == size
    seen = np.asarray(first.picture().convert("L")).astype(float)
    height, width = seen.shape
    halves = {
        "left": seen[:, : width // 2],
        "right": seen[:, width // 2 :],
        "top": seen[: height // 2],
        "bottom": seen[height // 2 :],
    }
    assert max(halves, key=lambda side: halves[side].mean()) == bright


def test_other_sizes_are_brought_to_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in recorded calls: two streams of raw H.264 behind each other are one."""
    av: Any = pytest.importorskip("av")
    path = tmp_path / "call.h264"
    with path.open("wb") as file:
        for size in ((96, 64), (48, 32)):
            part = film(tmp_path / "part.mp4", [picture(99, size)] * 3)
            raw = tmp_path / "part.h264"
            with av.open(str(part)) as source, av.open(str(raw), "w", format="h264") as target:
                stream = target.add_stream_from_template(source.streams.video[0])
                filters = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream)
                for packet in source.demux(video=0):
                    for filtered in filters.filter(packet):
                        filtered.stream = stream
                        target.mux(filtered)
            file.write(raw.read_bytes())
    with caplog.at_level(logging.WARNING), Clip(path) as clip:
        frames = list(clip)
    assert [frame.picture().size for frame in frames] == [(96, 64)] * 6
    assert caplog.text.count("changes its size in frame 3, from 96x64 to 48x32") == 1


def sound(path: Path) -> None:
    av: Any = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def no_frames(path: Path) -> None:
    film(path, [])


NO_FILMS: list[tuple[str, Callable[[Path], object], str]] = [
    ("none.mp4", lambda path: None, "none.mp4 does not exist; name a video file"),
    ("folder.mp4", lambda path: path.mkdir(), "folder.mp4 is a folder"),
    ("empty.mp4", lambda path: path.touch(), r"it is empty \(0 bytes\)"),
    ("text.mp4", lambda path: path.write_text("no film"), "cannot be read as a video: Invalid"),
    ("sound.mp4", sound, "sound.mp4 has no video stream, only sound"),
    ("short.mp4", no_frames, "short.mp4"),
]


@pytest.mark.parametrize(("name", "make", "message"), NO_FILMS)
def test_what_is_no_film_says_so(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    pytest.importorskip("av")
    make(tmp_path / name)
    with pytest.raises(DataError, match=message), Clip(tmp_path / name) as clip:
        list(clip)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_film_that_breaks_gives_the_frames_before(tmp_path: Path, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    path = film(tmp_path / "film.mp4", [Image.fromarray(one) for one in noise])
    content = path.read_bytes()
    place = len(content) * 2 // 3
    hole = len(content) // 8
    rest = b"" if damage == "cut" else b"\xff" * hole + content[place + hole :]
    path.write_bytes(content[:place] + rest)
    frames = []
    with pytest.raises(BrokenClipError, match="cannot be decoded after") as caught, Clip(path) as c:
        frames.extend(frame.number for frame in c)
    assert frames == list(range(caught.value.frames)) and 10 < len(frames) < 40


def test_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    assert camera_number(1) == camera_number("1") == 1 and camera_number("film.mp4") is None
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DataError, match=r"camera 99 \(/dev/video99\) cannot be opened"):
        Clip("99")
    Path("99").touch()
    assert camera_number("99") is None
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="numbers on Linux and macOS only"):
        Clip(0)


def test_a_rate_of_nothing_is_taken_for_the_usual_one(
    ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av: Any = pytest.importorskip("av")
    real = av.open

    class Stream:
        """Of a file that says 0 frames a second, or nothing."""

        average_rate = guessed_rate = Fraction(0)

        def __init__(self, stream: Any) -> None:
            self.frames, self.disposition = stream.frames, stream.disposition

    class Container:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.container = real(*args, **options)
            self.streams = type("Streams", (), {"video": [Stream(self.container.streams.video[0])]})

        def decode(self, stream: Any) -> Any:
            return self.container.decode(video=0)

        def close(self) -> None:
            self.container.close()

    monkeypatch.setattr(av, "open", Container)
    with Clip(ten) as clip:
        assert clip.rate == 25
        assert [frame.number for frame in clip] == list(range(10))


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for clip in (tmp_path / "film.mp4", 0):
        with pytest.raises(ConfigError, match=r"needs PyAV: pip install 'glip\[video\]'"):
            Clip(clip)


def test_videos_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("a.MP4", "b.jpg"):
        (tmp_path / name).touch()
    names = ("a.MP4", "b.jpg", "none.mp4")
    assert [is_video(tmp_path / name) for name in names] == [True, False, False]
