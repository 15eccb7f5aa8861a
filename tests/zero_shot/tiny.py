"""The smallest detector of each kind that transformers has, with random weights, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
SWIN = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "out_features": ["stage2", "stage3", "stage4"],
}
DINO = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_queries": 30,
    "max_text_len": 64,
    "num_feature_levels": 4,
    "disable_custom_kernels": True,
}


def seeded(model_class: Callable[[Any], Any], config: Any) -> Any:
    """The same random weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model_class(config)


def bert_words(folder: Path) -> Any:
    """The tokenizer of BERT."""
    vocabulary = folder / "vocab.txt"
    packaged = resources.files("glip.text").joinpath("bert_uncased_vocab.txt")
    vocabulary.write_text(packaged.read_text(encoding="utf-8"), encoding="utf-8")
    return transformers.BertTokenizerFast(str(vocabulary))


def clip_words(folder: Path, length: int = 16) -> tuple[Any, dict[str, int]]:
    """A tokenizer of CLIP's kind that spells, and what a text encoder must know of it."""
    letters = [chr(code) for code in range(97, 123)] + [",", "."]
    # OWL takes a text that begins with token 0 for none.
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    (folder / "vocab.json").write_text(
        "{" + ",".join(f'"{token}": {n}' for n, token in enumerate(tokens)) + "}"
    )
    (folder / "merges.txt").write_text("#version: 0.2\n")
    words = transformers.CLIPTokenizerFast(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        pad_token="<|endoftext|>",
        model_max_length=length,
    )
    known = {"vocab_size": len(tokens), "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 2}
    return words, known


def grounding_dino(folder: Path) -> None:
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(**SWIN),
        text_config=transformers.BertConfig(**{**SMALL, "hidden_size": 32}).to_dict(),
        **DINO,
    )
    seeded(transformers.GroundingDinoForObjectDetection, config).save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    transformers.GroundingDinoProcessor(images, bert_words(folder)).save_pretrained(folder)


def mm_grounding_dino(folder: Path) -> None:
    """Also what LLMDet is."""
    config = transformers.MMGroundingDinoConfig(
        backbone_config=transformers.SwinConfig(**SWIN),
        text_config=transformers.BertConfig(**{**SMALL, "hidden_size": 32}).to_dict(),
        **DINO,
    )
    seeded(transformers.MMGroundingDinoForObjectDetection, config).save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    transformers.GroundingDinoProcessor(images, bert_words(folder)).save_pretrained(folder)


def _owl(folder: Path, name: str) -> None:
    words, known = clip_words(folder)
    config = getattr(transformers, f"{name}Config")(
        text_config={**SMALL, **known, "max_position_embeddings": 16},
        vision_config={**SMALL, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    model_class = getattr(transformers, f"{name}ForObjectDetection")
    seeded(model_class, config).save_pretrained(folder)
    images = getattr(transformers, f"{name}ImageProcessor")(size={"height": 64, "width": 64})
    getattr(transformers, f"{name}Processor")(images, words).save_pretrained(folder)


def owlvit(folder: Path) -> None:
    _owl(folder, "OwlViT")


def owlv2(folder: Path) -> None:
    _owl(folder, "Owlv2")


def omdet_turbo(folder: Path) -> None:
    words, known = clip_words(folder, 40)
    config = transformers.OmDetTurboConfig(
        text_config={
            **SMALL,
            **known,
            "max_position_embeddings": 40,
            "projection_dim": 16,
            "model_type": "clip_text_model",
        },
        backbone_config=transformers.SwinConfig(**SWIN),
        use_timm_backbone=False,
        backbone=None,
        apply_layernorm_after_vision_backbone=False,
        image_size=64,
        num_queries=20,
        class_embed_dim=16,
        text_projection_in_dim=16,
        text_projection_out_dim=16,
        task_encoder_hidden_dim=16,
        encoder_hidden_dim=8,
        decoder_hidden_dim=8,
        decoder_num_layers=1,
        decoder_dim_feedforward=16,
        encoder_dim_feedforward=16,
        num_projection_layers=1,
        decoder_num_heads=2,
        encoder_attention_heads=2,
        vision_features_channels=[8, 8, 8],
        encoder_in_channels=[16, 32, 64],
        disable_custom_kernels=True,
    )
    seeded(transformers.OmDetTurboForObjectDetection, config).save_pretrained(folder)
    images = transformers.DetrImageProcessor(size={"height": 64, "width": 64})
    transformers.OmDetTurboProcessor(images, words).save_pretrained(folder)


def sam3(folder: Path) -> None:
    words, known = clip_words(folder)
    head = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                **SMALL,
                "image_size": 56,
                "patch_size": 14,
                "window_size": 2,
                "global_attn_indexes": [0],
                "pretrain_image_size": 56,
            },
            "fpn_hidden_size": 16,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config={
            **SMALL,
            **known,
            "max_position_embeddings": 16,
            "projection_dim": 16,
        },
        geometry_encoder_config={**head, "num_layers": 1},
        detr_encoder_config={**head, "num_layers": 1},
        detr_decoder_config={**head, "num_layers": 1, "num_queries": 20},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )
    seeded(transformers.Sam3Model, config).save_pretrained(folder)
    images = transformers.Sam3ImageProcessor(size={"height": 56, "width": 56})
    transformers.Sam3Processor(images, words).save_pretrained(folder)


MAKERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "grounding-dino": (grounding_dino, "GroundingDinoForObjectDetection"),
    "mm-grounding-dino": (mm_grounding_dino, "MMGroundingDinoForObjectDetection"),
    "owlvit": (owlvit, "OwlViTForObjectDetection"),
    "owlv2": (owlv2, "Owlv2ForObjectDetection"),
    "omdet-turbo": (omdet_turbo, "OmDetTurboForObjectDetection"),
    "sam3": (sam3, "Sam3Model"),
}
"""By `model_type`: what writes one, and the class that transformers must have for it."""
