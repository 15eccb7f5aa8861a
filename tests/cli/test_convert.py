"""`glip convert`: official weights into a file of ours."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from glip.checkpoint import read
from glip.cli.main import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written into the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("recognise_tiny")
def test_convert_reports_what_it_did(
    tiny_official_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(tiny_official_checkpoint), "out.safetensors"]) == 0
    out, _ = capsys.readouterr()
    assert "tiny_for_tests" in out and "1,992,975" in out and "8.0 MB" in out
    assert "4 keys without effect" in out and "rpn.head.cls_logits.bias" in out
    assert read("out.safetensors").config.name == "tiny_for_tests"


def test_convert_replaces_a_file_only_when_forced(
    tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Path("out.safetensors")
    target.touch()
    assert main(["convert", str(tiny_file), str(target)]) == 2
    assert "--force" in capsys.readouterr().err and target.stat().st_size == 0
    assert main(["convert", str(tiny_file), str(target), "--force", "--dtype", "float16"]) == 0
    assert read(target).state["neck.p6.bias"].dtype == torch.float16


@pytest.mark.parametrize(
    ("target", "message"),
    [("out.pth", "NAME.safetensors"), ("no/where/out.safetensors", "cannot write weights")],
)
def test_convert_names_a_target_that_cannot_be(
    tiny_file: Path, capsys: pytest.CaptureFixture[str], target: str, message: str
) -> None:
    assert main(["convert", str(tiny_file), target]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("recognise_tiny")
def test_convert_script_is_the_same_command(
    tiny_official_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).parents[2] / "tools" / "convert_checkpoint.py"
    argv = [str(script), str(tiny_official_checkpoint), "out.safetensors"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(script), run_name="__main__")
    assert caught.value.code == 0
    assert read("out.safetensors").config.name == "tiny_for_tests"


def test_convert_to_transformers(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tiny_file), "folder", "--to", "transformers"]) == 0
    assert "1,992,975" in capsys.readouterr().out
    assert read("folder").config.name == "tiny_for_tests"
    assert main(["convert", str(tiny_file), "folder", "--to", "transformers"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["convert", "folder", "back.safetensors"]) == 0
    assert main(["convert", str(tiny_file), "x.safetensors", "--to", "transformers"]) == 2
    assert "name it without .safetensors" in capsys.readouterr().err
