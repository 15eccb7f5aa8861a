"""A closed-set detector trained as a GLIP run is: what the same photos give without words.

torchvision's FCOS (arXiv 1904.01355) on the image encoder that the run starts from, in place of
GLIP. Pictures, their order and augmentation, batch size, steps, precision, optimizer, schedule and
averaging are those of the run's YAML file; loader, loop and checkpoints are GLIP's own.

    python benchmarks/baseline.py --config-file configs/nano/nano.yaml \
        --weights nano_start.safetensors --output runs/baseline --val datasets/general/val.json
    python benchmarks/baseline.py --config-file configs/nano/nano_sharp.yaml \
        --weights runs/baseline/model_final.safetensors --output runs/baseline_sharp --val ...

or under torchrun, a process for each core. Each --val file is measured as `glip evaluate --task
custom` measures GLIP. `--resume` goes on from the newest checkpoint, or measures a finished run.
`--against nano_start.safetensors` trains nothing: it times both detectors in turns.

One classifier covers the names of all sources. A picture says nothing about classes that nobody
looked for in it, so these have no loss there; what is left is its whole vocabulary, as a closed set
wants it. FCOS rather than RetinaNet: one location for each cell instead of nine anchors leaves the
same compute for a wider classifier, and without thresholds on overlap small objects keep their
positives in small pictures. Letters: B pictures, A locations of all levels, C classes, U classes
asked for in a batch, N boxes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from glip.boxes import to_edges
from glip.checkpoint import Weights, read
from glip.config import BackboneConfig, ModelConfig, PixelConfig, PostprocessOptions
from glip.data.augment import AugmentConfig, Scene, augment
from glip.data.batch import Batch, Target, Targets
from glip.data.loader import Sample, Samples, TrainingSet, training_loader
from glip.data.mixture import Draw, MixtureSampler
from glip.data.sources import DetectionSource, Source
from glip.data.transforms import pad_batch, to_pixels
from glip.detector import Detector
from glip.distributed import is_main, on_main, rank, start, stop, wait_for_all, world_size
from glip.errors import CheckpointError, ConfigError, GlipError
from glip.evaluation.config import TaskOptions
from glip.evaluation.table import results_table
from glip.evaluation.tasks import run_task
from glip.images import ImageLike, load_image
from glip.jobs.batches import USUAL
from glip.model.anchors import ANCHOR_STRIDES, grid_anchors
from glip.model.fpn import LEVEL_STRIDES
from glip.model.presets import build
from glip.model.text_encoder import Tokens
from glip.pixels import Prepared, resize
from glip.postprocess import rescale
from glip.settings import from_dict
from glip.structures import Detections
from glip.text.mirror import mirror_name
from glip.text.prompt import Prompt, clean_name
from glip.training.build import starting_point, training_source
from glip.training.ema import Ema
from glip.training.freezing import FreezeConfig, freeze
from glip.training.loop import LoopConfig, train
from glip.training.losses import Criterion
from glip.training.optim import Schedule, build_optimizer
from glip.training.parallel import parallelise, unwrapped
from glip.training.record import Recorder
from glip.training.run_config import RunConfig, read_run
from glip.training.state import CheckpointFolder, TrainState, seed_generators

HEAD_CONVS = 4  # of each branch, as torchvision has them; the compute is that of glip_nano
# Distances begin here, in cells. From torchvision's zero, where a ReLU cuts off half of them, a run
# of a few thousand steps would spend hundreds before any box has an extent.
FIRST_DISTANCE = 3.0
MAX_ASKED = 128  # classes of one picture; only a list of a thousand names is longer
UNASKED = -1e4  # a logit that the focal loss finds no fault with: its loss and gradient are zero
SMALLEST_SCORE = 0.05  # torchvision's 0.2 would cut off the tail that average precision counts
METADATA = "closed_set"  # key of the safetensors header
ENCODER = "backbone.body."  # where GLIP's weights have the image encoder


# ------------------------------------------------------------------------------------------ classes


def class_key(name: str) -> str:
    """What the spellings of one class share, over data sets."""
    return " ".join(clean_name(name).casefold().split()) or name


class Classes:
    """The closed set: names of several data sets, one class for each different one.

    Args:
        names: In any order, with repetitions.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.keys = tuple(dict.fromkeys(map(class_key, names)))
        self._rows = {key: row for row, key in enumerate(self.keys)}

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, name: str) -> bool:
        return class_key(name) in self._rows

    def row(self, name: str) -> int:
        """Number of a class.

        Raises:
            ConfigError: It is not in the set.
        """
        try:
            return self._rows[class_key(name)]
        except KeyError:
            raise ConfigError(
                f"the baseline was not trained on the class {name!r}, and a closed set takes no "
                "new ones; measure it on vocabularies of its training data"
            ) from None


# --------------------------------------------------------------------------------------------- data


class ClosedSet(Dataset[Sample]):
    """The samples of GLIP's training set, drawn with the same chances, with classes for words.

    A sample's tokens are the classes asked for, one token each, so that it batches as GLIP's do.

    Args:
        sources: Of detection data.
        classes: All that is ever asked for.
        pixels: Of the model.
        augmentation: What may happen to pictures.
    Raises:
        ConfigError: A source of captions, whose phrases are no closed set.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        classes: Classes,
        pixels: PixelConfig,
        augmentation: AugmentConfig,
    ) -> None:
        self._sources = tuple(sources)
        self.pixels = pixels
        self._augmentation = augmentation
        self._names = [source.data.names for source in detection_sources(sources)]
        self._classes = classes

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample of a draw, always the same; its picture is the one that GLIP sees."""
        rng = random.Random(draw.seed)
        source = self._sources[draw.source]
        image_id, original = source.scene(draw.record)

        def partner() -> Scene:
            return source.partner(draw.record, rng)

        scene = augment(original, self._augmentation, self.pixels, rng, partner)
        names = self._names[draw.source]
        present = [self._row(name, names, scene.mirrored) for name in _of(names, scene.owners)]
        absent = {self._row(name, names, scene.mirrored) for name in _of(names, scene.known)}
        # A mirrored name that is no class ("right hand" without its left) is left out.
        kept = np.array([row is not None for row in present], dtype=np.bool_)
        scene = scene.keep(kept)
        labels = [row for row in present if row is not None]
        positive = sorted(set(labels))
        negative = sorted(row for row in absent if row is not None and row not in positive)
        room = max(0, MAX_ASKED - len(positive))
        asked = positive + (negative if len(negative) <= room else rng.sample(negative, room))
        place = {row: number for number, row in enumerate(asked)}
        target = Target(
            torch.from_numpy(scene.boxes),
            torch.tensor([place[label] for label in labels], dtype=torch.int64),
        )
        pixels = to_pixels(scene.image, self.pixels)
        return Sample(pixels, tuple(asked), torch.eye(len(asked)).bool(), target, image_id)

    def _row(self, name: str, names: Sequence[str], mirrored: bool) -> int | None:
        name = mirror_name(name, names) if mirrored else name
        return self._classes.row(name) if name in self._classes else None


def detection_sources(sources: Sequence[Source]) -> list[DetectionSource]:
    """The sources, all of which must have classes.

    Raises:
        ConfigError: One has captions.
    """
    for number, source in enumerate(sources):
        if not isinstance(source, DetectionSource):
            raise ConfigError(
                f"data.sources.{number} has captions; a closed-set detector learns from classes "
                "only"
            )
    return cast(list[DetectionSource], list(sources))


def _of(names: Sequence[str], rows: Iterable[int]) -> list[str]:
    return [names[int(row)] for row in rows]


# -------------------------------------------------------------------------------------------- model


class ClosedSetOutput(NamedTuple):
    """What the detector says of a batch."""

    logits: Tensor
    """(B, A, U), `UNASKED` where a picture does not ask for a class."""
    deltas: Tensor
    """(B, A, 4) distances to the sides, in sizes of the location's cell."""
    centerness: Tensor
    """(B, A, 1) before the sigmoid."""
    cells: Tensor
    """(A, 4) xyxy, pixels of the padded batch."""
    level_sizes: tuple[int, ...]
    rows: Tensor
    """(B, T) column of `logits` of each class that a picture asks for."""


class Features(nn.Module):
    """What torchvision calls a backbone: timm's maps of strides 8 to 32 and its pyramid on them."""

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        body: Any = timm.create_model(
            config.name,
            features_only=True,
            out_indices=(2, 3, 4),
            drop_path_rate=config.drop_path,
            **config.options,
        )
        self.body: nn.Module = body
        channels = body.feature_info.channels()
        self.fpn = FeaturePyramidNetwork(channels, width, LastLevelP6P7(width, width))
        self.out_channels = width

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, width, H_l, W_l) of five levels, finest first."""
        maps = OrderedDict((str(level), x) for level, x in enumerate(self.body(pixels)))
        return list(self.fpn(maps).values())


class AskedHead(FCOSHead):  # type: ignore[misc] # torchvision has no types
    """torchvision's head, whose last layer computes some of the classes only."""

    def forward(self, levels: list[Tensor], classes: Tensor) -> dict[str, Tensor]:
        """Outputs under torchvision's names; (B, A, U) logits of the (U,) classes."""
        branch = self.classification_head
        weight, bias = branch.cls_logits.weight[classes], branch.cls_logits.bias[classes]
        logits = [
            F.conv2d(branch.conv(level), weight, bias, padding=1).flatten(2).mT for level in levels
        ]
        deltas, centerness = self.regression_head(levels)
        return {
            "cls_logits": torch.cat(logits, 1),
            "bbox_regression": deltas,
            "bbox_ctrness": centerness,
        }


class ClosedSetDetector(FCOS):  # type: ignore[misc] # torchvision has no types
    """FCOS that is asked for some of its classes in each picture.

    Args:
        config: Of the GLIP model whose image encoder and width it has.
        classes: How many there are.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        width = config.head.channels
        super().__init__(
            Features(config.backbone, width),
            num_classes=classes,
            head=AskedHead(width, 1, classes, HEAD_CONVS),
            score_thresh=SMALLEST_SCORE,
        )
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, FIRST_DISTANCE)

    def forward(self, pixels: Tensor, asked: Tokens) -> ClosedSetOutput:
        """Look for the classes of each picture.

        Args:
            pixels: (B, 3, H, W), normalised, padded to multiples of 32.
            asked: Class rows of each picture in place of token ids.
        """
        classes = asked.ids[asked.mask].unique()  # rising
        rows = torch.searchsorted(classes, asked.ids).clamp(max=len(classes) - 1)
        known = torch.zeros(len(pixels), len(classes), dtype=torch.bool, device=pixels.device)
        known[asked.mask.nonzero()[:, 0], rows[asked.mask]] = True
        levels = self.backbone(pixels)
        outputs = self.head(levels, classes)
        shapes = [(int(level.shape[2]), int(level.shape[3])) for level in levels]
        return ClosedSetOutput(
            outputs["cls_logits"].float().masked_fill(~known[:, None], UNASKED),
            outputs["bbox_regression"].float(),
            outputs["bbox_ctrness"].float(),
            stride_cells(shapes, pixels.device),
            tuple(height * width for height, width in shapes),
            rows,
        )

    def find(self, output: ClosedSetOutput, image_hw: Sequence[tuple[int, int]]) -> list[Any]:
        """Torchvision's post-processing: for each picture "boxes", "scores" and "labels".

        Args:
            output: Of B pictures.
            image_hw: Height and width of each before padding.
        """
        sizes = list(output.level_sizes)
        parts = {
            "cls_logits": list(output.logits.split(sizes, 1)),
            "bbox_regression": list(output.deltas.split(sizes, 1)),
            "bbox_ctrness": list(output.centerness.split(sizes, 1)),
        }
        cells = [list(output.cells.split(sizes))] * len(image_hw)
        found: list[Any] = self.postprocess_detections(parts, cells, list(image_hw))
        return found


class ClosedSetCriterion:
    """torchvision's losses in the place of GLIP's criterion."""

    def __init__(self, detector: ClosedSetDetector) -> None:
        self._detector = detector

    def __call__(
        self,
        output: ClosedSetOutput,
        targets: Targets,
    ) -> dict[str, Tensor]:
        """Named losses of one batch."""
        # A phrase is one token here, which is a class; rows beyond a picture's own have none.
        wanted = [
            {"boxes": boxes[own.any(1)], "labels": rows[own.nonzero()[:, 1]]}
            for boxes, own, rows in zip(targets.boxes, targets.words, output.rows, strict=True)
        ]
        heads = {
            "cls_logits": output.logits,
            "bbox_regression": output.deltas,
            "bbox_ctrness": output.centerness,
        }
        cells = [output.cells] * len(wanted)
        losses: dict[str, Tensor] = self._detector.compute_loss(
            wanted, heads, cells, list(output.level_sizes)
        )
        return losses


def stride_cells(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(A, 4) the cell of each location. torchvision's generator divides the picture by the map and
    rounds, which in small pictures shifts the coarse levels: 57 pixels a step instead of 64.
    """
    anchors = grid_anchors(shapes, LEVEL_STRIDES, device)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    half = (anchors[:, 2:] - anchors[:, :2] + 1) / ANCHOR_STRIDES / 2
    return torch.cat([centres - half, centres + half], 1)


class Start(NamedTuple):
    """What a run starts from."""

    config: ModelConfig
    """Of the GLIP model whose run it is: pixels, image encoder, width."""
    keys: tuple[str, ...] | None
    """Classes of an earlier baseline; None if the weights are GLIP's."""
    state: Mapping[str, Tensor]


def read_start(path: Path) -> Start:
    """Weights of GLIP or of an earlier baseline.

    Raises:
        CheckpointError: Neither of them.
    """
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors" and path.is_file():
        with contextlib.suppress(SafetensorError), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    if METADATA not in metadata:
        weights = read(path)
        return Start(weights.config, None, weights.state)
    content = json.loads(metadata[METADATA])
    config = from_dict(ModelConfig, content["config"], where=f"{path}: config")
    return Start(config, tuple(content["classes"]), load_file(path))


def load_start(detector: ClosedSetDetector, classes: Classes, first: Start) -> None:
    """Give a detector all weights of an earlier one, or the image encoder of a GLIP model.

    Raises:
        CheckpointError: They do not fit, or belong to a baseline of other classes.
    """
    module: nn.Module = detector
    state = dict(first.state)
    if first.keys is None:
        module = detector.backbone.body
        state = {
            name.removeprefix(ENCODER): tensor
            for name, tensor in state.items()
            if name.startswith(ENCODER)
        }
    elif first.keys != classes.keys:
        raise CheckpointError(
            f"the weights to start from know {len(first.keys)} classes, the data of this run has "
            f"{len(classes)}, and not all are the same; start from weights with the same sources"
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights to start from do not fit the baseline: {str(error).splitlines()[-1]}"
        ) from error


def save_closed_set(
    path: Path, config: ModelConfig, classes: Classes, state: Mapping[str, Tensor]
) -> None:
    """Write the weights of a baseline, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    header = {"config": config.to_dict(), "classes": classes.keys}
    save_file(tensors, part, metadata={METADATA: json.dumps(header)})
    os.replace(part, path)


# --------------------------------------------------------------------------------------- prediction


class ClosedSetPredictor:
    """Answers prompts made of class names, so that `glip.evaluation` measures it like a detector.

    Args:
        detector: The weights to measure.
        classes: Its classes.
        pixels: What pictures become.
        device: Where it runs.
    """

    pace = USUAL

    def __init__(
        self,
        detector: ClosedSetDetector,
        classes: Classes,
        pixels: PixelConfig,
        device: torch.device,
    ) -> None:
        self._detector = detector.to(device).eval()
        self._classes = classes
        self.pixels = pixels
        self._device = device

    def prepare(self, source: ImageLike, number: int = 0) -> Prepared:
        """A picture as the model takes it, at GLIP's own size."""
        image = load_image(source)
        pixels = to_pixels(resize(image, self.pixels), self.pixels)
        return Prepared(number, pixels, (image.height, image.width))

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        *,
        options: PostprocessOptions | None = None,
    ) -> list[list[Detections]]:
        """Detections of each picture for the class names of each of its prompts, one by one.

        Raises:
            ConfigError: A name that is none of the classes.
        """
        options = options or PostprocessOptions()
        self._detector.nms_thresh = options.nms
        self._detector.topk_candidates = options.candidates_per_level
        self._detector.detections_per_img = options.max_detections
        return [
            [self._detect(picture, prompt) for prompt in own]
            for picture, own in zip(pictures, prompts, strict=True)
        ]

    @torch.inference_mode()
    def _detect(self, picture: Prepared, prompt: Prompt) -> Detections:
        asked = Tokens.pad([tuple(map(self._classes.row, prompt.names))]).to(self._device)
        output = self._detector(pad_batch([picture.pixels]).to(self._device), asked)
        [found] = self._detector.find(output, [picture.resized_hw])
        phrase_of = torch.zeros(output.logits.shape[2], dtype=torch.int64)
        phrase_of[output.rows[0].cpu()] = torch.arange(len(prompt.names))
        boxes = rescale(found["boxes"], picture.resized_hw, picture.original_hw)
        return Detections(
            to_edges(boxes, picture.original_hw).cpu().numpy(),
            found["scores"].cpu().numpy(),
            phrase_of[found["labels"].cpu()].numpy(),
            prompt,
            picture.original_hw,
        )


# ------------------------------------------------------------------------------------------ the run


def learner(
    model: nn.Module, config: RunConfig, parts: FreezeConfig
) -> tuple[TrainState, tuple[str, ...]]:
    """A run at its first step, and the modules that rest; as `glip.training.run` sets one up."""
    resting = freeze(model, parts)
    wrapped = parallelise(model)  # type: ignore[arg-type] # DDP takes any module
    # The pyramid learns as fast as GLIP's, which is no part of its backbone.
    parameters = (
        (name.replace("backbone.fpn.", "neck."), parameter)
        for name, parameter in model.named_parameters()
    )
    state = TrainState(
        wrapped,
        build_optimizer(parameters, config.optimizer),
        torch.amp.GradScaler(enabled=False),
        ema=None if config.ema is None else Ema(model, config.ema),
    )
    return state, resting


def image_parts(config: FreezeConfig) -> FreezeConfig:
    """What rests in the image encoder; the other parts of GLIP are not there."""
    parts = tuple(part for part in config.parts if part.startswith("backbone."))
    return replace(config, parts=parts)


def sampler_of(
    config: RunConfig, sources: Sequence[Source], *, steps: int, first: int
) -> MixtureSampler:
    """The draws of a run, those of `glip.training.run`."""
    per_process, rest = divmod(config.batch_size, world_size() * config.accumulate)
    if rest or not per_process:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be divided among {world_size()} processes and "
            f"{config.accumulate} batches of each"
        )
    return MixtureSampler(
        [len(source) for source in sources],
        batch_size=per_process,
        steps=steps * config.accumulate,
        seed=config.seed,
        weights=[source.weight for source in config.data.sources],
        start=first * config.accumulate,
        rank=rank(),
        world_size=world_size(),
        is_tall=[s.is_tall() for s in sources] if config.data.group_by_shape else None,
    )


def train_baseline(
    config: RunConfig, first: Start, output: Path, device: torch.device, *, resume: bool = False
) -> ClosedSetPredictor:
    """Train as configured and leave `model_final.safetensors`; a collective call.

    Args:
        config: The run; its steps count, its evaluation does not.
        first: What to start from.
        output: Folder of the run.
        device: Of this process.
        resume: Go on from the newest checkpoint, if there is one.
    Returns:
        The trained detector.
    Raises:
        GlipError: Data, weights or options that do not fit, or a folder that already holds a run.
    """
    if config.steps is None:
        raise ConfigError("the run has no number of steps: set `steps` in the file, or --steps")
    checkpoints = CheckpointFolder(output / "checkpoints", config.keep_checkpoints)
    if not resume and checkpoints.path.exists():
        raise ConfigError(
            f"{output} already holds a run; go on with it (--resume), or choose another folder"
        )
    wait_for_all()  # nobody writes before everybody has looked
    sources, classes = closed_sources(config, first.config)
    pixels = first.config.pixels
    torch.manual_seed(config.seed)
    detector = ClosedSetDetector(first.config, len(classes)).to(device)
    load_start(detector, classes, first)
    state, resting = learner(detector, config, image_parts(config.freeze))
    seed_generators(config.seed)
    if resume:
        checkpoints.load_newest(state)
    loader = training_loader(
        ClosedSet(sources, classes, pixels, config.data.augment),
        sampler_of(config, sources, steps=config.steps, first=state.step),
        workers=config.data.workers,
    )
    with Recorder(output, config.steps, start=state.step, pictures=config.batch_size) as recorder:
        train(
            state,
            loader,
            cast(Criterion, ClosedSetCriterion(detector)),
            Schedule(config.schedule, config.steps),
            loop_of(config, config.steps),
            resting=resting,
            report=recorder.step,
            save=checkpoints.save,
        )
    if state.ema is not None:
        unwrapped(state.model).load_state_dict(state.ema.average)
    tensors = {name: tensor.detach().cpu() for name, tensor in detector.state_dict().items()}
    final = output / "model_final.safetensors"
    on_main(lambda: save_closed_set(final, first.config, classes, tensors))
    return ClosedSetPredictor(detector, classes, pixels, device)


def closed_sources(config: RunConfig, model: ModelConfig) -> tuple[list[Source], Classes]:
    """The data of a run and all classes in it.

    Raises:
        ConfigError: No data, or captions.
    """
    if not config.data.sources:
        raise ConfigError("data.sources is empty; name at least one data set to train on")
    # Untrained: sources want a detector for its tokenizer and limits.
    glip = Detector.from_weights(Weights(model, build(model).state_dict()))
    sources = [training_source(source, glip) for source in config.data.sources]
    names = [name for source in detection_sources(sources) for name in source.data.names]
    return sources, Classes(names)


def loop_of(config: RunConfig, steps: int) -> LoopConfig:
    """The loop of a run up to a step."""
    return LoopConfig(
        steps,
        accumulate=config.accumulate,
        precision=config.precision,
        clip_norm=config.optimizer.clip_norm,
        log_every=min(config.log_every, steps),
        save_every=config.save_every,
    )


# -------------------------------------------------------------------------------------------- speed


class Racer(NamedTuple):
    """A detector that is timed."""

    name: str
    state: TrainState
    resting: tuple[str, ...]
    batches: Iterator[Batch]
    criterion: Criterion


def compare_speed(
    config: RunConfig, first: Start, glip: Path, *, seconds: float = 30.0, turns: int = 3
) -> dict[str, float]:
    """Pictures a second of both detectors in training, in turns in this process.

    Args:
        config: The run.
        first: What the baseline starts from.
        glip: Weights that GLIP starts from.
        seconds: Of one turn of one detector.
        turns: Of each.
    Returns:
        Of "baseline" and "glip" pictures a second and millions of parameters, of all and of those
        that work on a picture.
    """
    sources, classes = closed_sources(config, first.config)
    pixels = first.config.pixels
    detector = ClosedSetDetector(first.config, len(classes))
    load_start(detector, classes, first)
    other = starting_point(replace(config, weights=os.fspath(glip)), torch.device("cpu"))
    sets: tuple[Samples, ...] = (
        ClosedSet(sources, classes, pixels, config.data.augment),
        TrainingSet(sources, other.tokenizer, pixels, config.data.augment),
    )
    endless = sampler_of(config, sources, steps=10**6, first=0)
    loaders: list[DataLoader[Batch]] = [training_loader(one, endless, workers=0) for one in sets]
    racers = [
        Racer(
            "baseline",
            *learner(detector, config, image_parts(config.freeze)),
            iter(loaders[0]),
            cast(Criterion, ClosedSetCriterion(detector)),
        ),
        Racer("glip", *learner(other.model, config, config.freeze), iter(loaders[1]), Criterion()),
    ]
    spent, steps = [0.0, 0.0], [0, 0]
    for turn in tqdm(range(turns + 1), unit="turn"):  # the first one only warms up
        for number, racer in enumerate(racers):
            began, taken = time.perf_counter(), 0
            while time.perf_counter() - began < (seconds if turn else 0.0) or not taken:
                train(
                    racer.state,
                    racer.batches,
                    racer.criterion,
                    Schedule(config.schedule, 10**6),
                    loop_of(config, racer.state.step + 1),
                    resting=racer.resting,
                )
                taken += 1
            if turn:
                spent[number] += time.perf_counter() - began
                steps[number] += taken
    result = {}
    for number, racer in enumerate(racers):
        result[f"{racer.name}, pictures/s"] = steps[number] * config.batch_size / spent[number]
        sizes = {n: p.numel() / 1e6 for n, p in racer.state.model.named_parameters()}
        result[f"{racer.name}, M parameters"] = sum(sizes.values())
        result[f"{racer.name}, M parameters without text"] = sum(
            size for name, size in sizes.items() if not name.startswith("text.")
        )
    return result


# --------------------------------------------------------------------------------- the command line


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="YAML", help="of the GLIP run")
    parser.add_argument(
        "--weights", type=Path, required=True, help="GLIP weights, or those of an earlier baseline"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/baseline"), metavar="DIR")
    parser.add_argument("--steps", type=int, help="instead of those of the file")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument(
        "--val",
        action="append",
        default=[],
        metavar="FILE",
        help="to measure it on; may come again",
    )
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--against", type=Path, metavar="GLIP", help="only compare speed with it")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, then measure."""
    args = parse(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    device = start()
    logging.basicConfig(
        level=logging.INFO if is_main() else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    steps = [] if args.steps is None else [f"steps={args.steps}", "epochs=null"]
    try:
        config = read_run(args.config_file, [*args.overrides, *steps])
        first = read_start(args.weights)
        if args.against is not None:
            for name, value in compare_speed(config, first, args.against).items():
                print(f"{name:<40} {value:8.2f}")
            return 0
        with logging_redirect_tqdm():  # log lines above the progress bar, not through it
            predictor = train_baseline(config, first, args.output, device, resume=args.resume)
        for path in map(Path, args.val):
            folder = args.output / "evaluation" / f"{path.resolve().parent.name}_{path.stem}"
            settings = {"detector": "closed-set baseline", "steps": config.steps}
            results = run_task(TaskOptions("custom"), predictor, [path], folder, settings=settings)
            if is_main():
                print(f"{path}\n{results_table(results)}")
        if is_main():
            print(f"written: {args.output}", file=sys.stderr)
        return 0
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        stop()


if __name__ == "__main__":
    sys.exit(main())
