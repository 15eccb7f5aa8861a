"""A model small enough for any machine, its files in both formats, and drawn pictures.

Its weights are random, but seeded and loud: detections exist at every usual threshold, their scores
differ from phrase to phrase, and boxes differ from the anchors they came from.
"""

from __future__ import annotations

import os

# Kernels run on a CPU, unless one asks for a GPU with TRITON_INTERPRET=0. Triton reads it when it
# is first imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glip.checkpoint import Weights, save
from glip.config import ModelConfig
from glip.convert import to_official
from glip.detector import Detector
from glip.engine import Engine
from glip.model.glip import GLIP
from glip.model.presets import build
from glip.text.tokenizer import Tokenizer
from tests.toy import TINY

pytest_plugins = ["tests.margins"]

MakePicture = Callable[..., Image.Image]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds weights that happen to lie on this machine, or asks the network for them."""
    nowhere = str(tmp_path_factory.getbasetemp() / "no-weights-here")
    monkeypatch.setenv("GLIP_HOME", nowhere)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", nowhere)
    monkeypatch.delenv("GLIP_MAX_PIXELS", raising=False)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: on a model this small more save nothing, and on busy machines cost a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Ctrl-C interrupts, also where the tests run in the background and a shell has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """The model that finds things without having learned any."""
    return TINY


@pytest.fixture(scope="session")
def make_tiny_model(tiny_config: ModelConfig) -> Callable[[], GLIP]:
    """Makes fresh copies of one model of seeded weights, for tests that change theirs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(tiny_config)
        with torch.no_grad():
            outputs = model.head.outputs
            outputs.log_scale.fill_(-2.0)
            outputs.word_bias.normal_(std=1.0)
            outputs.bias.fill_(-0.5)
            outputs.deltas.weight.normal_(std=0.4)
            outputs.centerness.weight.normal_(std=0.2)
            outputs.centerness.bias.fill_(1.0)
            outputs.scales.copy_(torch.tensor([0.5, 0.75, 1.0, 1.25, 1.5]))
    state = model.state_dict()

    def make() -> GLIP:
        with torch.random.fork_rng(devices=[]):
            copy = build(tiny_config)
        copy.load_state_dict(state)
        return copy

    return make


@pytest.fixture(scope="session")
def tiny_detector(make_tiny_model: Callable[[], GLIP], tiny_config: ModelConfig) -> Detector:
    """A detector that finds something; shared by all tests, so do not change its weights."""
    return Detector(Engine(make_tiny_model(), tiny_config, Tokenizer.bert_uncased()))


@pytest.fixture(scope="session")
def tiny_weights(tiny_detector: Detector) -> Weights:
    """The weights of `tiny_detector`; do not write into the tensors."""
    return Weights(tiny_detector.config, tiny_detector.model.state_dict())


@pytest.fixture(scope="session")
def tiny_file(tiny_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_weights` in our format; read only."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, tiny_weights)
    return path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_file: Path) -> Path:
    """An empty folder to work in as a reader of the docs, where "glip_nano" is the tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    shutil.copy(tiny_file, tmp_path / "weights" / "glip_nano.safetensors")
    return tmp_path


@pytest.fixture(scope="session")
def tiny_official_state(tiny_weights: Weights) -> dict[str, Tensor]:
    """`tiny_weights` under official names, with the official keys that have no effect."""
    return {
        **to_official(tiny_weights.state),
        "rpn.head.cls_logits.weight": torch.zeros(80, 32, 1, 1),
        "rpn.head.cls_logits.bias": torch.zeros(80),
        "rpn.anchor_generator.cell_anchors.0": torch.zeros(1, 4),
        "backbone.body.layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49).long(),
    }


@pytest.fixture(scope="session")
def tiny_official_checkpoint(
    tiny_official_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The official trainer's file of `tiny_weights`; read only.

    Loading it needs `recognise_tiny`, as only the released sizes are recognised.
    """
    path = tmp_path_factory.mktemp("weights") / "official.pth"
    content = {
        "model": {f"module.{key}": tensor for key, tensor in tiny_official_state.items()},
        "model_ema": {f"module.{key}": tensor + 1 for key, tensor in tiny_official_state.items()},
        "iteration": 1,
    }
    torch.save(content, path)
    return path


@pytest.fixture
def recognise_tiny(monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig) -> None:
    """Official checkpoints of any size count as those of the tiny model."""
    monkeypatch.setattr("glip.checkpoint.recognise", lambda shapes: tiny_config.name)
    monkeypatch.setattr("glip.checkpoint.preset", lambda name: tiny_config)


@pytest.fixture(scope="session")
def make_picture() -> MakePicture:
    """Draws a picture of smooth colours, another one for each seed."""

    def make(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
        noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)

    return make
