"""`GlipForObjectDetection`: the model as one of transformers', with our losses for `Trainer`.

Letters: B pictures, A anchors of all levels, T tokens, P phrases, N boxes of one picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from glip.checkpoint import read
from glip.data.batch import Target, Targets
from glip.errors import CheckpointError, ConfigError
from glip.hf.card import model_card
from glip.hf.configuration import GlipConfig
from glip.model.anchors import grid_anchors
from glip.model.fpn import LEVEL_STRIDES
from glip.model.head import HeadOutput
from glip.model.ops.transfer import uploaded
from glip.model.presets import build, build_empty
from glip.model.text_encoder import Tokens
from glip.pixels import SIZE_DIVISOR
from glip.training.losses import Criterion

RENAMES = Version(transformers.__version__) < Version("4.48.dev0")
"""Whether this transformers reads every "gamma" of a file as a "weight", and "beta" as "bias"."""


@dataclass
class GlipObjectDetectionOutput(ModelOutput):  # type: ignore[misc]
    """What the model says of a batch; `GlipProcessor` turns it into boxes."""

    loss: Tensor | None = None
    """() sum of the losses, if there were labels."""
    loss_dict: dict[str, Tensor] | None = None
    """"alignment", "box" and "centerness", which `loss` is the sum of."""
    logits: Tensor | None = None
    """(B, A, T) region-word alignment, before the sigmoid."""
    deltas: Tensor | None = None
    """(B, A, 4), see `glip.boxes.decode_boxes`."""
    centerness: Tensor | None = None
    """(B, A), before the sigmoid."""
    padded_size: Tensor | None = None
    """(B, 2) int64, height and width of the pixels that went in, which say where anchors lie."""


class GlipForObjectDetection(PreTrainedModel):  # type: ignore[misc]
    """GLIP (arXiv 2112.03857) behind the interface of transformers.

    Weights are as in our own files, with "glip." before their names: `glip.load(folder)` takes the
    folder that `save_pretrained` writes. Whatever the number format, the output layers stay in
    float32. `device_map="auto"` puts the model on one device, as its parts meet in every block.
    """

    config_class = GlipConfig
    base_model_prefix = "glip"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    _no_split_modules: ClassVar[Any] = ["GLIP"]
    _keep_in_fp32_modules: ClassVar[Any] = ["outputs"]
    _keep_in_fp32_modules_strict: ClassVar[Any] = ["outputs"]
    _keys_to_ignore_on_load_missing: ClassVar[Any] = ["gamma", "beta"] if RENAMES else None
    _keys_to_ignore_on_load_unexpected: ClassVar[Any] = ["_weight", "_bias"] if RENAMES else None

    def __init__(self, config: GlipConfig) -> None:
        """A model with untrained weights, in evaluation mode.

        Raises:
            ConfigError: The configuration names parts that this installation does not have.
        """
        super().__init__(config)
        if torch.empty(0).is_meta:  # weights are about to be read, only constants are computed
            with torch.device("cpu"):
                self.glip = build_empty(config.numbers)
        else:
            self.glip = build(config.numbers)
        saved = set(self.glip.state_dict())
        self._constants = {
            name: buffer.clone()
            for name, buffer in self.glip.named_buffers()
            if name not in saved and not buffer.is_meta
        }
        self.criterion = Criterion()
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Constructors have done so."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As of every model of transformers.

        Raises:
            CheckpointError: Weights are missing, which would leave their places without numbers.
        """
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise CheckpointError(
                f"{pretrained_model_name_or_path} lacks weights of a {model.config.numbers.name}: "
                f"{', '.join(missing[:3])}; fetch it again"
            )
        model.restore_constants()
        if RENAMES:
            model.read_renamed(_folder_of(os.fspath(pretrained_model_name_or_path or ""), kwargs))
        return (model, info) if output_loading_info else model

    def restore_constants(self) -> None:
        """Give back what constructors computed and no file holds; reading weights may undo it."""
        for name, value in self._constants.items():
            module, _, leaf = name.rpartition(".")
            owner = self.glip.get_submodule(module)
            device = next(self.glip.parameters()).device
            owner.register_buffer(leaf, value.to(device), persistent=False)

    @torch.no_grad()
    def read_renamed(self, folder: Path) -> None:
        """Read what old versions of transformers take for other names, see `RENAMES`."""
        state: Mapping[str, Tensor] | None = None
        for name, parameter in self.glip.named_parameters():
            if "gamma" in name or "beta" in name:
                state = read(folder).state if state is None else state
                parameter.copy_(state[name])

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """The words of the text encoder."""
        return _embeddings_of(self.glip.text)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, **_: Any) -> Any:
        """The table of words; it has the size that its tokenizer asks for.

        Raises:
            ConfigError: Another size is asked for.
        """
        table = self.get_input_embeddings()
        if new_num_tokens not in (None, table.num_embeddings):
            raise ConfigError(
                f"the text encoder knows {table.num_embeddings} tokens, those of its tokenizer, "
                f"and cannot have {new_num_tokens}; new words are spelled, or learned (glip tune)"
            )
        return table

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Sequence[Mapping[str, Tensor]] | None = None,
        return_dict: bool | None = None,
    ) -> GlipObjectDetectionOutput | tuple[Any, ...]:
        """Ground the tokens of each prompt in its picture.

        Args:
            pixel_values: (B, 3, H, W) as `GlipProcessor` makes them, H and W multiples of 32.
            input_ids: (B, T) of B prompts, or (1, T) of one for all pictures.
            attention_mask: As `input_ids`, 1 on real tokens; by default all are.
            token_type_ids: Not used; tokenizers of BERT give them.
            labels: For each picture "boxes", (N, 4) xyxy in its resized pixels, the last pixel of
                the original counted in, "class_labels", (N,) rows of "token_map", (P, T) 1 on the
                tokens of each phrase; the processor makes them of `annotations`.
            return_dict: False for a tuple.
        Raises:
            ConfigError: Shapes other than these.
        """
        self._check(pixel_values, input_ids, labels)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        outputs = self.glip.head.outputs
        if outputs.project.weight.dtype != torch.float32:
            outputs.float()
        dtype = next(self.glip.backbone.parameters()).dtype
        tokens = Tokens(input_ids, mask.bool())
        found = self.glip(pixel_values.to(dtype), tokens)
        losses = None if labels is None else self._losses(found, labels, tokens.mask)
        size = uploaded(torch.tensor(pixel_values.shape[-2:]), found.logits.device)
        output = GlipObjectDetectionOutput(
            loss=None if losses is None else torch.stack([*losses.values()]).sum(),
            loss_dict=losses,
            logits=found.logits,
            deltas=found.deltas,
            centerness=found.centerness,
            padded_size=size.expand(len(pixel_values), 2),
        )
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else cast(tuple[Any, ...], output.to_tuple())

    def _check(self, pixels: Tensor, ids: Tensor, labels: Sequence[Any] | None) -> None:
        if (
            pixels.ndim != 4
            or pixels.shape[1] != 3
            or any(n % SIZE_DIVISOR for n in pixels.shape[2:])
        ):
            raise ConfigError(
                f"pixel_values have the shape {tuple(pixels.shape)}, not (B, 3, H, W) with H and W "
                f"multiples of {SIZE_DIVISOR}; GlipProcessor makes them so"
            )
        if ids.ndim != 2 or len(ids) not in (1, len(pixels)):
            raise ConfigError(
                f"input_ids have the shape {tuple(ids.shape)}, not (B, T) or (1, T) for "
                f"{len(pixels)} pictures"
            )
        most = self.config.numbers.text.max_tokens
        if ids.shape[1] > most:
            raise ConfigError(
                f"a prompt of {ids.shape[1]} tokens, the text encoder takes {most}; "
                "glip.load(folder) asks in several passes, and so does the pipeline"
            )
        if labels is not None and len(labels) != len(pixels):
            raise ConfigError(f"{len(labels)} labels for {len(pixels)} pictures; give each its own")

    def _losses(
        self, found: HeadOutput, labels: Sequence[Mapping[str, Tensor]], mask: Tensor
    ) -> dict[str, Tensor]:
        targets = [
            Target(label["boxes"].float().reshape(-1, 4), label["class_labels"].long())
            for label in labels
        ]
        maps = [label["token_map"].bool() for label in labels]
        return self.criterion(found, Targets.pad(targets, maps, mask))

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """As of every model of transformers, with a model card that says how it is used."""
        from huggingface_hub import ModelCard

        answer = super().push_to_hub(repo_id, **kwargs)
        card = ModelCard(model_card(self.config.numbers, self.num_parameters(), repo_id))
        card.push_to_hub(repo_id, token=kwargs.get("token"))
        return answer


def head_output(output: GlipObjectDetectionOutput) -> HeadOutput:
    """The output of our own model again, with its anchors."""
    assert output.logits is not None and output.padded_size is not None
    height, width = output.padded_size[0].tolist()
    shapes = [(-(-height // stride), -(-width // stride)) for stride in LEVEL_STRIDES]
    return HeadOutput(
        output.logits.float(),
        cast(Tensor, output.deltas).float(),
        cast(Tensor, output.centerness).float(),
        grid_anchors(shapes, LEVEL_STRIDES, output.logits.device),
        tuple(height * width for height, width in shapes),
    )


def _folder_of(source: str, options: Mapping[str, Any]) -> Path:
    """Where weights that were just read lie."""
    if os.path.isdir(source):
        return Path(source)
    from huggingface_hub import snapshot_download

    known = {name: options[name] for name in ("revision", "cache_dir") if options.get(name)}
    return Path(snapshot_download(source, local_files_only=True, **known))


def _embeddings_of(module: torch.nn.Module) -> torch.nn.Embedding:
    """The first table of words in a text encoder."""
    tables = (part for part in module.modules() if isinstance(part, torch.nn.Embedding))
    return next(tables)
