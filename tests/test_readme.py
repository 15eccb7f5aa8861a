"""What the README tells people to type works, on a tiny model in place of the named ones.

The two set-up commands are run whole by continuous integration; here their last part is.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glip.cli import main as cli
from tests.pages import ROOT, blocks, commands, run_command

pytestmark = pytest.mark.whole

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks(ROOT / "README.md")
COMMANDS = [
    line
    for block in BLOCKS
    if block.kind == "bash" and not block.mark
    for line in commands(block.text)
]
SNIPPETS = [block.text for block in BLOCKS if block.kind == "python"]


@pytest.fixture
def clone(
    desk: Path,
    tiny_file: Path,
    tiny_official_checkpoint: Path,
    recognise_tiny: None,
    make_picture: Callable[..., Image.Image],
) -> Path:
    """A folder with all files that the README's commands name."""
    shutil.copy(tiny_file, "weights/glip_tiny.safetensors")
    Path("runs/mine").mkdir(parents=True)  # what a run leaves
    shutil.copy(tiny_file, "runs/mine/model_final.safetensors")
    shutil.copy(tiny_official_checkpoint, "glip_tiny_model_o365_goldg_cc_sbu.pth")
    shutil.copytree(ROOT / "demo", "demo")
    for path in ("street.jpg", "holiday/beach.jpg", "holiday/hills.jpg", "photos/one.jpg"):
        Path(path).parent.mkdir(exist_ok=True)
        make_picture().save(path)
    image = {"id": 1, "file_name": "one.jpg", "width": 120, "height": 90}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40], "area": 2000}
    content = {
        "images": [image],
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    Path("train.json").write_text(json.dumps(content))
    captions = [{"id": 1, "image_id": 1, "caption": "a red square beside a grey wall"}]
    Path("captions.json").write_text(json.dumps({"images": [image], "annotations": captions}))
    Path("other_words.json").write_text('{"cat": "feline"}')
    return desk


def test_readme_has_both_set_up_commands() -> None:
    assert [block.mark for block in BLOCKS if block.mark] == ["command: run", "command: test"]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_the_readme(line: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line.startswith("glip ")
    run_command(line, monkeypatch)


def test_set_up_command_ends_in_a_detection(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLIP_HOME", str(clone / "nothing"))  # the packaged weights, then
    (run,) = (block.text for block in BLOCKS if block.mark == "command: run")
    demo = run.strip().split("&&")[-1]
    words = shlex.split(demo)
    assert words[:2] == [".venv/bin/python", "demo/predict.py"]
    assert cli.run_alone("predict", words[2:]) == 0
    assert re.search(r"^cat +0\.\d+", capsys.readouterr().out, re.MULTILINE)
    assert Path("chelsea.glip.jpg").exists()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_of_the_readme(snippet: str, clone: Path) -> None:
    exec(compile(snippet, "README.md", "exec"), {})
    assert Path("astronaut.found.jpg").exists()


def test_prompt_table_of_the_readme() -> None:
    rows = re.findall(r"^\| `(.+?)` \|", README.split("## Words")[1].split("##")[0], re.MULTILINE)
    names = {"glip": __import__("glip"), "text": "a man with a red umbrella"}
    for expression in rows:
        prompt = names["glip"].Prompt.of(eval(expression, names))
        assert len(prompt) >= 1


def test_json_of_the_readme_has_the_form_of_the_command(clone: Path) -> None:
    (shown,) = (block.text for block in BLOCKS if block.kind == "json")
    words = ["predict", "--image", "street.jpg", "--prompt", "person. traffic light."]
    assert cli.main([*words, "--threshold", "0", "--json", "found.json"]) == 0
    documented, written = json.loads(shown), json.loads(Path("found.json").read_text())
    assert list(documented) == list(written)
    assert set(documented["detections"][0]) <= set(written["detections"][0])


def test_models_of_the_readme_are_those_of_the_package() -> None:
    from glip.model.presets import PRESETS
    from glip.released import RELEASED

    table = README.split("## Models")[1].split("##")[0]
    rows = dict(re.findall(r"^\| `(\w+)` .*\| (.+?) \|$", table, re.MULTILINE))
    assert list(rows) == list(PRESETS)
    for name, released in RELEASED.items():
        if released.official:
            assert rows[name] == f"`{released.official}`"
