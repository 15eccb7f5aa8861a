"""`glip demo`: a server for this machine, and its page."""

from __future__ import annotations

import webbrowser

import pytest

from glip.cli import demo
from glip.cli.main import parser_of
from glip.serve.options import ServeOptions


@pytest.mark.parametrize(("words", "browser"), [([], True), (["--no-browser"], False)])
def test_the_page_is_opened_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch, words: list[str], browser: bool
) -> None:
    begun: list[tuple[ServeOptions, object]] = []

    def start(options: ServeOptions, *, opened: object) -> int:
        begun.append((options, opened))
        return 0

    monkeypatch.setattr(demo, "start", start)
    words = [*words, "--weights", "glip_tiny", "--device", "cpu"]
    assert demo.run(parser_of("demo").parse_args(words)) == 0
    [(options, opened)] = begun
    assert options == ServeOptions(weights="glip_tiny", devices=("cpu",), port=0)
    assert options.host == "127.0.0.1"
    assert opened is (webbrowser.open if browser else None)
