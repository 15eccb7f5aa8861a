"""Exported folders: the same detections without torch as with it, whatever the words and sizes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import glip
from glip.checkpoint import Weights, save
from glip.cli.main import main
from glip.detector import Detector
from glip.errors import CheckpointError, ExportError, PromptError
from glip.exporting.export import export
from glip.progress import Step
from glip.runtime.engine import GraphEngine
from glip.runtime.manifest import FILE, read_manifest
from glip.task_prompt import save_prompt
from glip.text.prompt import Prompt
from glip.training.words import as_table
from tests.exporting.conftest import assert_same, picture

pytest.importorskip("onnxscript", reason="writing graphs needs pip install 'glip[export]'")
pytest.importorskip("onnxruntime", reason="running graphs needs pip install 'glip[onnx]'")
pytestmark = pytest.mark.export

PROMPTS = [
    ["cat"],
    "a cat with long whiskers",
    "cat. ear. nose.",
    ["cat", "😀 cat", "t-shirt"],
    [f"thing number {number}" for number in range(200)],  # several passes
]
SIZES = [(320, 240), (120, 500), (33, 47), (640, 640), (1, 1)]

WITHOUT_TORCH = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "transformers"):
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Nowhere())
import glip
[found] = glip.load(sys.argv[1]).predict(sys.argv[2], ["cat", "ear"])
print(found.to_json())
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def nano() -> Detector:
    return glip.load(device="cpu")


@pytest.fixture(scope="module")
def folder(nano: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "nano"
    export(nano, out)
    return out


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_detections_are_those_of_torch(
    nano: Detector, folder: Path, prompt: str | list[str], size: tuple[int, int]
) -> None:
    exported = glip.load(folder)
    [expected] = nano.predict(picture(size), prompt, threshold=0.2)
    [found] = exported.predict(picture(size), prompt, threshold=0.2)
    assert_same(found, expected)


@pytest.mark.parametrize(
    "options", [{"exclusive": True}, {"aggregate": "max"}, {"max_detections": 3}]
)
def test_options_mean_the_same(nano: Detector, folder: Path, options: dict[str, object]) -> None:
    names = ["cat", "dog", "long whiskers"]
    [expected] = nano.predict(picture((320, 240)), names, threshold=0.2, **options)  # type: ignore[arg-type]
    [found] = glip.load(folder).predict(picture((320, 240)), names, threshold=0.2, **options)  # type: ignore[arg-type]
    assert len(found) > 0
    assert_same(found, expected)


def test_torch_is_not_imported(nano: Detector, folder: Path) -> None:
    photo = Path(__file__).parents[2] / "demo" / "images" / "chelsea.jpg"
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder), str(photo)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    [expected] = nano.predict(photo, ["cat", "ear"])
    assert '"phrase": "cat"' in said and said.count('"box"') == len(expected)


def test_words_may_be_baked_in(make_small: Callable[[], Detector], tmp_path: Path) -> None:
    detector = make_small()
    export(detector, tmp_path / "baked", classes=["red", "green"])
    assert not (tmp_path / "baked" / "text_encoder.onnx").exists()
    baked = glip.load(tmp_path / "baked")
    [expected] = detector.predict(picture((96, 96)), ["red", "green"], threshold=0.0)
    [found] = baked.predict(picture((96, 96)), threshold=0.0)
    assert_same(found, expected)
    with pytest.raises(PromptError, match="does not know 'blue'"):
        baked.predict(picture((96, 96)), ["blue"])
    with pytest.raises(ExportError, match="is an exported model, of which only predictions"):
        _ = baked.model


def test_one_size_takes_any_picture(make_small: Callable[[], Detector], tmp_path: Path) -> None:
    sides = np.array([96, 128])  # of numpy, as sides of arrays are
    export(make_small(), tmp_path / "fixed", size_hw=(sides[0], sides[1]))
    fixed = glip.load(tmp_path / "fixed")
    assert isinstance(fixed.engine, GraphEngine) and fixed.engine.manifest.size_hw == (96, 128)
    found = fixed.predict([picture((300, 50)), picture((20, 200))], ["red"], threshold=0.0)
    for one, (width, height) in zip(found, ((300, 50), (20, 200)), strict=True):
        assert len(one) > 0 and one.image_hw == (height, width)
        assert (one.boxes[:, 2] <= width).all() and (one.boxes[:, 3] <= height).all()


def test_half_the_bytes_give_nearly_the_same(
    make_small: Callable[[], Detector], tmp_path: Path
) -> None:
    for dtype in ("float32", "float16"):
        export(make_small(), tmp_path / dtype, dtype=dtype)
    sizes = [
        (tmp_path / dtype / "text_encoder.onnx").stat().st_size for dtype in ("float32", "float16")
    ]
    assert sizes[1] < 0.75 * sizes[0]
    found = [
        glip.load(tmp_path / dtype).predict(picture((96, 96)), ["red"], threshold=0.0)[0]
        for dtype in ("float32", "float16")
    ]
    np.testing.assert_allclose(found[0].scores[:5], found[1].scores[:5], atol=0.02)


def test_files_that_are_not_whole_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        glip.load(tmp_path)
    (tmp_path / FILE).write_bytes((folder / FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"image_encoder\.onnx is missing"):
        glip.load(tmp_path)
    for name in ("image_encoder.onnx", "text_encoder.onnx", "head.onnx"):
        (tmp_path / name).write_bytes(b"no graph")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(ExportError, match="cannot be read"):
        glip.load(tmp_path)
    assert read_manifest(folder).runtime == "onnx"


def saved(detector: Detector, path: Path) -> Path:
    """The weights of a detector, in a file."""
    path.parent.mkdir(exist_ok=True)
    save(path, Weights(detector.config, detector.model.state_dict()))
    return path


def test_the_function_writes_and_counts(make_small: Callable[[], Detector], tmp_path: Path) -> None:
    told: list[Step] = []
    weights = saved(make_small(), tmp_path / "weights" / "mine.safetensors")
    weights.with_name("MODEL_CARD.md").write_text("Use it.")
    result = glip.export(
        tmp_path / "out",
        weights=weights,
        classes=["red car", "cat"],
        progress=told.append,
    )
    assert result.folder == tmp_path / "out" and result["baked"] and result["dtype"] == "float32"
    assert result["files"] == {file.name: file.stat().st_size for file in result.folder.iterdir()}
    assert "MODEL_CARD.md" in str(result) and "head.onnx" in str(result)
    assert (told[-1].done, told[-1].total) == (2, 2)
    assert [*glip.load(result.folder).task.prompt.names] == ["red car", "cat"]  # type: ignore[union-attr]
    with pytest.raises(ExportError, match="is an exported model, of which only predictions"):
        glip.export(tmp_path / "again", weights=result.folder)


def test_a_learned_prompt_is_baked_in(
    make_small: Callable[[], Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = make_small()
    weights = saved(detector, tmp_path / "mine.safetensors")
    table = as_table(detector, Prompt.from_classes(["cat", "traffic light"]))
    noise = np.random.default_rng(0).normal(size=table.offsets.shape)
    task = table.learned(noise.astype(np.float32))
    save_prompt(tmp_path / "mine.prompt.safetensors", task)
    words = ["--weights", str(weights), "--task", str(tmp_path / "mine.prompt.safetensors")]
    assert main(["export", *words, "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "text_encoder" not in out and "words.prompt.safetensors" in out
    assert "run it with glip.load(" in err
    exported = glip.load(tmp_path / "out")
    [expected] = detector.with_prompt(task).predict(picture((96, 96)), threshold=0.0)
    [found] = exported.predict(picture((96, 96)), threshold=0.0)
    assert_same(found, expected)
    with pytest.raises(CheckpointError, match="whose words cannot be replaced; bake the prompt in"):
        glip.load(tmp_path / "out", prompt=tmp_path / "mine.prompt.safetensors")


def test_a_swin_takes_any_size(tiny_detector: Detector, tmp_path: Path) -> None:
    export(tiny_detector, tmp_path / "swin", classes=["cat", "red car"])
    exported = glip.load(tmp_path / "swin")
    for size in ((160, 120), (90, 200), (224, 224)):
        [expected] = tiny_detector.predict(picture(size), ["cat", "red car"], threshold=0.0)
        [found] = exported.predict(picture(size), threshold=0.0)
        assert len(found) > 0
        assert_same(found, expected)
