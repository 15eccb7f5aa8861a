"""Those of transformers' own common tests of models that apply, written for this model.

Their package has no tests, so the questions are theirs and the code is ours. What GLIP does not
have is not asked for: attention maps, hidden states, generation, tied or resized embeddings.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForZeroShotObjectDetection

from glip.checkpoint import Weights, read
from glip.config import BackboneConfig, TextConfig
from glip.errors import CheckpointError, ConfigError
from glip.hf import GlipConfig, GlipForObjectDetection
from glip.hf.modeling import head_output
from glip.model.text_encoder import Tokens
from tests.toy import TINY

NAMES = ["cat", "red dog"]


@pytest.fixture
def inputs(processor: Any, make_picture: Any) -> dict[str, Any]:
    return dict(processor([make_picture(), make_picture(seed=1)], NAMES))


@pytest.fixture
def labelled(processor: Any, make_picture: Any) -> dict[str, Any]:
    annotations = [
        {"boxes": [[10, 10, 60, 50]], "phrases": [1]},
        {"boxes": [[0, 0, 30, 40], [50, 20, 110, 80]], "phrases": [0, 1]},
    ]
    pictures = [make_picture(), make_picture(seed=1)]
    return dict(processor(pictures, NAMES, annotations))


def outputs(model: Any, inputs: dict[str, Any]) -> Any:
    with torch.no_grad():
        return model(**inputs)


def same(first: Any, second: Any, atol: float = 1e-5) -> None:
    """Equal but for rounding, which where numbers lie in memory may change."""
    for name in ("logits", "deltas", "centerness"):
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=atol)


def test_forward_signature(model: Any) -> None:
    names = list(inspect.signature(model.forward).parameters)
    assert names[:3] == ["pixel_values", "input_ids", "attention_mask"]
    assert "labels" in names and model.main_input_name == "pixel_values"


def test_it_is_the_same_model(model: Any, tiny_detector: Any, inputs: dict[str, Any]) -> None:
    ours = outputs(model, inputs)
    tokens = Tokens(inputs["input_ids"], inputs["attention_mask"].bool())
    with torch.no_grad():
        theirs = tiny_detector.model(inputs["pixel_values"], tokens)
    torch.testing.assert_close(ours.logits, theirs.logits)
    again = head_output(ours)
    torch.testing.assert_close(again.anchors, theirs.anchors)
    assert again.level_sizes == theirs.level_sizes


def test_save_and_load(model: Any, inputs: dict[str, Any], tmp_path: Path) -> None:
    before = outputs(model, inputs)
    model.save_pretrained(tmp_path)
    for kind in (GlipForObjectDetection, AutoModelForZeroShotObjectDetection, AutoModel):
        again = kind.from_pretrained(tmp_path)
        assert isinstance(again, GlipForObjectDetection) and not again.training
        same(before, outputs(again, inputs))
    _, info = GlipForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not info["mismatched_keys"]


def test_save_and_load_in_several_files(model: Any, inputs: dict[str, Any], tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="2MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same(outputs(model, inputs), outputs(GlipForObjectDetection.from_pretrained(tmp_path), inputs))
    assert read(tmp_path).config == TINY  # and our own reader takes them as well


def test_load_save_without_the_keys_that_are_left_out(model: Any) -> None:
    kept = set(model.state_dict())
    assert {f"glip.{name}" for name in model.glip.state_dict()} == kept
    assert not any("relative_position_index" in name for name in kept)


def test_a_new_model_differs_from_weights_and_trains_as_ours(inputs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    first = GlipForObjectDetection(GlipConfig(TINY)).eval()
    torch.manual_seed(0)
    second = GlipForObjectDetection._from_config(GlipConfig(TINY)).eval()
    third = AutoModelForZeroShotObjectDetection.from_config(GlipConfig(TINY))
    assert isinstance(third, GlipForObjectDetection)
    same(outputs(first, inputs), outputs(second, inputs))
    # Constructors' own numbers stay: nothing of transformers draws others over them.
    bias = first.glip.head.outputs.bias
    assert bias.item() == pytest.approx(-4.5951, abs=1e-3)


def test_determinism_and_batches(model: Any, inputs: dict[str, Any]) -> None:
    both = outputs(model, inputs)
    same(both, outputs(model, inputs))
    for row in range(2):
        alone = outputs(model, {**inputs, "pixel_values": inputs["pixel_values"][row : row + 1]})
        torch.testing.assert_close(both.logits[row], alone.logits[0], rtol=1e-4, atol=1e-4)


def test_tuples_are_dictionaries(model: Any, labelled: dict[str, Any]) -> None:
    as_dict = outputs(model, labelled)
    as_tuple = outputs(model, {**labelled, "return_dict": False})
    assert isinstance(as_tuple, tuple) and len(as_tuple) == len(as_dict.to_tuple())
    torch.testing.assert_close(as_tuple[0], as_dict.loss)
    torch.testing.assert_close(as_tuple[2], as_dict.logits)


def test_padding_of_texts_changes_nothing(model: Any, inputs: dict[str, Any]) -> None:
    longer = {
        **inputs,
        "input_ids": torch.nn.functional.pad(inputs["input_ids"], (0, 5)),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 5)),
    }
    short, long = outputs(model, inputs), outputs(model, longer)
    tokens = inputs["input_ids"].shape[1]
    torch.testing.assert_close(long.logits[..., :tokens], short.logits, rtol=1e-4, atol=1e-4)
    without = {k: v for k, v in inputs.items() if k != "attention_mask"}
    same(outputs(model, without), short)


def test_training(model: Any, labelled: dict[str, Any]) -> None:
    model.train()
    found = model(**labelled)
    assert set(found.loss_dict) == {"alignment", "box", "centerness"}
    torch.testing.assert_close(found.loss, sum(found.loss_dict.values()))
    found.loss.backward()
    trained = [name for name, p in model.named_parameters() if p.grad is not None]
    assert len(trained) > 0.9 * len(list(model.parameters()))
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_loss_falls(model: Any, labelled: dict[str, Any]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = model(**labelled).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_copies_and_parameters(model: Any, inputs: dict[str, Any]) -> None:
    same(outputs(model, inputs), outputs(copy.deepcopy(model), inputs))
    assert isinstance(model.get_input_embeddings(), torch.nn.Embedding)
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    assert model.device == torch.device("cpu") and model.dtype == torch.float32


def test_vocabularies_keep_their_size(model: Any) -> None:
    table = model.get_input_embeddings()
    assert model.resize_token_embeddings() is table
    assert model.resize_token_embeddings(table.num_embeddings) is table
    with pytest.raises(ConfigError, match="cannot have 5"):
        model.resize_token_embeddings(5)


def test_what_is_not_there_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"does not support .*checkpointing"):
        model.gradient_checkpointing_enable()


def test_plain_attention_is_asked_for(folder: Path, model: Any, inputs: dict[str, Any]) -> None:
    plain = GlipForObjectDetection.from_pretrained(folder, attn_implementation="eager")
    same(outputs(model, inputs), outputs(plain, inputs))


def test_text_encoders_of_transformers(make_picture: Any, tmp_path: Path) -> None:
    """One that is not written out by us: its constants have to survive loading as well."""
    options = {**TINY.text.options, "max_position_embeddings": 260, "vocab_size": 30522}
    config = replace(TINY, text=TextConfig("roberta", options, max_tokens=100))
    torch.manual_seed(0)
    model = GlipForObjectDetection(GlipConfig(config)).eval()
    inputs = {
        "pixel_values": torch.zeros(1, 3, 64, 64),
        "input_ids": torch.tensor([[0, 5, 6, 2]]),
    }
    model.save_pretrained(tmp_path)
    again = GlipForObjectDetection.from_pretrained(tmp_path)
    same(outputs(model, inputs), outputs(again, inputs))


def test_any_backbone_of_timm(tmp_path: Path) -> None:
    backbone = BackboneConfig("resnet18", 0.0)
    model = GlipForObjectDetection(GlipConfig(replace(TINY, backbone=backbone))).eval()
    inputs = {
        "pixel_values": torch.rand(1, 3, 64, 64),
        "input_ids": torch.tensor([[101, 4937, 102]]),
    }
    model.save_pretrained(tmp_path)
    again = GlipForObjectDetection.from_pretrained(tmp_path)
    same(outputs(model, inputs), outputs(again, inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_number_formats(
    dtype: torch.dtype, model: Any, folder: Path, inputs: dict[str, Any]
) -> None:
    rounded = GlipForObjectDetection.from_pretrained(folder, torch_dtype=dtype)
    assert next(rounded.glip.backbone.parameters()).dtype == dtype
    exact, rough = outputs(model, inputs), outputs(rounded, inputs)
    assert rough.logits.dtype == torch.float32
    assert (exact.logits.sigmoid() - rough.logits.sigmoid()).abs().mean() < 0.02
    cast = outputs(copy.deepcopy(model).to(dtype), inputs)  # also when cast afterwards
    assert cast.logits.isfinite().all()


def test_a_device_map(folder: Path, model: Any, inputs: dict[str, Any]) -> None:
    pytest.importorskip("accelerate")
    placed = GlipForObjectDetection.from_pretrained(folder, device_map="auto")
    assert len({p.device for p in placed.parameters()}) == 1  # its parts meet in every block
    on = {name: value.to(placed.device) for name, value in inputs.items()}
    same(outputs(model, inputs), outputs(placed, on), atol=1e-3)


def test_constants_survive_loading(folder: Path, model: Any) -> None:
    again = GlipForObjectDetection.from_pretrained(folder)
    for name, buffer in model.glip.named_buffers():
        assert torch.equal(again.glip.get_buffer(name), buffer), name


def test_missing_weights_are_said(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if ".outputs." not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"lacks weights of a tiny_for_tests: glip\.head"):
        GlipForObjectDetection.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pixel_values": torch.zeros(1, 3, 60, 64)}, "multiples of 32"),
        ({"pixel_values": torch.zeros(3, 64, 64)}, r"not \(B, 3, H, W\)"),
        ({"pixel_values": torch.zeros(1, 1, 64, 64)}, r"not \(B, 3, H, W\)"),
        ({"input_ids": torch.zeros(5, dtype=torch.long)}, r"not \(B, T\)"),
        ({"input_ids": torch.zeros(3, 5, dtype=torch.long)}, "for 2 pictures"),
        ({"input_ids": torch.zeros(1, 300, dtype=torch.long)}, "a prompt of 300 tokens"),
        ({"labels": []}, "0 labels for 2 pictures"),
    ],
)
def test_bad_inputs(
    changed: dict[str, Any], message: str, model: Any, inputs: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        model(**{**inputs, "attention_mask": None, **changed})


def test_pushed_with_a_card(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[Any] = []

    def push(self: Any, repo_id: str, **options: Any) -> str:
        pushed.append((type(self).__name__, repo_id))
        return "address"

    def push_card(self: Any, repo_id: str, **options: Any) -> None:
        pushed.append((self.data.pipeline_tag, repo_id, str(self)))

    monkeypatch.setattr("transformers.PreTrainedModel.push_to_hub", push)
    monkeypatch.setattr("huggingface_hub.ModelCard.push_to_hub", push_card)
    assert model.push_to_hub("me/tiny") == "address"
    assert pushed[0] == ("GlipForObjectDetection", "me/tiny")
    assert pushed[1][:2] == ("zero-shot-object-detection", "me/tiny")
    assert 'model="me/tiny"' in pushed[1][2]


@pytest.mark.whole
def test_trainer(
    model: Any, processor: Any, make_picture: Any, tmp_path: Path, tiny_weights: Weights
) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    samples = [
        {
            "image": make_picture(seed=seed),
            "text": NAMES,
            "boxes": [[10, 10, 60, 50]],
            "phrases": [seed % 2],
        }
        for seed in range(4)
    ]
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=2,
            remove_unused_columns=False,
            prediction_loss_only=True,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
        ),
        train_dataset=samples,
        eval_dataset=samples,
        data_collator=processor.collate,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    trainer.save_model(str(tmp_path / "trained"))
    again = GlipForObjectDetection.from_pretrained(tmp_path / "trained")
    changed = tiny_weights.state["neck.p6.bias"] - again.glip.state_dict()["neck.p6.bias"]
    assert changed.abs().max() > 0


def test_pictures_of_any_size(model: Any, processor: Any) -> None:
    for size in ((1, 1), (700, 20)):
        found = outputs(model, dict(processor(Image.new("RGB", size), NAMES)))
        assert found.logits.isfinite().all()
