"""Results as text for a terminal.

Knows nothing about how numbers are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glip.report.page import per_cent


def results_table(results: Mapping[str, Any]) -> str:
    """Results as text, numbers in [0, 1] in per cent, and likely causes of a zero.

    A line for each number or, where some belong to a vocabulary or protocol ("coco/AP"), a line for
    each of those with its numbers side by side.
    """
    metrics: Mapping[str, float | None] = results["metrics"]
    lines = _grid(metrics) if any("/" in name for name in metrics) else _list(metrics)
    if results.get("reworded"):
        lines += ["", *_reworded(results["reworded"])]
    if results.get("unreadable"):
        lines.append(f"{len(results['unreadable'])} pictures could not be read, see results.json")
    if results.get("likely_causes"):
        lines.append("Nothing was right. Likely causes:")
        lines += [f"- {cause}" for cause in results["likely_causes"]]
    return "\n".join(lines)


def _list(metrics: Mapping[str, float | None]) -> list[str]:
    width = max(map(len, metrics))
    return [f"{name:<{width}}  {per_cent(value):>6}" for name, value in metrics.items()]


def _grid(metrics: Mapping[str, float | None]) -> list[str]:
    """A row for each part, the one of all parts last."""
    rows: dict[str, dict[str, float | None]] = {}
    for key, value in metrics.items():
        part, _, name = key.rpartition("/")
        rows.setdefault(part, {})[name] = value
    rows["all"] = rows.pop("", {})
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"  {name:>6}" for name in names)]
    for part, row in rows.items():
        cells = (f"  {per_cent(row.get(name)):>{max(6, len(name))}}" for name in names)
        lines.append(f"{part:<{width}}" + "".join(cells))
    return lines


def _reworded(reworded: Mapping[str, Any]) -> list[str]:
    """The classes that were asked for in other words, by their names and by those words."""
    before, after = reworded["by_name"], reworded["by_wording"]
    title = f"other words for {len(reworded['wordings'])} class(es)"
    lines = [title + "".join(f"  {name:>6}" for name in before)]
    for what, row in (("by their names", before), ("by the other words", after)):
        cells = "".join(f"  {per_cent(value):>6}" for value in row.values())
        lines.append(f"{what:<{len(title)}}{cells}")
    kept = (
        f"  {per_cent(after[name] / before[name] if before[name] else None):>6}" for name in before
    )
    return [*lines, f"{'kept':<{len(title)}}" + "".join(kept)]
