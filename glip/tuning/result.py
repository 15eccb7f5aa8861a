"""What a tuning result says to people: a few lines, and a page beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glip.report.page import per_cent
from glip.report.run import SamplePicture, write_report
from glip.training.record import read_records


def in_words(result: Mapping[str, Any]) -> dict[str, str]:
    """A result as short texts by their names, numbers in per cent."""
    selection = result["selection"]
    boxes = sum(selection["boxes"].values())
    words = {"learned from": f"{len(selection['image_ids'])} pictures, {boxes} boxes"}
    if result["base"] is not None:
        for metric in ("AP", "AP50"):
            words[metric] = _change(result["base"], result["tuned"], metric)
        if (limit := result["settings"]["limit"]) is not None:
            words["on"] = f"the first {limit} pictures only"
        if (result["tuned"]["AP"] or 0.0) < (result["base"]["AP"] or 0.0):
            words["advice"] = (
                "the base model is better on these pictures: keep it, or try other rates"
            )
    if len(result["lr"]["tried"]) > 1:
        tried = (f"{rate}: {per_cent(ap)}" for rate, ap in result["lr"]["tried"].items())
        words["rates"] = f"{', '.join(tried)}; {result['lr']['chosen']:g} is kept"
    if "retention" in result:
        words["other words"] = _change(result["retention"]["base"], result["retention"]["tuned"])
    for row in result["interpolated"]:
        kept = row.get("retention")
        other = f", other words {per_cent(kept['AP'])}" if kept else ""
        tuned = "-" if row["tuned"] is None else per_cent(row["tuned"]["AP"])
        words[f"share {row['share']:g}"] = tuned + other
    return words


def write_page(output: Path, result: Mapping[str, Any], pictures: Sequence[SamplePicture]) -> None:
    """Write `report.html`: what was won and lost, the curves of the run that was kept, pictures.

    Args:
        output: Folder of the result.
        result: What `result.json` will hold.
        pictures: With what the tuned model finds on them.
    """
    settings = result["settings"]
    tuned = result["tuned"] or {"per_class": {}}
    write_report(
        output / "report.html",
        read_records(output / f"lr_{result['lr']['chosen']:g}"),
        title=f"{Path(settings['data']).name}: {settings['mode']}",
        summary=in_words(result),
        metrics={name: value for name, value in tuned.items() if name != "per_class"},
        per_class=tuned["per_class"],
        pictures=pictures,
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
    )


def _change(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, metric: str = "AP"
) -> str:
    values = (per_cent(None if one is None else one[metric]) for one in (before, after))
    return "{} before, {} after".format(*values)
