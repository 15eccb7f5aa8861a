"""The card that the Hub shows."""

from huggingface_hub import ModelCard

from glip.hf.card import model_card
from glip.model.presets import preset


def test_the_hub_reads_its_header() -> None:
    card = ModelCard(model_card(preset("glip_nano"), 29_000_000, "me/glip-nano"))
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "zero-shot-object-detection"
    assert "glip" in card.data.tags
    assert "29 million" in card.text and "score above\n0.5" in card.text
    assert 'model="me/glip-nano"' in card.text and "{" not in card.text
