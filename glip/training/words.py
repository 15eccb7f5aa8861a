"""From a model with a text encoder to the table of words that a task starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from glip.data.sampling import class_prompt
from glip.data.sources import DetectionSource, Source
from glip.detector import Detector
from glip.errors import ConfigError, DataError, PromptError
from glip.model.text_encoder import Tokens
from glip.task_prompt import TaskPrompt
from glip.text.mirror import mirror_name
from glip.text.prompt import Prompt, reads_as


@torch.no_grad()
def as_table(detector: Detector, prompt: Prompt) -> TaskPrompt:
    """What the text encoder says of a prompt, with offsets of zero: it predicts the same.

    Raises:
        PromptError: It does not fit into one pass of the encoder.
    """
    passes = prompt.passes(detector.tokenizer, detector.config.text.max_tokens)
    if len(passes) > 1:
        raise PromptError(
            f"{len(prompt)} classes need {len(passes)} passes of the text encoder, a learned "
            "prompt has one; split the task into several with fewer classes each"
        )
    tokens = Tokens.pad([passes[0].token_ids], detector.tokenizer.pad_id).to(detector.device)
    states = detector.model.encode_text(tokens).states[0].float().cpu().numpy()
    return TaskPrompt(
        prompt,
        passes[0].token_ids,
        passes[0].token_map,
        states,
        np.zeros_like(states),
        detector.config.name,
        detector.fingerprint,
    )


def prompt_of(sources: Sequence[Source], flip: float) -> Prompt:
    """The one prompt that all pictures of a prompt tuning run are asked.

    Args:
        sources: Of the run.
        flip: Probability of mirror images.
    Raises:
        ConfigError: The prompt would not be the same for all pictures.
        DataError: Two classes read the same.
    """
    if len(sources) != 1 or not isinstance(sources[0], DetectionSource):
        raise ConfigError(
            f"tune: prompt learns the words of one detection data set, got {len(sources)} sources; "
            "the model itself stays as it is, so replaying other data has no effect on it"
        )
    data, sampling = sources[0].data, sources[0].sampling
    if (
        sampling.negatives != "all"
        or sampling.shuffle
        or sampling.wordings
        or sampling.partial_probability
    ):
        raise ConfigError(
            "tune: prompt needs the same prompt for all pictures: set "
            "data.sources.0.sampling to {negatives: all, shuffle: false} without wordings and "
            "partial_probability"
        )
    check_names(data.names)
    every = set(range(len(data.names)))
    for record in data.records:
        if every - set(data.absent(record)) - set(record.labels.tolist()):
            raise ConfigError(
                f"tune: prompt asks all pictures for all classes, but in {record.file_name} of "
                f"{data.path} some were never looked for; choose one vocabulary "
                "(data.sources.0.vocabulary), or another way of tuning"
            )
    known = frozenset(data.names)
    turned = [name for name in data.names if mirror_name(name, known) != name]
    if flip and turned:
        raise ConfigError(
            f"tune: prompt and mirror images do not go together for the class {turned[0]!r}, which "
            "a mirror turns into another; set data.augment.flip to 0"
        )
    return class_prompt(data.names, sampling.decorations)


def check_names(names: Sequence[str]) -> None:
    """Refuse classes that the text encoder cannot tell apart.

    Raises:
        DataError: Two of them read the same.
    """
    counts = Counter(map(reads_as, names))
    if alike := [name for name in names if counts[reads_as(name)] > 1]:
        raise DataError(
            f"the classes {' and '.join(map(repr, alike[:3]))} read the same to the text encoder; "
            "rename one of them in the annotation file, or make them one class"
        )
