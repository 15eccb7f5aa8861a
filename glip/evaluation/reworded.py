"""The same classes asked for in other words: what is kept of the average precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from glip.data.packed import Packed
from glip.data.records import DetectionData
from glip.errors import ConfigError
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.results import json_numbers, read_results, write_results
from glip.settings import nearest

REWORDED = "reworded"
"""Folder of an evaluation in other words."""


def reworded_part(data: DetectionData, wordings: Mapping[str, str]) -> DetectionData:
    """The pictures whose vocabulary has a class that is to be asked for in other words.

    Raises:
        ConfigError: A name that is no class of the data.
    """
    for name in wordings:
        if name not in data.names:
            way_out = nearest(name, data.names, else_="leave it out")
            raise ConfigError(f"wordings: '{name}' is no class of {data.path}; {way_out}")
    rows = {row for row, name in enumerate(data.names) if name in wordings}
    return replace(
        data, records=Packed(r for r in data.records if not rows.isdisjoint(data.vocabulary(r)))
    )


def add_reworded(
    output: Path, wordings: Mapping[str, str], named: CocoEvaluator, worded: CocoEvaluator
) -> None:
    """Both numbers of the classes concerned, into the results of the first evaluation."""
    other = read_results(output / REWORDED)
    results = {
        **read_results(output),
        "reworded": {
            "wordings": dict(wordings),
            "by_name": json_numbers(named.of_classes(wordings)),
            "by_wording": json_numbers(worded.of_classes(wordings)),
            "metrics": other["metrics"],
            "results": f"{REWORDED}/results.json",
        },
    }
    write_results(output, results)
