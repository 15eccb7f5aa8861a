"""Our BERT against that of transformers, weight by weight and number by number."""

import pytest
import torch
from transformers import BertConfig, BertModel

from glip.errors import ConfigError
from glip.model.bert import Bert, BertOptions

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 12,
}


def test_same_names_and_numbers_as_transformers() -> None:
    theirs = BertModel(BertConfig(**SIZES), add_pooling_layer=False).eval()
    ours = Bert(BertOptions(**SIZES)).eval()
    ours.load_state_dict(theirs.state_dict())
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([[9], [5], [1]])
    with torch.no_grad():
        found = ours(ids, mask)
        expected = theirs(input_ids=ids, attention_mask=mask.long())[0]
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_first_numbers_are_those_of_bert() -> None:
    model = Bert(BertOptions(**{**SIZES, "vocab_size": 4000}))
    words = model.embeddings["word_embeddings"].weight
    assert words[0].abs().max() == 0 and words.std().item() == pytest.approx(0.02, rel=0.05)
    layer = model.encoder["layer"][0]
    assert layer.intermediate["dense"].weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert layer.intermediate["dense"].bias.abs().max() == 0


def test_dropout_in_training_only() -> None:
    model = Bert(BertOptions(**SIZES))
    ids, mask = torch.ones(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool)
    assert not model.train()(ids, mask).equal(model(ids, mask))
    assert model.eval()(ids, mask).equal(model(ids, mask))


@pytest.mark.parametrize("options", [{"hidden_act": "relu"}, {"position_embedding_type": "x"}])
def test_other_options_are_left_to_transformers(options: dict[str, str]) -> None:
    assert BertOptions.covers(SIZES) and not BertOptions.covers(options)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="32 is not a multiple of the number of attention heads"):
        BertOptions(**{**SIZES, "num_attention_heads": 5})
