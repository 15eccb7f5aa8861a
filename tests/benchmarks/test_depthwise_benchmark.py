"""The benchmark of depthwise convolutions runs both ways."""

from depthwise import main


def test_measures_both_ways() -> None:
    best = main(["--size", "64x64", "--batch", "1", "--repeats", "1"])
    assert best.keys() == {"ours", "torch"} and min(best.values()) > 0
