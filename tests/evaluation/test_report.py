"""The page of an evaluation for experts."""

import json

import numpy as np

from glip.evaluation import report
from glip.evaluation.analysis import curve_of
from glip.evaluation.config import TaskOptions
from glip.evaluation.tasks import run_task


def test_page_and_results_say_why(toy, tmp_path):
    path, detector = toy
    (boxes,) = detector.answers[0][:1]
    detector.answers[0] = [boxes, ([60, 40, 80, 60], 0.8, 1)]  # nothing is there
    detector.answers[2] = [(detector.answers[2][0][0], 0.7, 1)]  # the cat is called a dog
    results = run_task(TaskOptions(), detector, [path], tmp_path / "out")
    assert results["errors"]["background"]["count"] == 1
    assert results["errors"]["class"]["count"] == 1
    assert results["errors"]["missed"]["count"] == 0  # the cat is found, by another name
    assert set(results["thresholds"]) == {"cat", "dog"}
    assert results["worst_photos"] == [
        {"photo": "2.png", "errors": 2, "kinds": {"class": 1, "missed": 1}},
        {"photo": "0.png", "errors": 1, "kinds": {"background": 1}},
    ]
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (
        "Precision and recall",
        "F1 at each threshold",
        "<th>nothing there</th>",
        "0.png: found, 1 errors: 1 background",
        "2.png: found, 2 errors: 1 class, 1 missed",
    ):
        assert text in page
    assert "4.png" not in page  # nothing is wrong there
    assert run_task(TaskOptions(), None, [path], tmp_path / "out") == results


def test_photo_that_is_gone_and_no_page(toy, tmp_path):
    path, detector = toy
    detector.answers[1] = []
    run_task(TaskOptions(), detector, [path], tmp_path / "out")
    (path.parent / "1.png").write_bytes(b"no picture any more")
    results = run_task(TaskOptions(), None, [path], tmp_path / "out")
    assert "1.png is not a picture" in (tmp_path / "out" / "report.html").read_text()
    assert results["errors"]["missed"]["count"] == 1
    other = run_task(TaskOptions(report=False), detector, [path], tmp_path / "plain")
    assert "errors" not in other
    assert not (tmp_path / "plain" / "report.html").exists()


def test_pairs_of_many_classes(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("glip.evaluation.report.MATRIX", 1)
    path, detector = toy
    detector.answers[2] = [(detector.answers[2][0][0], 0.7, 1)]  # the cat is called a dog
    run_task(TaskOptions(), detector, [path], tmp_path / "out")
    row = '<td class="text">cat</td><td class="text">dog</td><td class="number">1</td>'
    assert row in (tmp_path / "out" / "report.html").read_text()


def test_drawn_curves_have_the_dot_on_them():
    score = np.linspace(0.9, 0.01, 20_000)  # nearly all of them wrong and unsure
    right = np.arange(len(score)) % 2 == 0
    right[40:] = False
    curve = curve_of(score, right, 25)
    drawn = report._thinned(curve)
    assert drawn.f1.max() == curve.f1.max()
    assert (drawn.recall < 0.8).sum() > 15  # of the twenty that are right, in 40 of 20,000
    assert len(drawn.threshold) < 310 and drawn.threshold[-1] == curve.threshold[-1]
    assert report._thinned(curve_of(score[:300], right[:300], 25)).threshold.shape == (300,)
