"""Boxes from class activation maps, on a classifier made by hand that sees red."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    import nano_boxes

    return nano_boxes


class SeesRed(nn.Module):
    """Two classes: "something red", seen where it is, and "nothing", which never wins."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]))
            self.head.bias.copy_(torch.tensor([0.0, -100.0]))

    def forward_features(self, pixels: Tensor) -> Tensor:
        return F.avg_pool2d((pixels + 1) / 2, 32)  # 0 to 1

    def forward_head(self, features: Tensor) -> Tensor:
        return self.head(features.mean((2, 3)))

    def get_classifier(self) -> nn.Linear:
        return self.head


def scene(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = (300, 200)) -> Image.Image:
    image = Image.new("RGB", size, "black")
    image.paste((255, 0, 0), (x1, y1, x2, y2))
    return image


def test_the_box_surrounds_what_decides(tool) -> None:
    box = tool.activation_box(SeesRed(), scene(150, 50, 250, 150), 288)
    assert np.allclose(box, (150, 50, 250, 150), atol=20)  # a cell is some 22 pixels


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 300, 200), (0, 0, 12, 12)])
def test_nothing_everything_and_details_give_no_box(tool, box: tuple[int, int, int, int]) -> None:
    assert tool.activation_box(SeesRed(), scene(*box), 288) is None


def data(folder: Path) -> Path:
    (folder / "images").mkdir()
    rows = []
    for number, (label, box) in enumerate(
        [("lamp", (150, 50, 250, 150)), ("jet", (20, 20, 120, 120)), ("anchor", (0, 0, 0, 0))], 1
    ):
        scene(*box).save(folder / f"images/{number}.png")
        row = {"id": number, "file_name": f"images/{number}.png", "width": 300, "height": 200}
        rows.append({**row, "label": label, "source": "drawn"})
    path = folder / "captions.json"
    path.write_text(json.dumps({"images": rows, "annotations": []}))
    return path


def test_file_holds_boxed_pictures_and_the_names_that_may_be_used(
    tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, output = data(tmp_path), tmp_path / "boxed.json"
    (tmp_path / "kept.json").write_text('{"airplane": "jet"}')
    monkeypatch.setattr(tool, "classifier", lambda name, path: SeesRed())
    arguments = f"--captions {captions} --classifier any.pth --output {output}"
    arguments += f" --leave-out {tmp_path / 'kept.json'}"
    monkeypatch.setattr(sys, "argv", ["nano_boxes.py", *arguments.split()])
    assert tool.main() == 0
    written = json.loads(output.read_text())
    assert [image["id"] for image in written["images"]] == [1]
    assert [category["name"] for category in written["categories"]] == ["anchor", "lamp"]
    [found] = written["annotations"]
    assert (found["image_id"], found["category_id"]) == (1, 2)
    assert np.allclose(found["bbox"], (150, 50, 100, 100), atol=25)
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_of_another_classifier_is_refused(
    tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    arguments = f"--captions {data(tmp_path)} --classifier {tmp_path / 'other.pth'} --output x.json"
    monkeypatch.setattr(sys, "argv", ["nano_boxes.py", *arguments.split()])
    assert tool.main() == 2
    assert "does not hold a tf_efficientnet_lite2" in capsys.readouterr().err


def test_tensors_are_taken_in_their_order(tool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    renamed = {f"t{row}": tensor for row, tensor in enumerate(source.state_dict().values())}
    torch.save(renamed, tmp_path / "renamed.pth")
    loaded = tool.classifier("tf_efficientnet_lite0", tmp_path / "renamed.pth")
    for name, tensor in source.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
