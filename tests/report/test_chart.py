"""Curves as a picture."""

from xml.etree import ElementTree

from glip.report.chart import Line, Shares, share_chart, write_chart


def test_chart_is_valid_svg_with_its_text_escaped(tmp_path):
    path = tmp_path / "chart.svg"
    lines = [Line("a < b", ((0.0, "0", 1.0, 0.0), (1.0, "all", 3.0, 0.5)))]
    write_chart(path, lines, title="T & U", x="x", y="y")
    texts = [node.text for node in ElementTree.parse(path).iter() if node.text]
    assert {"a < b", "T & U", "all"} <= set(texts)
    write_chart(tmp_path / "none.svg", [Line("a", ())], title="", x="", y="")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_chart_of_shares_points_out_what_it_is_told():
    lines = [Shares("a", [(0.0, 1.0), (1.0, 0.0)], (0.5, 0.25))]
    chart = share_chart(lines, title="T", x="x", y="y")
    circles = [one.attrib for one in ElementTree.fromstring(chart).iter() if "r" in one.attrib]
    assert [one["r"] for one in circles] == ["4", "5"]  # of the legend, of the point
