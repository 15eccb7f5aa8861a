"""GLIP for transformers: importing this room registers it with the auto classes.

    import glip.hf
    from transformers import pipeline

    detect = pipeline("zero-shot-object-detection", model="FOLDER")

The only room whose `__init__` does something, as somebody who writes `import glip.hf` asks for it.
"""

from inspect import signature

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import logging

from glip.hf.configuration import GlipConfig
from glip.hf.folder import convert_to_folder
from glip.hf.modeling import GlipForObjectDetection, GlipObjectDetectionOutput
from glip.hf.pipeline import GlipZeroShotPipeline
from glip.hf.processing import GlipImageProcessor, GlipProcessor

__all__ = [
    "GlipConfig",
    "GlipForObjectDetection",
    "GlipImageProcessor",
    "GlipObjectDetectionOutput",
    "GlipProcessor",
    "GlipZeroShotPipeline",
    "convert_to_folder",
    "register",
]

TASK = "zero-shot-object-detection"


def register() -> None:
    """Tell transformers of GLIP; again does nothing more."""
    AutoConfig.register(GlipConfig.model_type, GlipConfig, exist_ok=True)
    AutoModel.register(GlipConfig, GlipForObjectDetection, exist_ok=True)
    AutoModelForZeroShotObjectDetection.register(GlipConfig, GlipForObjectDetection, exist_ok=True)
    if "image_processor_classes" in signature(AutoImageProcessor.register).parameters:
        both = {"pil": GlipImageProcessor, "torchvision": GlipImageProcessor}
        AutoImageProcessor.register(GlipConfig, image_processor_classes=both, exist_ok=True)
    else:  # before transformers 5
        AutoImageProcessor.register(
            GlipConfig, slow_image_processor_class=GlipImageProcessor, exist_ok=True
        )
    AutoTokenizer.register(GlipConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
    AutoProcessor.register(GlipConfig, GlipProcessor, exist_ok=True)
    _, usual, _ = PIPELINE_REGISTRY.check_task(TASK)
    if usual["impl"] is GlipZeroShotPipeline:
        return
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # that the task is known already is no news
    try:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=GlipZeroShotPipeline,
            pt_model=usual["pt"],
            default=usual.get("default"),
            type=usual.get("type"),
        )
    finally:
        logging.set_verbosity(before)


register()
