"""Pages and the drawings in them."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from glip.errors import StorageError
from glip.report.page import LONG_SIDE, curve, html_table, picture, write_page


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(page, "a < b", iter(["<p>one</p>", html_table({"x & y": "<2>"})]))
    text = page.read_text()
    assert "<title>a &lt; b</title>" in text and "<h1>a &lt; b</h1>" in text
    assert text.index("<p>one</p>") < text.index("<td>x &amp; y</td><td>&lt;2&gt;</td>")

    def failing():
        yield "<p>half</p>"
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"page\.html"):
        write_page(page, "other", failing())
    assert page.read_text() == text and list(tmp_path.iterdir()) == [page]


def test_a_picture_is_made_small_and_left_as_it_was() -> None:
    image = Image.new("RGBA", (2 * LONG_SIDE, 10), "red")
    figure = picture(image, 'a "cat"')
    assert image.size == (2 * LONG_SIDE, 10)
    assert 'alt="a &#34;cat&#34;"' in figure and 'src="data:image/jpeg;base64,' in figure


def test_curve_goes_from_corner_to_corner():
    figure = ElementTree.fromstring(curve("loss", [(10, 5.0), (20, 3.0), (30, 1.0)]))
    line = figure.find("svg/polyline").get("points")
    assert line == "50.0,6.0 172.0,65.0 294.0,124.0"
    assert [text.text for text in figure.findall("svg/text")] == ["5", "1"]
    assert figure.findtext("figcaption") == "loss: 5 to 1, steps 10 to 30"


def test_flat_curve_lies_in_the_middle():
    figure = ElementTree.fromstring(curve("AP", [(7, 0.5), (8, 0.5)]))
    assert figure.find("svg/polyline").get("points") == "50.0,65.0 294.0,65.0"
