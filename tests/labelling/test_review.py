"""The report: what it counts, what it shows, and that any name is safe in it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from glip.data.labels import Label, Labelled
from glip.errors import StorageError
from glip.labelling.review import CROPS, REJECTED, Rejected, write_report

VOID = {"meta", "img", "br"}


class Checked(HTMLParser):
    """Elements are closed in order, and no script comes in with a name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def photos(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(30):
        make_picture(120, 90, seed=number).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_counts_scores_and_crops(photos: Path, tmp_path: Path) -> None:
    pictures = [
        Labelled(
            f"{number}.png",
            (90, 120),
            (Label("cat", (10, 20, 50, 60), round(0.3 + number / 100, 4), "kitten"),),
        )
        for number in range(30)
    ]
    pictures.append(Labelled("none.png", (90, 120), ()))
    path = write_report(pictures, ("cat", "dog"), photos, tmp_path / "report.html", title="Mine")
    text = path.read_text(encoding="utf-8")
    Checked(text)
    assert "31 pictures, 30 boxes; 1 pictures without any box." in text
    shown = [float(score) for score in re.findall(r"<figcaption>([\d.]+), found as “kitten”", text)]
    assert shown[:CROPS] == pytest.approx([0.3 + n / 100 for n in range(CROPS)])
    assert shown[CROPS:] == pytest.approx([0.59 - n / 100 for n in range(CROPS)])
    bars = re.findall(r"<title>([\d.]+) to [\d.]+: (\d+)</title>", text)
    assert {low: int(count) for low, count in bars if count != "0"} == {
        **{"0.30": 5, "0.35": 5, "0.40": 5, "0.45": 5, "0.50": 5, "0.55": 5},
    }
    crops = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(crops) == 2 * CROPS
    # 40 pixels wide with 12 around: from 0 (it would be -2) to 62 + 1, and from 8 to 72 + 1.
    assert Image.open(io.BytesIO(base64.b64decode(crops[0]))).size == (63, 65)
    assert '<p class="note">No box.</p>' in text
    links = set(re.findall(r'<a href="(photos/[^"]+)">', text))
    assert links and all((tmp_path / unquote(link)).is_file() for link in links)
    assert 'src="http' not in text and 'href="http' not in text  # works from a file


def test_names_are_text_and_lost_pictures_a_gap(photos: Path, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    labels = (Label(evil, (0, 0, 9, 9), 0.5, evil), Label("drawn", (0, 0, 9, 9)))
    rejected = [Rejected(f"{evil}{n}", "is empty & bad") for n in range(REJECTED + 2)]
    path = write_report(
        [Labelled(f"{evil}.png", (90, 120), labels)],
        (evil, "drawn"),
        photos,
        tmp_path / "report.html",
        title=evil,
        rejected=iter(rejected),
    )
    text = path.read_text(encoding="utf-8")
    page = Checked(text)
    assert "script" not in page.tags and page.tags.count("img") == 0
    assert "cannot be read any more" in text
    assert "1 boxes, none with a score." in text
    assert text.count("is empty &amp; bad") == REJECTED and "and 2 more" in text


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError, match=r"report.html cannot be written"):
        write_report([], (), tmp_path, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
