import re

from PIL import Image

from glip.report.run import SamplePicture, write_report


def test_report_holds_everything_in_one_file(tmp_path):
    red, blue = (Image.new("RGB", (900, 300), colour) for colour in ("red", "blue"))
    write_report(
        tmp_path / "report.html",
        [{"step": 1, "loss/box": 2.0}, {"step": 2, "loss/box": 1.0}, {"step": 2, "AP": None}],
        title="Run <one>",
        summary={"steps": 2},
        metrics={"AP": 0.1234, "APl": None},
        per_class={"cat": 0.25, "dog": 0.75},
        pictures=[SamplePicture("a & b.png", red, blue)],
        settings="steps: 2\n",
    )
    page = (tmp_path / "report.html").read_text()
    assert "Run &lt;one&gt;" in page
    assert "<td>AP</td><td>12.3</td>" in page
    assert "<td>APl</td><td>-</td>" in page
    assert page.index("dog") < page.index("cat")  # best first
    assert page.count("<svg") == 1
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "a &amp; b.png: truth" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # needs nothing beside it
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_curves_have_their_headings_and_single_points_none(tmp_path):
    steps = [{"step": n, "loss/box": n, "lr": n, "evaluation/AP": n} for n in (1, 2)]
    for records, headings in (
        (steps, ["Losses", "Evaluations", "Steps", "Settings"]),
        (steps[:1], ["Settings"]),
    ):
        write_report(
            tmp_path / "report.html",
            records,
            title="run",
            summary={},
            metrics={},
            per_class={},
            pictures=[],
            settings="",
        )
        page = (tmp_path / "report.html").read_text()
        assert re.findall("<h2>(.*?)</h2>", page) == headings
        assert page.count("<svg") == 3 * (len(headings) > 1)
