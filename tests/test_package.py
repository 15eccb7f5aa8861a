"""What is installed: the package with its data, nothing of the workshop, seen by type checkers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[1]
DATA = {
    "glip/py.typed",
    "glip/text/bert_uncased_vocab.txt",
    "glip/training/finetune.yaml",
    "glip/weights/MODEL_CARD.md",
    "glip/weights/glip_nano.safetensors",
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, as building leaves things behind; the weights are a stand-in."""
    folder = tmp_path_factory.mktemp("workshop") / "glip"
    left_out = shutil.ignore_patterns(".*", "shared", "*.egg-info", "build", "*.safetensors")
    shutil.copytree(ROOT, folder, ignore=left_out)
    (folder / "glip" / "weights" / "glip_nano.safetensors").touch()
    return folder


def build(workshop: Path, kind: str, output: Path) -> ZipFile:
    """A wheel of one kind: `build_wheel` or `build_editable`."""
    output.mkdir()
    script = f"import setuptools.build_meta as backend; backend.{kind}({str(output)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=workshop, check=True, capture_output=True)
    (wheel,) = output.glob("*.whl")
    return ZipFile(wheel)


def test_wheel_holds_the_package_and_nothing_else(workshop: Path, tmp_path: Path) -> None:
    names = set(build(workshop, "build_wheel", tmp_path / "wheel").namelist())
    installed = {name for name in names if ".dist-info/" not in name}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "glip").rglob("*.py")}
    assert installed >= code | DATA
    assert all(name.startswith("glip/") for name in installed)
    others = {Path(name).suffix for name in installed - code - DATA}
    assert others <= {
        ".txt",
        ".yaml",
        ".json",
        ".html",
        ".css",
        ".js",
        ".svg",
        ".jpg",
        ".md",
        ".tsv",
    }, "data that a user runs, of known kinds"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_editable_install_is_a_plain_path(workshop: Path, tmp_path: Path) -> None:
    with build(workshop, "build_editable", tmp_path / "editable") as wheel:
        (pth,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        assert Path(wheel.read(pth).decode().strip()) == workshop  # no import hook
