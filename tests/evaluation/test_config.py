"""What a run is told to evaluate on."""

from typing import get_args

import pytest

from glip.errors import ConfigError
from glip.evaluation.config import METRICS, EvaluationConfig, Task, TaskOptions


@pytest.mark.parametrize("task", [task for task in get_args(Task) if task in METRICS])
def test_every_metric_of_a_task_may_decide_also_that_of_a_part(task):
    for metric in METRICS[task]:
        assert EvaluationConfig("a.json", task=task, metric=metric).metric == metric
        EvaluationConfig("a.json", task=task, metric=f"people/{metric}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metric": "mAP"}, "coco has no 'mAP'; it has AP, AP50"),
        ({"metric": "people/mAP"}, "coco has no 'people/mAP'"),
        ({"task": "flickr", "metric": "AP"}, "flickr has no 'AP'"),
        ({"limit": 0}, "evaluation.limit must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig("a.json", **values)


def test_other_words_are_of_a_name_in_either_unicode_form():
    assert TaskOptions(wordings={"cafe\u0301": "bar"}).wordings == {"caf\u00e9": "bar"}
