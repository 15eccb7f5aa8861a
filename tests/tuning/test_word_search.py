"""A search for the words of each class, and the thresholds that go with them."""

import pytest
import torch

from glip.cli.prompts import trials_table
from glip.data.formats.recognise import read_annotated
from glip.detector import load
from glip.tuning.word_search import Photos, count_trials, fit_thresholds, search
from glip.tuning.wording import Wordings, worded

pytestmark = pytest.mark.whole

OFFERED = Wordings(
    templates=("a photo of a {}",),
    classes={"red square": ["crimson box"]},
    knowledge={"green square": "a shape with four equal sides"},
    negatives=("grey wall",),
)


@pytest.fixture(scope="module")
def found(squares, calm_file):
    annotated = read_annotated(squares / "train.json")
    detector = load(calm_file, device="cpu")
    told = []
    photos = Photos(detector, annotated.data, annotated.pictures)
    return search(photos, OFFERED, progress=told.append), photos, told


def test_search_keeps_what_is_better_than_all_before(found):
    result, photos, told = found
    best = -1.0
    for trial in result.trials:
        assert trial.kept == (trial.ap > best)
        best = max(best, trial.ap)
    assert result.trials[0].what == "names"
    assert len(result.trials) == len(told) - 1 <= count_trials(OFFERED, photos.data.names)
    assert photos.measure(worded(photos.detector, result.said))[0] == pytest.approx(best)


def test_words_that_are_too_long_are_left_out_and_the_search_goes_on(found, caplog):
    photos = found[1]
    long = Wordings(knowledge={"red square": "a " * 300}, classes={"red square": ["crimson box"]})
    trials = search(photos, long).trials
    left_out = [trial for trial in trials if trial.ap is None]
    assert left_out[0].what.startswith("red square: '[red square]: a a")
    assert not any(trial.kept for trial in left_out) and len(trials) > len(left_out)
    assert "is left out: 2 classes need 2 passes" in caplog.text or "tokens" in caplog.text
    assert "left out, too long" in trials_table(search(photos, long))


def test_search_is_written_down(found):
    content = found[0].to_dict()
    assert [trial["what"] for trial in content["trials"]][:2] == [
        "names",
        "template 'a photo of a {}'",
    ]
    assert set(content["thresholds"]) == {"red square", "green square"}
    assert set(content["best"]) == {"wordings", "template", "negatives", "ensemble"}


def test_thresholds_have_the_best_f1(found):
    photos = found[1]
    task = found[0].task
    detections = photos.detections(task)
    limits = fit_thresholds(detections, 2)

    def f1(row, limit):
        from glip.tuning.word_search import _matched

        hits = total = count = 0
        for record, some in detections:
            own = some[(some.phrase_ids == row) & (some.scores > limit)]
            truth = torch.from_numpy(record.boxes[record.labels == row]).float()
            hits += sum(_matched(torch.from_numpy(own.boxes), truth))
            count += len(own)
            total += len(truth)
        return 2 * hits / (count + total)

    for row, limit in enumerate(limits):
        assert f1(row, limit) >= max(f1(row, other / 20) for other in range(20)) - 1e-9


def test_class_without_boxes_keeps_the_usual_threshold():
    assert fit_thresholds([], 2) == (0.3, 0.3)
