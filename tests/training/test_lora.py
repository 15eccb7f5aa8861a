import numpy as np
import pytest
import torch

from glip.checkpoint import Weights
from glip.detector import Detector
from glip.engine import Engine
from glip.errors import ConfigError
from glip.training.freezing import FreezeConfig, freeze
from glip.training.lora import LoraConfig, add_lora, is_product, merged


def shaken(model):
    """Products that do something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_product(name):
                parameter.normal_(std=0.1)
    return model


def test_products_change_nothing_until_they_are_trained(make_tiny_model, tiny_detector):
    model = make_tiny_model().eval()
    layers = add_lora(model, LoraConfig())
    assert any("fusion" in name for name in layers)
    assert any("text_layer" in name for name in layers)
    assert any(name.startswith("text.") for name in layers)
    assert not any(name.startswith(("backbone", "neck", "head.outputs")) for name in layers)
    pixels, ids = torch.rand(1, 3, 96, 96), tiny_detector.tokenizer.encode("cat").ids
    from glip.model.text_encoder import Tokens

    tokens = Tokens.pad([ids])
    with torch.no_grad():
        one, other = tiny_detector.model(pixels, tokens), model(pixels, tokens)
    assert torch.equal(one.logits, other.logits)


def test_folded_fusion_follows_its_products(make_tiny_model, tiny_detector, make_picture):
    model = make_tiny_model()
    add_lora(model, LoraConfig(targets=("visual_query", "visual_out", "visual_value")))
    shaken(model)
    [before] = tiny_detector.predict(make_picture(), ["cat"], threshold=0.0)
    changed = Detector(Engine(model, tiny_detector.config, tiny_detector.tokenizer))
    [after] = changed.predict(make_picture(), ["cat"], threshold=0.0)
    assert not np.array_equal(before.scores, after.scores)


def test_only_products_are_trained(make_tiny_model):
    model = make_tiny_model()
    add_lora(model, LoraConfig(rank=2))
    freeze(model, FreezeConfig(), "lora")
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(map(is_product, trained))


def test_merged_weights_are_plain_and_predict_the_same(
    make_tiny_model, tiny_detector, make_picture
):
    config = LoraConfig(rank=3, alpha=5.0)
    model = make_tiny_model()
    add_lora(model, config)
    shaken(model)
    state = merged(model.state_dict(), config)
    assert set(state) == set(tiny_detector.model.state_dict())
    plain = Detector.from_weights(Weights(tiny_detector.config, state))
    [expected] = Detector(Engine(model, tiny_detector.config, tiny_detector.tokenizer)).predict(
        make_picture(), ["cat", "dog"]
    )
    [found] = plain.predict(make_picture(), ["cat", "dog"])
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"targets": ()}, "targets is empty"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**values)


def test_layers_that_are_not_there_and_products_twice(make_tiny_model):
    model = make_tiny_model()
    with pytest.raises(ConfigError, match="one of flux in its name"):
        add_lora(model, LoraConfig(targets=("flux",)))
    add_lora(model, LoraConfig())
    with pytest.raises(ConfigError, match="merge it first"):
        add_lora(model, LoraConfig())
