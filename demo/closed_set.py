"""A small detector of a few fixed classes from labelled pictures, measured on others.

python demo/closed_set.py --train labelled/coco/annotations.json --images photos \
    --val val.json --val-images pictures --weights glip_nano --output runs/closed_set

torchvision's FCOS (arXiv 1904.01355) on the visual half of a GLIP: no words, so it is several times
faster than the teacher whose labels it learns from. Give it the labels of a model or of people, and
compare.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.transforms.functional import to_tensor
from tqdm import tqdm

from glip.config import PixelConfig
from glip.data.formats.recognise import read_annotated
from glip.data.pictures import Pictures
from glip.data.records import DetectionData, DetectionRecord
from glip.detector import load
from glip.errors import DataError, GlipError
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.predictions import Prediction
from glip.model.glip import GLIP

LEVELS = ("p3", "p4", "p5", "p6", "p7")


class Features(nn.Module):
    """The visual half of a GLIP, as torchvision's detectors take it."""

    def __init__(self, model: GLIP, pixels: PixelConfig) -> None:
        super().__init__()
        self.backbone, self.neck = model.backbone, model.neck
        self.flip = pixels.order == "bgr"
        self.out_channels: int = model.neck.p6.out_channels

    def forward(self, pixels: Tensor) -> OrderedDict[str, Tensor]:
        """Five maps by name, finest first, of (B, 3, H, W) in RGB."""
        maps = self.neck(self.backbone(pixels.flip(1) if self.flip else pixels))
        return OrderedDict(zip(LEVELS, maps, strict=True))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, metavar="PATH", help="labels to learn from")
    parser.add_argument("--images", metavar="PATH", help="of --train; by default beside it")
    parser.add_argument("--val", required=True, metavar="PATH", help="labels to be measured by")
    parser.add_argument("--val-images", metavar="PATH", help="of --val; by default beside it")
    parser.add_argument("--weights", metavar="NAME", help="whose visual half to start from")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--short-side", type=int, default=320, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def build(args: argparse.Namespace, classes: int) -> FCOS:
    """The detector: features of the weights, a new head."""
    teacher = load(args.weights, device="cpu")
    pixels = teacher.config.pixels
    return FCOS(
        Features(teacher.model, pixels),
        num_classes=classes,
        min_size=args.short_side,
        max_size=args.short_side * 5 // 3,
        image_mean=[value / 255 for value in pixels.mean],
        image_std=[value / 255 for value in pixels.std],
    )


def read(path: str, images: str | None) -> tuple[DetectionData, Pictures]:
    """Labels with classes, and their pictures."""
    annotated = read_annotated(path, images)
    if not isinstance(annotated.data, DetectionData):
        raise DataError(f"{path} has captions; classes are needed")
    return annotated.data, annotated.pictures


def sample(
    pictures: Pictures, record: DetectionRecord, *, mirrored: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """(3, H, W) in [0, 1], and boxes with class rows."""
    picture = to_tensor(pictures.read(record.file_name))
    keep = ~record.crowd
    boxes = torch.from_numpy(record.boxes[keep]).float()
    if mirrored:
        picture, width = picture.flip(2), picture.shape[2]
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    return picture, {"boxes": boxes, "labels": torch.from_numpy(record.labels[keep])}


def train(
    model: FCOS,
    data: DetectionData,
    pictures: Pictures,
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    """One cycle of learning rates; pictures without labels are left out, as a model that found
    nothing need not be right.
    """
    rows = [row for row, record in enumerate(data.records) if (~record.crowd).any()]
    if not rows:
        raise DataError(f"{data.path} has no labels to learn from")
    chance = random.Random(args.seed)
    steps = args.epochs * -(-len(rows) // args.batch_size)
    groups = [
        {"params": model.backbone.parameters(), "lr": args.lr},
        {"params": model.head.parameters(), "lr": 5 * args.lr},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=steps, pct_start=0.1
    )
    model.train()
    model.backbone.eval()  # its statistics are those of more pictures than there are here
    with tqdm(total=steps, desc="train", unit="step") as bar:
        for _ in range(args.epochs):
            order = chance.sample(rows, len(rows))
            for start in range(0, len(order), args.batch_size):
                batch = [
                    sample(pictures, data.records[row], mirrored=chance.random() < 0.5)
                    for row in order[start : start + args.batch_size]
                ]
                inputs = [picture.to(device) for picture, _ in batch]
                targets = [{k: v.to(device) for k, v in target.items()} for _, target in batch]
                losses = model(inputs, targets)
                loss = sum(losses.values(), torch.zeros((), device=device))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                bar.update()
                bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)


@torch.inference_mode()
def measure(
    model: FCOS,
    names: tuple[str, ...],
    data: DetectionData,
    pictures: Pictures,
    device: torch.device,
) -> dict[str, float]:
    """COCO average precision."""
    id_there = torch.tensor([data.category_ids[data.names.index(name)] for name in names])
    evaluator = CocoEvaluator(data)
    model.eval()
    for record in tqdm(data.records, desc="measure", unit="picture"):
        [found] = model([to_tensor(pictures.read(record.file_name)).to(device)])
        evaluator.update(
            Prediction(
                record.image_id,
                found["boxes"].cpu().numpy(),
                found["scores"].cpu().numpy(),
                id_there[found["labels"].cpu()].numpy(),
            )
        )
    return evaluator.compute()


def run(args: argparse.Namespace) -> None:
    """Train, measure, write the weights and what was measured."""
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels, photos = read(args.train, args.images)
    truth, others = read(args.val, args.val_images)
    if missing := set(labels.names) - set(truth.names):
        raise DataError(f"{args.val} does not know the class {min(missing)!r} of {args.train}")
    model = build(args, len(labels.names)).to(device)
    train(model, labels, photos, args, device)
    results = measure(model, labels.names, truth, others, device)
    args.output.mkdir(parents=True, exist_ok=True)
    torch.save({"names": labels.names, "model": model.state_dict()}, args.output / "closed_set.pth")
    (args.output / "results.json").write_text(
        json.dumps({"train": args.train, **results}, indent=1)
    )
    print("\n".join(f"{name:<6} {100 * results[name]:6.1f}" for name in ("AP", "AP50", "AP75")))
    print(f"written: {args.output}", file=sys.stderr)


def main() -> int:
    """Returns the exit code."""
    try:
        run(parse())
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
