"""The model card that goes to the Hugging Face Hub with a model."""

from __future__ import annotations

from glip.config import ModelConfig

_CARD = """---
library_name: transformers
pipeline_tag: zero-shot-object-detection
tags: [glip, object-detection, phrase-grounding]
---

# {name}

A GLIP (Grounded Language-Image Pre-training, arXiv 2112.03857) of {millions:.0f} million
parameters: boxes for the words of a prompt. Image encoder `{backbone}`, text encoder `{text}` with
prompts of up to {tokens} tokens, pictures of {short} to {long} pixels. Detections score above
{threshold:g} unless you say otherwise.

With the package `glip` installed:

```python
import glip.hf
from transformers import pipeline

detect = pipeline("zero-shot-object-detection", model="{repository}")
detect("street.jpg", candidate_labels=["person", "traffic light"])
```

or without transformers' pipelines:

```python
import glip

glip.load("{repository}").predict("street.jpg", ["person", "traffic light"])
```

No code of this repository is run: `trust_remote_code` is not needed.
"""


def model_card(config: ModelConfig, parameters: int, repository: str) -> str:
    """Markdown with the header that the Hub reads.

    Args:
        config: Of the model.
        parameters: How many it has.
        repository: Where it will be, NAME or OWNER/NAME.
    """
    return _CARD.format(
        name=config.name,
        millions=parameters / 1e6,
        backbone=config.backbone.name,
        text=config.text.model_type,
        tokens=config.text.max_tokens,
        short=config.pixels.short_side,
        long=config.pixels.long_side,
        threshold=config.threshold,
        repository=repository,
    )
