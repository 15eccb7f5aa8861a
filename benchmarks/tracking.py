"""What tracks are worth on made-up clips, and the memory of a job against the length of its film.

    python benchmarks/tracking.py
    python benchmarks/tracking.py --model glip_nano --out clips
    python benchmarks/tracking.py --memory glip_nano

Cut-outs of the sample photos move over a blurred background: most cross the picture in either
direction and leave it, some turn back, and who is in front hides the others. A thing counts in a
frame while a quarter of it is to be seen. Without options no model looks: the true boxes are moved,
dropped and mixed with false ones, so the numbers are those of the association alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from latency import peak_memory
from PIL import Image, ImageFilter

import glip
from glip.association.byte_track import Tracker
from glip.association.follow import follow, looks
from glip.evaluation.tracking import Tracked, TrackMeasures, track_measures
from glip.samples import SAMPLE_SET
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.video.writing import whole_film

WIDTH, HEIGHT = 480, 360
RATE = 25
NAMES = ("person", "cat", "cup")
LEAST_VISIBLE = 0.25
"""Share of a thing that must be to be seen for it to count."""

DROPPED, MOVED, FALSE = 0.1, 0.03, 0.5
"""Share of true boxes that is missed; deviation of an edge in sizes of the box; boxes a frame."""


@dataclass(frozen=True)
class Thing:
    """A cut-out on its way; later ones are in front of earlier ones."""

    name: str
    picture: Image.Image
    places: npt.NDArray[np.int64]
    """(F, 2) left and top in each frame, pixels; may lie outside."""


@dataclass(frozen=True)
class MadeClip:
    """A clip, not drawn yet."""

    things: tuple[Thing, ...]
    background: Image.Image
    frames: int

    def pictures(self) -> Iterator[Image.Image]:
        """Its frames, one after the other."""
        for number in range(self.frames):
            frame = self.background.copy()
            for thing in self.things:
                left, top = thing.places[number].tolist()
                frame.paste(thing.picture, (left, top))
            yield frame

    def truth(self) -> list[tuple[Tracked, npt.NDArray[np.float64]]]:
        """The boxes of each frame, clipped to it, with the share of each that is to be seen."""
        return [self._truth(number) for number in range(self.frames)]

    def _truth(self, number: int) -> tuple[Tracked, npt.NDArray[np.float64]]:
        in_front = np.full((HEIGHT, WIDTH), -1)
        boxes = []
        for row, thing in enumerate(self.things):
            near = thing.places[number]
            x1, y1 = np.clip(near, 0, (WIDTH, HEIGHT)).tolist()
            x2, y2 = np.clip(near + thing.picture.size, 0, (WIDTH, HEIGHT)).tolist()
            in_front[y1:y2, x1:x2] = row
            boxes.append((x1, y1, x2, y2))
        sizes = np.array([thing.picture.width * thing.picture.height for thing in self.things])
        shares = np.bincount(in_front[in_front >= 0], minlength=len(self.things)) / sizes
        ids = np.nonzero(shares >= LEAST_VISIBLE)[0]
        names = [self.things[row].name for row in ids]
        return Tracked(ids.tolist(), np.array(boxes, float)[ids], names), shares[ids]


def cut_outs() -> list[tuple[str, Image.Image]]:
    """The large things of the samples with their names."""
    content = json.loads((SAMPLE_SET / "train.json").read_text())
    names = {row["id"]: row["name"] for row in content["categories"]}
    files = {row["id"]: row["file_name"] for row in content["images"]}
    found = []
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        if names[row["category_id"]] in NAMES and min(width, height) >= 150:
            with Image.open(SAMPLE_SET / files[row["image_id"]]) as photo:
                cut = photo.convert("RGB").crop(
                    (round(x), round(y), round(x + width), round(y + height))
                )
            found.append((names[row["category_id"]], cut))
    return found


def made_clip(seed: int, frames: int, things: int = 5) -> MadeClip:
    """A clip of its own for each seed."""
    random = np.random.default_rng(seed)
    noise = Image.fromarray(random.integers(60, 200, (6, 8, 3), dtype=np.uint8))
    background = noise.resize((WIDTH, HEIGHT)).filter(ImageFilter.GaussianBlur(12))
    cuts = cut_outs()
    moving = []
    for row in range(things):
        name, cut = cuts[int(random.integers(len(cuts)))]
        scale = random.uniform(90, 150) / max(cut.size)
        cut = cut.resize((round(cut.width * scale), round(cut.height * scale)))
        moving.append(Thing(name, cut, _way(random, row, frames, cut.size)))
    return MadeClip(tuple(moving), background, frames)


def _way(
    random: np.random.Generator, row: int, frames: int, size: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """(F, 2) across the picture, from the left and the right in turns; each third turns back."""
    pixels = random.uniform(2, 5)  # a frame
    along = np.arange(frames) * pixels + random.uniform(-size[0], WIDTH / 3)
    if row % 3 == 2:
        reach = WIDTH - size[0]
        along = reach - np.abs(reach - np.mod(along, 2 * reach))
    left = along if row % 2 == 0 else WIDTH - size[0] - along
    sway = 15 * np.sin(np.arange(frames) / random.uniform(8, 20))
    top = random.uniform(20, HEIGHT - size[1] - 20) + sway
    return np.stack([left, top], axis=1).round().astype(np.int64)


def seen_badly(clip: MadeClip, seed: int) -> list[Detections]:
    """The true boxes of each frame as a detector might give them; half hidden things score low."""
    random = np.random.default_rng(seed)
    prompt = Prompt.from_classes(list(NAMES))
    frames = []
    for truth, shares in clip.truth():
        assert truth.names is not None
        kept = random.random(len(shares)) >= DROPPED
        sizes = np.tile(truth.boxes[:, 2:] - truth.boxes[:, :2], 2)
        boxes = truth.boxes + random.normal(0, MOVED, sizes.shape) * sizes
        scores = np.where(shares < 0.6, random.uniform(0.1, 0.4, len(shares)), 0.0)
        scores = np.where(shares < 0.6, scores, random.uniform(0.35, 0.9, len(shares)))
        phrases = np.array([NAMES.index(name) for name in truth.names], np.int64)
        more = int(random.poisson(FALSE))
        corners = random.uniform(0, (WIDTH - 100, HEIGHT - 100), (more, 2))
        wrong = np.concatenate([corners, corners + random.uniform(40, 100, (more, 2))], axis=1)
        frames.append(
            Detections(
                np.concatenate([boxes[kept], wrong]).astype(np.float32),
                np.concatenate([scores[kept], random.uniform(0.1, 0.5, more)]).astype(np.float32),
                np.concatenate([phrases[kept], random.integers(0, len(NAMES), more)]),
                prompt,
                (HEIGHT, WIDTH),
            )
        )
    return frames


def associated(frames: Sequence[Detections], every: int) -> list[Tracked]:
    """The tracks of these boxes when only each n-th frame is looked at."""
    due = ((None, found if look else None) for found, look in looks(frames, every))
    return [
        Tracked(
            [] if found.track_ids is None else found.track_ids.tolist(), found.boxes, found.phrases
        )
        for _, found in follow(due, Tracker())
    ]


def of_clips(pairs: Sequence[tuple[Sequence[Tracked], Sequence[Tracked]]]) -> TrackMeasures:
    """The measures over all clips as one: the tracks of each stay its own."""

    def joined(side: int) -> Iterator[Tracked]:
        for number, pair in enumerate(pairs):
            for frame in pair[side]:
                yield frame._replace(ids=[(number, one) for one in frame.ids])

    return track_measures(joined(0), joined(1))


def tracked_by_model(
    clips: Sequence[MadeClip], weights: str, every: int, out: Path
) -> list[list[Tracked]]:
    """The tracks of `glip.track`, from its lines of JSON."""
    found = []
    for number, clip in enumerate(clips):
        film = out / f"clip-{number}.mp4"
        if not film.exists():
            write(clip, film)
        folder = out / f"clip-{number}-every-{every}"
        tracks = glip.track(film, folder, classes=NAMES, every=every, weights=weights)
        lines = map(json.loads, tracks.files["jsonl"].read_text().splitlines())
        frames = [line["tracks"] for line in lines]
        found.append(
            [
                Tracked(
                    [one["track"] for one in frame],
                    np.array([one["box"] for one in frame]).reshape(-1, 4),
                    [one["phrase"] for one in frame],
                )
                for frame in frames
            ]
        )
    return found


def write(clip: MadeClip, film: Path) -> None:
    """Draw a clip into a film, frame by frame."""
    with whole_film(film, rate=Fraction(RATE)) as add:
        for number, picture in enumerate(clip.pictures()):
            add(picture, number / RATE)


def print_memory(weights: str, frames: int, every: int) -> None:
    """Track a film of so many frames, and of four times as many, each in a process of its own."""
    for count in (frames, 4 * frames):
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / "clip.mp4"
            write(made_clip(0, count), film)
            options = ["--model", weights, "--every", str(every), "--memory-of", str(film)]
            command = [sys.executable, __file__, *options]
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"{count:>6,} frames: peak {peak.strip()} MiB")


def main() -> int:
    """The association alone, a model end to end, or memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, help="by default 20, with a model 2")
    parser.add_argument("--frames", type=int, help="of each; by default 200, with a model 60")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model", metavar="NAME", help="look with this one, through glip.track")
    parser.add_argument("--out", type=Path, help="where clips and tracks of a model stay")
    parser.add_argument("--memory", metavar="NAME", help="only the peak with this model")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        out = args.memory_of.parent / "out"
        glip.track(args.memory_of, out, classes=NAMES, every=args.every[0], weights=args.model)
        print(f"{peak_memory() / 2**20:.0f}")
        return 0
    if args.memory:
        print_memory(args.memory, args.frames or 150, args.every[-1])
        return 0
    frames = args.frames or (60 if args.model else 200)
    clips = [made_clip(seed, frames) for seed in range(args.clips or (2 if args.model else 20))]
    truth = [[boxes for boxes, _ in clip.truth()] for clip in clips]
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        for every in args.every:
            if args.model:
                found = tracked_by_model(clips, args.model, every, out)
            else:
                seen = [seen_badly(clip, seed) for seed, clip in enumerate(clips)]
                found = [associated(one, every) for one in seen]
            print(f"every {every}: {of_clips(list(zip(truth, found, strict=True)))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
