"""The tutorial of docs/labelling.md, command by command, on drawn photos and with a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


def tutorial() -> list[str]:
    """The commands, in order."""
    pieces = (
        (REPOSITORY / "docs" / "labelling.md")
        .read_text(encoding="utf-8")
        .split("<!-- tutorial -->")
    )
    return [piece.split("```bash\n", 1)[1].split("```", 1)[0] for piece in pieces[1:]]


def raccoons(folder: Path, make_picture: Callable[..., Image.Image]) -> None:
    """A data set of the same layout as the real one."""
    (folder / "images").mkdir(parents=True)
    numbers = {"train": range(6), "val": range(6, 9)}
    for part, members in numbers.items():
        images, annotations = [], []
        for number in members:
            name = f"images/raccoon-{number}.jpg"
            make_picture(120, 90, seed=number).save(folder / name)
            images.append({"id": number, "file_name": name, "width": 120, "height": 90})
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": [20, 10, 60, 50]}
            )
        categories = [{"id": 1, "name": "raccoon"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(content))
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(folder / "images", "images")
    shutil.rmtree(folder / "images")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are for a shell")
def test_the_tutorial_runs_as_it_stands(
    tiny_file: Path, tmp_path: Path, make_picture: Callable[..., Image.Image]
) -> None:
    raccoons(tmp_path / "datasets" / "odinw" / "raccoon", make_picture)
    shutil.copy(tiny_file, tmp_path / "glip_nano.safetensors")
    (tmp_path / "demo").symlink_to(REPOSITORY / "demo")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # as for all tests: see `one_thread`
    }
    commands = tutorial()
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    labels = json.loads((tmp_path / "raccoon/labelled/coco/annotations.json").read_text())
    assert [image["file_name"] for image in labels["images"]] == [
        f"images/raccoon-{number}.jpg" for number in range(6)
    ]
    for run in ("from_model", "from_people"):
        results = json.loads((tmp_path / "raccoon" / run / "results.json").read_text())
        assert 0 <= results["AP"] <= 1
