"""A learned prompt in the place of the text encoder."""

import pytest
import torch

from glip.errors import PromptError
from glip.model.prompt_table import PromptTable
from glip.model.text_encoder import Tokens

IDS = torch.tensor([101, 2417, 1012, 102])
STATES = torch.arange(12.0).view(4, 3)


def test_every_picture_gets_states_and_offsets() -> None:
    table = PromptTable(IDS, STATES, torch.ones(4, 3))
    words = table(Tokens.pad([tuple(IDS.tolist())] * 2))
    assert words.states.shape == (2, 4, 3) and words.mask.all()
    assert torch.equal(words.states[0], STATES + 1) and torch.equal(words.states[1], STATES + 1)


def test_only_the_offsets_learn() -> None:
    table = PromptTable(IDS, STATES)
    assert [name for name, _ in table.named_parameters()] == ["offsets"]
    assert not table.offsets.any() and table.width == 3
    table(Tokens.pad([tuple(IDS.tolist())])).states.sum().backward()
    assert torch.equal(table.offsets.grad, torch.ones(4, 3))


@pytest.mark.parametrize("ids", [(101, 2417, 102), (101, 2418, 1012, 102)])
def test_another_text_is_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(PromptError, match="answers its own text only"):
        PromptTable(IDS, STATES)(Tokens.pad([ids]))


def test_each_token_has_its_state() -> None:
    with pytest.raises(AssertionError, match="3 tokens, 4 states"):
        PromptTable(IDS[:3], STATES)
