"""Curves of the three evaluators."""

from importlib.util import find_spec

import numpy as np
import pytest

from glip.errors import ConfigError
from glip.evaluation.average_precision import (
    MODULES,
    Detected,
    choose_backend,
    curves,
    mean_precision,
)
from glip.evaluation.coco import detected_of, parts_of, truth_of

INSTALLED = [name for name, module in MODULES.items() if find_spec(module)]


@pytest.mark.parametrize("backend", [name for name in INSTALLED if name != "pycocotools"])
@pytest.mark.parametrize("limits", [(1, 10, 100), (10**9,)])
@pytest.mark.parametrize("seed", range(4))
def test_every_backend_gives_the_curves_of_pycocotools(random_case, backend, limits, seed):
    data, predictions, _ = random_case(seed)
    [part] = parts_of(data)
    truth = truth_of(part)
    found = detected_of(part, data, {p.image_id: p for p in predictions})
    expected = curves(truth, found, limits=limits, backend="pycocotools")
    got = curves(truth, found, limits=limits, backend=backend)
    np.testing.assert_allclose(got.precision, expected.precision, atol=1e-12)
    np.testing.assert_allclose(got.recall, expected.recall, atol=1e-12)


@pytest.mark.parametrize("backend", INSTALLED)
def test_nothing_found_is_zero_where_something_is(random_case, backend):
    data, _, _ = random_case(0)
    [part] = parts_of(data)
    truth = truth_of(part)
    none = Detected(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    nothing = curves(truth, none, backend=backend)
    useless = Detected(
        np.array([0]), np.array([0]), np.array([[900.0, 900, 1, 1]]), np.array([0.5])
    )
    expected = curves(truth, useless, backend=backend)
    np.testing.assert_array_equal(nothing.precision, expected.precision)
    np.testing.assert_array_equal(nothing.recall, expected.recall)


def test_mean_leaves_out_what_is_not_there():
    precision = np.array([[[0.5, -1.0, 1.0]]])
    assert mean_precision(precision) == 0.75
    assert mean_precision(precision, np.array([True, True, False])) == 0.5
    assert np.isnan(mean_precision(precision[..., 1:2]))


def test_backend_that_is_unknown_or_not_installed(monkeypatch):
    with pytest.raises(ConfigError, match="backend 'x' is not one of hotcoco"):
        choose_backend("x")
    monkeypatch.setattr("glip.evaluation.average_precision.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the package pycocotools: pip install it"):
        choose_backend("pycocotools")
    with pytest.raises(ConfigError, match="hotcoco or pycocotools"):
        choose_backend()
