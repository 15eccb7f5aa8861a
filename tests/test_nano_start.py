"""The start of glip_nano from made-up parts, and the config that trains it."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from glip.checkpoint import assemble, read
from glip.config import BackboneConfig, HeadConfig, ModelConfig, TextConfig
from glip.errors import CheckpointError, ConfigError
from glip.model.presets import PRESETS, build_empty, preset
from glip.text.prompt import clean_name
from glip.training.freezing import freeze
from glip.training.run_config import read_run

ROOT = Path(__file__).parents[1]
BERT = {
    "vocab_size": 50,
    "hidden_size": 12,
    "num_attention_heads": 12,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
}
TOY = ModelConfig(
    name="glip_nano",
    backbone=BackboneConfig("tf_efficientnet_lite0", drop_path=0.0),
    text=TextConfig(options={**BERT, "num_hidden_layers": 1}, max_tokens=8),
    head=HeadConfig(
        channels=16, blocks=1, fusion_heads=2, fusion_dim=8, text_layer_dim=8, group_norm_groups=4
    ),
)


@pytest.fixture(scope="module")
def tool():
    import nano_start

    return nano_start


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    return timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()


@pytest.fixture
def image_part(classifier):
    """The classifier's tensors, all operations called otherwise, as in the package."""
    return {
        f"_op{number}.{name.rpartition('.')[2]}": tensor
        for number, (name, tensor) in enumerate(classifier.state_dict().items())
    }


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(2)
    return AutoModel.from_config(AutoConfig.for_model("bert", **BERT, num_hidden_layers=2)).eval()


def test_both_encoders_are_the_given_ones(tool, classifier, image_part, bert):
    model = assemble(tool.start(TOY, image_part, bert.state_dict()))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = classifier.forward_intermediates(pixels, intermediates_only=True)
        for own, theirs in zip(model.backbone(pixels), maps[-3:], strict=True):
            torch.testing.assert_close(own, theirs)
        ids = torch.tensor([[2, 7, 3]])
        first_layer = bert(ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(
            model.text.model(ids, torch.ones_like(ids, dtype=torch.bool)), first_layer
        )


def test_seed_decides_the_rest(tool, image_part, bert):
    states = [
        tool.start(TOY, image_part, bert.state_dict(), seed=seed).state["neck.p6.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image, text: image.pop(next(iter(image))), "is expected"),
        (lambda image, text: image.update({next(iter(image)): torch.zeros(2)}), r"have \(2,\)"),
        (
            lambda image, text: text.pop("embeddings.LayerNorm.weight"),
            r"fits text\.model\.embeddings\.LayerNorm",
        ),
        (lambda image, text: image.clear(), "nothing .* backbone"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tool, image_part, bert, change, message):
    image, text = dict(image_part), dict(bert.state_dict())
    change(image, text)
    with pytest.raises(CheckpointError, match=message):
        tool.start(TOY, image, text)


def test_command(tool, image_part, bert, tmp_path, monkeypatch, capsys):
    torch.save(image_part, tmp_path / "image.pth")
    save_file(bert.state_dict(), tmp_path / "text.safetensors")
    monkeypatch.setitem(PRESETS, "glip_nano", TOY)
    command = ["nano_start.py", "--backbone", str(tmp_path / "image.pth")]
    command += ["--text", str(tmp_path / "text.safetensors"), "--output"]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "start.safetensors")])
    assert tool.main() == 0
    assert read(tmp_path / "start.safetensors").config == TOY
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "off.safetensors"), "--no-fusion"])
    assert tool.main() == 0
    assert not assemble(read(tmp_path / "off.safetensors")).head.fused
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "no" / "start.safetensors")])
    assert tool.main() == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_other_parts(tool):
    config = tool.overridden(
        "glip_nano", ["model.text.options.num_hidden_layers=2", "model.backbone.name=resnet18"]
    )
    assert config.backbone.name == "resnet18" and config.text.options["num_hidden_layers"] == 2
    assert config.head == preset("glip_nano").head and config.name == "glip_nano_changed"
    assert tool.overridden("glip_nano", []) == preset("glip_nano")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=5", "not of the model"),
        ("model.backbone.nam=x", "backbone"),
        ("model.backbone", "a.b=value"),
    ],
)
def test_other_parts_that_are_none(tool, override, message):
    with pytest.raises(ConfigError, match=message):
        tool.overridden("glip_nano", [override])


def test_nano_normalises_as_its_image_encoder_was_trained():
    # The package trains with (pixel - 127) / 128, not with ImageNet's statistics.
    pixels = preset("glip_nano").pixels
    assert (set(pixels.mean), set(pixels.std), pixels.order) == ({127.0}, {128.0}, "rgb")


@pytest.mark.parametrize(
    "name",
    [
        "nano.yaml",
        "nano_sharp.yaml",
        "nano_everyday.yaml",
        "nano_asked.yaml",
        "nano_words.yaml",
        "nano_near.yaml",
        "nano_settle.yaml",
        "nano_agreed.yaml",
        "nano_fine.yaml",
        "nano_again.yaml",
        "nano_largest.yaml",
    ],
)
def test_nano_config_is_valid_and_keeps_words_for_evaluation(name):
    config = read_run(ROOT / "configs" / "nano" / name)
    freeze(build_empty(preset("glip_nano")), config.freeze)
    trained = {
        clean_name(word)
        for source in config.data.sources
        for words in source.sampling.wordings.values()
        for word in words
    }
    held_out = json.loads((ROOT / "configs" / "nano" / "held_out_wordings.json").read_text())
    assert not trained & set(held_out.values())
    assert not set(held_out) & set(held_out.values())
