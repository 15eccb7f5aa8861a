"""Results and all that they depend on, as a file."""

import json
import math
import platform

from glip.evaluation.results import json_numbers, read_results, versions, write_results
from glip.version import __version__


def test_what_is_written_is_read(tmp_path):
    results = {"metrics": json_numbers({"AP": 0.5, "APs": math.nan}), "versions": versions()}
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == {
        "AP": 0.5,
        "APs": None,  # JSON has no NaN
    }


def test_versions_name_what_numbers_depend_on():
    found = versions()
    assert found["glip"] == __version__ and found["python"] == platform.python_version()
    assert {"torch", "timm", "transformers", "numpy", "pillow"} <= set(found)
