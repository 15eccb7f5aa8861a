"""The words that an option can be, each set of them once.

They stand here, below everything, because a command line shows them before anything heavy is
imported. What each word means is told where it is used.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Aggregate: TypeAlias = Literal["mean", "max", "first"]
"""How the scores of a phrase's tokens become one."""
Backend: TypeAlias = Literal["hotcoco", "pycocotools"]
"""What computes average precision."""
DType: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""The number format of a model."""
Ensemble: TypeAlias = Literal["scores", "features"]
"""What is averaged over several wordings of a class."""
ExportDType: TypeAlias = Literal["float32", "float16", "int8"]
"""How an exported model stores its weights."""
LabelFormat: TypeAlias = Literal["coco", "yolo", "voc", "odvg", "cvat", "labelstudio", "labelme"]
"""In which labels are written."""
PictureMode: TypeAlias = Literal["none", "link", "copy"]
"""What becomes of the pictures in a data set that is written."""
Preset: TypeAlias = Literal["web", "curated"]
"""Where captions come from."""
Runtime: TypeAlias = Literal["onnx", "openvino"]
"""What runs an exported model."""
Split: TypeAlias = Literal["train", "val", "test"]
"""A part of a data set."""
Task: TypeAlias = Literal["coco", "lvis", "flickr", "odinw", "custom"]
"""A protocol of evaluation."""
TrackFormat: TypeAlias = Literal["mp4", "jsonl", "mot", "cvat"]
"""In which tracks of a video are written."""
TuneMode: TypeAlias = Literal["full", "head", "linear_probe", "prompt", "language", "lora"]
"""Which part of a model is trained."""
