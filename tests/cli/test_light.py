"""Help and errors of the command line answer before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from glip.cli.main import COMMANDS

pytestmark = pytest.mark.whole

HEAVY = {"torch", "torchvision", "transformers", "timm", "numpy", "PIL", "tokenizers", "tqdm"}
SCRIPT = """
import json, sys
from glip.cli.main import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit:
    pass
print(json.dumps([*sys.modules]), file=sys.stderr)
"""
LINES = [
    [],
    ["--help"],
    ["--version"],
    ["frobnicate"],
    *([name, "--help"] for name in COMMANDS),
    *([name, "--frobnicate"] for name in COMMANDS),
    ["label", "--out", "out", "--format", "png"],
    ["evaluate", "--task", "coco"],
]


def test_nothing_heavy_is_imported() -> None:
    running = [
        (line, subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(line)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ))
        for line in LINES
    ]  # fmt: skip
    for line, process in running:
        _, err = process.communicate()
        modules = {name.partition(".")[0] for name in json.loads(err.splitlines()[-1])}
        assert not modules & HEAVY, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_the_table_of_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from glip.cli.main import main

    with pytest.raises(SystemExit):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert "exit codes:" in out and "143" in out and f"usage: glip {name}" in out


def test_python_dash_m_is_the_same_command() -> None:
    words = [sys.executable, "-m", "glip", "doctor", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: glip doctor")


def test_completion_knows_commands_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    from glip.cli.main import main

    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    out = capsys.readouterr().out
    assert "--retry-rejected" in out and "doctor" in out


def test_completion_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glip.cli.main import main

    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit):
        main(["--print-completion", "zsh"])
    assert "pip install 'glip[completion]'" in capsys.readouterr().err
