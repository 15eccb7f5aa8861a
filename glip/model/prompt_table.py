"""A learned prompt: the language side as a table of states, one for each token of a fixed text.

Prompt tuning (arXiv 2112.03857, section 4.3; reference G.3): what the text encoder said of a task's
prompt stays as it is, and an offset that starts at zero is learned for each token. The words still
change the regions where a model has deep fusion, so such a table can teach it a task. Stands in the
place of the text encoder, which is no longer needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from glip.errors import PromptError
from glip.model.text_encoder import Tokens, Words


class PromptTable(nn.Module):
    """Words of one text, whatever picture they are for.

    official: a table of 1000 rows whose first 256 are added, to padding as well; nothing reads
    padding, so here a row is a token of the text.

    Args:
        ids: (T,) int64, the tokens of the text, so that no other text is taken for it.
        states: (T, D), what the text encoder says of them.
        offsets: (T, D), what was learned; by default zeros.
    """

    def __init__(self, ids: Tensor, states: Tensor, offsets: Tensor | None = None) -> None:
        super().__init__()
        assert len(ids) == len(states), f"{len(ids)} tokens, {len(states)} states"
        self.width = states.shape[-1]
        self.register_buffer("ids", ids)
        self.register_buffer("states", states)
        self.offsets = nn.Parameter(
            torch.zeros_like(states) if offsets is None else offsets.clone()
        )
        self.ids: Tensor
        self.states: Tensor

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[int],
        states: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.float32] | None = None,
    ) -> PromptTable:
        """A table of copies of arrays: T ids, (T, D) states and offsets."""
        learned = None if offsets is None else torch.tensor(offsets)
        return cls(torch.tensor(ids), torch.tensor(states), learned)

    def forward(self, tokens: Tokens) -> Words:
        """States of the text for each row of a batch.

        Args:
            tokens: B times the text of the table.
        Returns:
            (B, T, D) and the mask.
        Raises:
            PromptError: They are another text.
        """
        if tokens.ids.shape[1] != len(self.ids) or not bool((tokens.ids == self.ids).all()):
            raise PromptError(
                "a learned prompt answers its own text only; ask for the classes it was made for, "
                "or use the model without it"
            )
        states = (self.states + self.offsets).to(self.states.dtype)
        return Words(states.expand(len(tokens.ids), -1, -1), tokens.mask)
