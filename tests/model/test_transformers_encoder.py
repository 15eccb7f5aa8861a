"""Text encoders of transformers by their model type."""

import pytest
import torch

from glip.errors import ConfigError
from glip.model.transformers_encoder import build_encoder

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 40,
    "max_position_embeddings": 20,
}


@pytest.mark.parametrize(("kind", "positions"), [("bert", 20), ("roberta", 18)])
def test_encoder_says_its_width_and_how_much_it_reads(kind, positions):
    built = build_encoder(kind, SMALL)
    assert (built.width, built.positions) == (16, positions)
    ids = torch.full((2, positions), 5)
    states = built.model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    assert states.shape == (2, positions, 16)
    assert not any("pooler" in name for name in built.model.state_dict())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("brt", {}, r"'brt' is not a model type of transformers; did you mean .*bert"),
        ("bert", {"hidden_sise": 8}, "no option 'hidden_sise'; did you mean 'hidden_size'"),
        ("bert", {**SMALL, "hidden_size": 15}, "text encoder 'bert': "),
    ],
)
def test_what_transformers_cannot_build_is_named(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        build_encoder(kind, options)
