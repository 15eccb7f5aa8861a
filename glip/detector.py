"""Pictures and words in, boxes out: the border between what users have and what the model takes.

`load` makes a `Detector` from weights; `Detector.predict` turns pictures into pixels and words into
prompts, asks the engine (`glip/engine.py`), and hands back its detections. Knows nothing about
batches, passes or tensors of the model.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, TypeAlias, TypeGuard

import numpy as np

from glip.association.byte_track import Tracker
from glip.association.follow import follow, looks
from glip.association.options import FollowOptions
from glip.choices import Aggregate, DType
from glip.config import ModelConfig, PostprocessOptions
from glip.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ExportError,
    ImageError,
    PromptError,
    listed,
    shown,
)
from glip.images import ImageLike, ImageLikes, expand_sources, load_image
from glip.jobs.batches import USUAL, Pace, in_order, through_model
from glip.model_files import find_model, is_zero_shot, model_name
from glip.pixels import Prepared
from glip.progress import Counter, Progress, bars
from glip.runtime.engine import GraphEngine
from glip.runtime.manifest import is_exported
from glip.runtime.postprocess import Found, relabelled
from glip.settings import within
from glip.structures import Detections, GroundedPhrase
from glip.task_prompt import TaskPrompt, read_prompt, rows_of
from glip.text.prompt import PhraseLike, Prompt, reads_as
from glip.text.question import Question, question
from glip.text.tokenizer import Tokenizer
from glip.video.reading import Clip, ClipLike, Frame, FrameAt, is_video

if TYPE_CHECKING:  # torch takes seconds to import, and exported models do without it
    import torch

    from glip.checkpoint import Weights
    from glip.engine import Engine
    from glip.model.glip import GLIP
    from glip.zero_shot.engine import ZeroShotEngine

logger = logging.getLogger(__name__)

PromptLike = Prompt | str | Sequence[str]


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: DType | torch.dtype = "float32",
    prompt: str | os.PathLike[str] | None = None,
    threads: int | None = None,
) -> Detector:
    """A detector, ready to predict.

    Args:
        source: A weights file (ours or an official one), a folder that `glip export` wrote (which
            runs without torch), a folder or the Hub's name of a zero-shot detector of transformers
            ("IDEA-Research/grounding-dino-tiny"), or the name of a model; by default the small
            model that ships with the package. For a name, a local file is looked for first,
            then the Hugging Face Hub (see `glip.model_files.find_model`).
        weights: The file to take for the named model instead; it must hold that architecture.
        device: Such as "cpu" or "cuda:1"; by default a GPU if there is one, and the CPU for an
            exported model.
        dtype: Number format of the model, by name or as `torch.bfloat16`; that of an exported model
            was chosen when it was written. Alignment, boxes and
            scores stay in float32 in any case, and so does all of the model on a processor that is
            slow in bfloat16 (see `glip.engine.usable_dtype`).
        prompt: A learned prompt (NAME.prompt.safetensors) to answer, and nothing else: there is no
            text encoder in the model then. `Detector.with_prompt` puts one beside it instead.
        threads: Processor threads of one prediction of an exported model; by default as many as
            OMP_NUM_THREADS says, or the runtime takes. Those of torch belong to the process
            (`torch.set_num_threads`).
    Raises:
        CheckpointError: No such weights, or they are damaged, unsafe, or of another model; a prompt
            that was made for others.
        DeviceError: The device is not on this machine.
        ConfigError: `dtype` is none of the three; `threads` below 1, or not for an exported model.
    """
    place = weights if weights is not None else source
    if place is not None and is_exported(Path(place)):  # before anything that needs torch
        return Detector(_exported(Path(place), device, prompt, threads))
    if threads is not None:
        raise ConfigError(
            "threads are chosen for exported models only; torch has one number for the whole "
            f"process: torch.set_num_threads({threads}), or OMP_NUM_THREADS={threads}"
        )
    path = find_model(place)  # what is nowhere is said before torch is imported
    from glip.engine import load_engine, usable_device, usable_dtype

    if place is None or not is_zero_shot(path):
        wanted = None if weights is None or source is None else os.fspath(source)
        return Detector(load_engine(path, device, dtype, prompt, architecture=wanted))
    if prompt is not None:
        raise CheckpointError(
            f"{os.fspath(place)} is a model of transformers, which takes no learned prompt; those "
            "are for the GLIP weights they were made with"
        )
    from glip.zero_shot.engine import ZeroShotEngine

    target = usable_device(device)
    name = model_name(place, path)
    number_format = usable_dtype(dtype, target)
    return Detector(ZeroShotEngine(path, name=name, device=target, dtype=number_format))


def _exported(
    folder: Path,
    device: str | torch.device | None,
    prompt: str | os.PathLike[str] | None,
    threads: int | None,
) -> GraphEngine:
    if prompt is not None:
        raise CheckpointError(
            f"{folder} is an exported model, whose words cannot be replaced; bake the prompt in: "
            f"glip export --task {os.fspath(prompt)}"
        )
    return GraphEngine(folder, device="cpu" if device is None else str(device), threads=threads)


@dataclass(frozen=True)
class Outcome:
    """What became of one picture of a stream: detections, or the reason why there are none."""

    index: int
    """Place in the list of pictures, folders expanded; all frames of a film have that of the
    film."""
    source: ImageLike | FrameAt
    """The picture as it was handed in, or where the frame is in its film."""
    detections: Detections | None
    error: ImageError | None = None


class Detector:
    """A model with all it needs around it.

    Any number of threads may use one detector at the same time. Encoded texts are remembered: after
    a change of the model's weights make a new detector.

    Attributes:
        engine: The model side: of torch (`glip.engine`), of an exported model
            (`glip.runtime.engine`) or of transformers (`glip.zero_shot.engine`).
        config: What the model was built from.
        tokenizer: Of its text encoder.
        device: Where it runs.
        dtype: Number format of its features; of an exported model, of its weights.
        task: The learned prompt that it answers, see `with_prompt`; None for a free choice of
            words.
        shortlist: Most class names that are looked for in a whole picture, see `with_shortlist`;
            None for all.
    """

    def __init__(
        self, engine: Engine | GraphEngine | ZeroShotEngine, *, shortlist: int | None = None
    ) -> None:
        self.engine = engine
        self.shortlist = shortlist
        self.config: ModelConfig = engine.config
        self.tokenizer: Tokenizer = engine.tokenizer
        self.task: TaskPrompt | None = engine.task
        self.device = engine.device
        self.dtype = engine.dtype

    @classmethod
    def from_weights(
        cls,
        weights: Weights,
        *,
        device: torch.device | str = "cpu",
        dtype: DType | torch.dtype = "float32",
        task: TaskPrompt | None = None,
    ) -> Detector:
        """A detector from weights that were read already (`glip.checkpoint.read`).

        With a learned prompt there is no text encoder in it, see `load`.
        """
        from glip.engine import Engine

        return cls(Engine.from_weights(weights, device=device, dtype=dtype, task=task))

    @property
    def torch_engine(self) -> Engine:
        """The engine, of a detector that runs by torch: what training and tuning need.

        Raises:
            ExportError: The detector runs an exported model or one of transformers, of which only
                predictions can be had.
        """
        if isinstance(self.engine, GraphEngine):
            raise ExportError(
                f"{self.engine.folder} is an exported model, of which only predictions can be had; "
                "load the weights that it was made from"
            )
        from glip.engine import Engine

        if not isinstance(self.engine, Engine):
            raise ExportError(
                f"{self.config.name} is a model of transformers, of which only predictions can be "
                "had; export, learned prompts and training are for GLIP weights"
            )
        return self.engine

    @property
    def model(self) -> GLIP:
        """In evaluation mode on `device`.

        Raises:
            ExportError: As of `torch_engine`.
        """
        return self.torch_engine.model

    @property
    def fingerprint(self) -> str:
        """What tells this model from others, for the prompts that are learned for it."""
        return self.engine.fingerprint

    @property
    def pace(self) -> Pace:
        """How many threads read pictures for it, and ask it: more on a GPU, which else waits."""
        gpu = str(self.device).startswith("cuda")
        return Pace.on_gpu(self.engine.at_once) if gpu else USUAL

    def __reduce__(self) -> NoReturn:
        """Neither pickled nor copied: it holds locks, and what lies on its device.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{self!r} cannot be pickled or copied: call glip.load in each process that needs one; "
            "threads may share one"
        )

    def __repr__(self) -> str:
        """Model, device, number format, threshold and, with a learned prompt, its classes."""
        dtype = str(self.dtype).removeprefix("torch.")
        names = "" if self.task is None else f", only {listed(self.task.names, 5)}"
        return (
            f"<Detector: {self.config.name} on {self.device}, {dtype}, threshold "
            f"{self.lowest_threshold:g}{names}>"
        )

    def with_prompt(self, prompt: str | os.PathLike[str] | TaskPrompt) -> Detector:
        """This detector with a learned prompt in the place of its text encoder, which then rests.

        The new one shares all other weights with this one, which stays as it is; so one model holds
        any number of tasks, and switching costs nothing. Without words, `predict` looks for all
        classes of the task; class names choose some of them, in any order.

        Args:
            prompt: A file that `glip tune --mode prompt` wrote (NAME.prompt.safetensors), or its
                content.
        Raises:
            CheckpointError: No such file, or it was made for another model.
        """
        task = prompt if isinstance(prompt, TaskPrompt) else read_prompt(prompt)
        return Detector(self.torch_engine.with_task(task))

    def with_shortlist(self, names: int) -> Detector:
        """This detector, but for hundreds of class names: approximate, and faster there.

        All names are looked for at half the height and width, and only some of them, the most
        probable ones of each picture, in the whole picture. What a glance does not show is lost;
        `benchmarks/README.md` says how much that is. A prompt of no more names is asked as ever.

        Args:
            names: How many are looked for in the whole picture.
        Raises:
            ConfigError: Less than one, or a detector that does not run GLIP weights by torch, or
                that answers a learned prompt, which is one pass anyway.
        """
        within("shortlist", names, least=1, whole=True)
        if self.task is not None:
            raise ConfigError("a learned prompt is one pass, which no shortlist makes shorter")
        if isinstance(self.engine, GraphEngine) or self.engine.kind != "glip":
            raise ConfigError(
                f"{self.config.name} is no GLIP model that runs by torch, which a shortlist is "
                "for; leave it out"
            )
        return Detector(self.engine, shortlist=names)

    def predict(
        self,
        images: ImageLikes,
        prompts: PromptLike | Sequence[PromptLike] | None = None,
        *,
        threshold: float | Mapping[str, float] | None = None,
        nms: float = 0.6,
        max_detections: int = 100,
        aggregate: Aggregate | None = None,
        exclusive: bool = False,
        not_: Sequence[str] = (),
        wordings: Mapping[str, Sequence[str]] | None = None,
        template: str | None = None,
        shortlist: int | None = None,
        every: int = 1,
        batch_size: int = 1,
        progress: Progress | Literal[True] | None = None,
    ) -> list[Detections]:
        """Boxes for the phrases of a prompt in each picture.

        A list of pictures gives what its pictures give one by one, up to rounding: batches hold
        pictures of one padded size only. A film stands for its frames, whose detections say
        `found.source.number` and `.seconds`; `stream` gives them one at a time, and `track`
        follows things through them.

        Args:
            images: A path, a folder, a Pillow image, an array (H, W, 3), a tensor (3, H, W), all in
                RGB, or a list of any of them; see `glip.images.load_image`. Or a film: a file
                whose name ends like one (`glip.video.reading.SUFFIXES`), not in a folder.
            prompts: One prompt for all pictures: a text ("person. bicycle.", or a caption), a list
                of class names, or a `Prompt`. Or one for each picture: a list as long as the
                pictures whose members are prompts; as a plain list of strings is class names, at
                least one member must be a list or a `Prompt` (`Prompt.of("a cat on a mat")`).
                By default all classes of the learned prompt, if there is one.
            threshold: Detections score above this, in [0, 1]; by default that of the model's
                config, or what was fitted for each class of a learned prompt. Or one for some of
                the names, `{"person": 0.4}`; the others have the default. official: a region
                whose phrase has a probability of 0.05 or less is none, whatever the threshold.
            nms: IoU above which the lower-scored of two boxes of one phrase goes.
            max_detections: For each picture. official: equals of the last one stay as well.
            aggregate: How the scores of a phrase's tokens become one: "mean", "max" or "first"; by
                default as the model was trained, which is the mean for GLIP.
            exclusive: Boxes of different phrases suppress each other as well, so that each thing
                gets one phrase, the best. Leave it off where phrases name parts or kinds of others.
            not_: What is not meant, such as ["mannequin"]: looked for as well, and what answers it
                better than the prompt is no detection.
            wordings: For names of the prompt other words for the same, `{"sofa": ["couch"]}`, all
                of which are asked; what they find has the name.
            template: Such as "a photo of a {}", written around each class name.
            shortlist: For hundreds of class names: only this many, the most probable ones, are
                looked for in the whole picture. Approximate, see `with_shortlist`.
            every: Of a film, look at each n-th frame, from the first on.
            batch_size: Pictures that go through the model together; more than one helps on a GPU.
            progress: True for a bar, or what is told of each picture that is done.
        Returns:
            One `Detections` for each picture, and for each frame of a film that was looked at, best
            first, boxes in pixels of the original picture.
        Raises:
            ImageError: A picture cannot be used, or a film cannot be read to its end.
            PromptError: A prompt is empty or a phrase of it longer than the encoder.
            ConfigError: An option out of range, or PyAV is not installed for a film.
            DeviceError: Too little memory, or numbers that overflow in float16.
        """
        score = self.lowest_threshold if threshold is None else threshold
        if isinstance(score, Mapping):
            score = self._lowest(score)
        options = PostprocessOptions(
            score=score,
            nms=nms,
            max_detections=max_detections,
            aggregate=aggregate,
            exclusive=exclusive,
        )
        if not_ or wordings or template is not None:
            if shortlist is not None:
                raise ConfigError("a shortlist is for bare class names; leave the other words out")
            ask = partial(question, negatives=not_, wordings=wordings, template=template)
            found = self._answers(images, prompts, ask, options, every, batch_size, progress)
        else:
            outcomes = self.stream(
                images,
                prompts,
                options=options,
                shortlist=shortlist,
                every=every,
                batch_size=batch_size,
                progress=progress,
            )
            found = [_detections(outcome) for outcome in outcomes]
        if isinstance(threshold, Mapping):
            return [self._above(one, threshold) for one in found]
        if threshold is None and self.task is not None:
            return [self.above_fitted(one) for one in found]
        return found

    def _lowest(self, threshold: Mapping[str, float]) -> float:
        """What no detection may score below, whatever its phrase."""
        for name, value in threshold.items():
            if not isinstance(name, str):
                raise ConfigError(f"a threshold is for a name, got one for {shown(name)}")
            within(f"threshold of {name!r}", value, least=0, most=1, required=True)
        return min([*threshold.values(), self.lowest_threshold])

    def _above(self, found: Detections, thresholds: Mapping[str, float]) -> Detections:
        """The detections above what was said for their names, and else the default."""
        said = {reads_as(name): value for name, value in thresholds.items()}
        names = [reads_as(name) for name in found.prompt.names]
        strange = [name for name in thresholds if reads_as(name) not in names]
        if strange:
            raise ConfigError(
                f"a threshold for {strange[0]!r}, but names are {', '.join(found.prompt.names)}"
            )
        usual = self._usual_thresholds(found.prompt.names)
        limits = [said.get(name, least) for name, least in zip(names, usual, strict=True)]
        return _above_limits(found, limits)

    def _answers(
        self,
        images: ImageLikes,
        prompts: PromptLike | Sequence[PromptLike] | None,
        ask: Callable[[Prompt], Question],
        options: PostprocessOptions,
        every: int,
        batch_size: int,
        progress: Progress | Literal[True] | None,
    ) -> list[Detections]:
        """`predict` with wordings, a template or negatives."""
        if self.task is not None:
            raise PromptError(
                "a learned prompt has its own wordings and negatives; use the model without it"
            )
        sources = expand_sources(images)
        each = self._one_for_each(prompts, len(sources))
        questions = {prompt: ask(prompt) for prompt in set(each)}
        outcomes = self.stream(
            sources,
            [questions[prompt].asked for prompt in each],
            options=replace(options, max_detections=sys.maxsize, exclusive=False),
            every=every,
            batch_size=batch_size,
            progress=progress,
        )
        return [
            _answered(_detections(outcome), questions[each[outcome.index]], options)
            for outcome in outcomes
        ]

    @property
    def lowest_threshold(self) -> float:
        """The model's own, or the lowest of those fitted for the classes of a learned prompt."""
        fitted = () if self.task is None else self.task.thresholds
        return min(fitted, default=self.config.threshold)

    def above_fitted(self, found: Detections) -> Detections:
        """The detections above what was fitted for their classes; without that, all of them."""
        if self.task is None or not self.task.thresholds:
            return found
        return _above_limits(found, self._usual_thresholds(found.prompt.names))

    def _usual_thresholds(self, names: Sequence[str]) -> list[float]:
        """Of each name, what was fitted for it, or the model's own."""
        if self.task is None or not self.task.thresholds:
            return [self.lowest_threshold] * len(names)
        return [self.task.thresholds[row] for row in rows_of(names, self.task.names)]

    def ground(
        self,
        image: ImageLike,
        caption: str,
        phrases: Sequence[PhraseLike] | None = None,
        *,
        threshold: float | None = None,
        nms: float = 0.6,
        max_detections: int = 100,
    ) -> list[GroundedPhrase]:
        """Where the things are that a caption speaks of: each of its phrases with its boxes.

            for phrase in detector.ground("street.jpg", "a man in a red hat walks his dog"):
                print(phrase.text, phrase.boxes)

        Args:
            image: One picture, in any form that `predict` takes.
            caption: A sentence; all of it is read, so that words around a phrase count.
            phrases: What to look for in it: words of the caption, or [start, end) characters; by
                default all its noun phrases. See `Prompt.from_caption`.
            threshold: As of `predict`.
            nms: As of `predict`.
            max_detections: As of `predict`, over all phrases.
        Returns:
            All phrases in the order of the caption, also those of which nothing was found.
        Raises:
            ImageError, ConfigError, DeviceError: As `predict`.
            PromptError: A caption without words, or a phrase that is not in it.
        """
        prompt = Prompt.from_caption(caption, phrases)
        found = self.predict(
            [image], prompt, threshold=threshold, nms=nms, max_detections=max_detections
        )
        if len(found) != 1:
            raise ImageError(f"one picture has one caption, got {len(found)} pictures")
        order = sorted(range(len(prompt)), key=lambda row: prompt.phrases[row])
        return [
            GroundedPhrase(
                prompt.names[row], prompt.phrases[row], found[0][found[0].phrase_ids == row]
            )
            for row in order
        ]

    def stream(
        self,
        images: ImageLikes,
        prompts: PromptLike | Sequence[PromptLike] | None = None,
        *,
        options: PostprocessOptions | None = None,
        shortlist: int | None = None,
        every: int = 1,
        batch_size: int = 1,
        progress: Progress | Literal[True] | None = None,
    ) -> Iterator[Outcome]:
        """`predict` for many pictures: results come in order as they are ready, in constant memory.

        A picture that cannot be used is an outcome with an error; the rest goes on. So is a film
        that breaks off, behind the outcomes of its frames:

            for outcome in detector.stream("street.mp4", "person. dog.", every=5):
                print(outcome.source.seconds, outcome.detections)

        Args:
            images: As in `predict`.
            prompts: As in `predict`.
            options: By default the official test settings, which keep scores down to 0.
            shortlist: As in `predict`.
            every: As in `predict`.
            batch_size: As in `predict`.
            progress: As in `predict`.
        """
        within("every", every, least=1, whole=True)
        options = options or PostprocessOptions()
        detector = self if shortlist is None else self.with_shortlist(shortlist)
        sources = expand_sources(images)
        each = self._one_for_each(prompts, len(sources))
        for prompt in set(each):
            self.engine.passes.of(prompt)  # what cannot be used fails before any work is done

        def read(piece: _Piece) -> Prepared:
            if isinstance(piece.content, ImageError):
                raise piece.content
            if isinstance(piece.content, Frame):
                return self.prepare(piece.content.picture())
            return self.prepare(piece.content)

        def ask(batch: Sequence[tuple[_Numbered, Prepared]]) -> list[Detections]:
            asked = [[each[piece.place]] for (_, piece), _ in batch]
            found = detector.detect([picture for _, picture in batch], asked, options=options)
            return [own for (own,) in found]

        results = through_model(
            ((numbered, numbered[1]) for numbered in enumerate(_pieces(sources, every))),
            read,
            ask,
            size_of=lambda picture: picture.padded_hw,
            batch_size=batch_size,
            pace=self.pace,
        )
        ordered = in_order((n, (piece, result)) for (n, piece), result in results)
        with bars() if progress is True else contextlib.nullcontext(progress) as show:
            films = any(map(_is_film, sources))
            counter = Counter(show, "pictures", None if films else len(sources))
            for _, (piece, result) in ordered:
                error = result if isinstance(result, ImageError) else None
                found = result.remember(piece.source) if isinstance(result, Detections) else None
                counter.add()
                yield Outcome(piece.place, piece.source, found, error)

    def track(
        self,
        frames: ClipLike | Iterable[ImageLike],
        prompt: PromptLike | None = None,
        *,
        every: int = 1,
        threshold: float | None = None,
        low: float = 0.1,
        patience: int = 30,
        nms: float = 0.6,
        max_detections: int = 100,
        aggregate: Aggregate | None = None,
        exclusive: bool = False,
    ) -> Iterator[Detections]:
        """Things that a prompt names through the frames of a clip, in constant memory.

            for number, found in enumerate(detector.track("street.mp4", ["person", "dog"])):
                print(number, found.phrases, found.track_ids)

        Args:
            frames: A video file, the number of a camera, or pictures of one size in their order.
            prompt: What to look for; by default all classes of the learned prompt.
            every: Look at each n-th frame, and at the last; between them boxes move on a line.
            threshold: Boxes above this begin tracks; by default the model's.
            low: Boxes above this carry a track on.
            patience: Frames for which a track may be out of sight.
            nms, max_detections, aggregate, exclusive: As of `predict`.
        Yields:
            The `Detections` of each frame with their `track_ids`, one look later than the frame is
            read. A track begins when it is seen a second time.
        Raises:
            ConfigError: An option out of range, or PyAV is not installed.
            DataError: No such video or camera, or a broken one.
            ImageError: A picture that cannot be used.
        """
        following = FollowOptions(
            every, threshold, low, patience, nms, max_detections, aggregate, exclusive
        )
        association = following.association(self.lowest_threshold)
        options = following.of_detections(self.lowest_threshold)
        words = self._learned_prompt() if prompt is None else Prompt.of(prompt)

        def looked() -> Iterator[tuple[None, Detections | None]]:
            with contextlib.ExitStack() as stack:
                pictures: Iterable[ImageLike | Frame] = (
                    stack.enter_context(Clip(frames))
                    if isinstance(frames, (str, os.PathLike, int))
                    else frames
                )
                for picture, due in looks(pictures, every):
                    if not due:
                        yield None, None
                        continue
                    image = picture.picture() if isinstance(picture, Frame) else picture
                    [[found]] = self.detect([self.prepare(image)], [[words]], options=options)
                    yield None, found.remember(image)

        return (found for _, found in follow(looked(), Tracker(association)))

    def prepare(self, source: ImageLike, number: int = 0) -> Prepared:
        """A picture decoded, resized and normalised: the part of the work that any thread can do.

        Args:
            source: As one of the `images` of `predict`.
            number: Whatever the caller tells pictures apart by.
        Raises:
            ImageError: The picture cannot be used.
        """
        return self.engine.prepare(load_image(source), number)

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        *,
        options: PostprocessOptions | None = None,
        batch_size: int | None = None,
    ) -> list[list[Detections]]:
        """Several prompts over each of some prepared pictures; the backbone sees each once.

        Args:
            pictures: As `prepare` makes them.
            prompts: For each picture its own, of any length and number.
            options: By default the official test settings, which keep scores down to 0.
            batch_size: Most pictures that go through the model together; by default all of one
                padded size.
        Returns:
            For each picture one `Detections` for each of its prompts, best first.
        Raises:
            PromptError: A phrase is longer than the encoder.
            DeviceError: Too little memory, or numbers that overflow in float16.
        """
        options = options or PostprocessOptions()
        look = partial(self.engine.detect, batch_size=batch_size)
        if self.shortlist is None:
            return look(pictures, prompts, options)
        from glip.shortlist import detect_probable

        return detect_probable(look, pictures, prompts, options, names=self.shortlist)

    def _one_for_each(
        self, prompts: PromptLike | Sequence[PromptLike] | None, count: int
    ) -> list[Prompt]:
        """The prompt of each picture; equal ones are one object."""
        if prompts is None:
            return [self._learned_prompt()] * count
        if _is_list_of_prompts(prompts):
            return _as_many(prompts, count)  # type: ignore[arg-type]
        if count > 1 and isinstance(prompts, (list, tuple)) and len(prompts) == count:
            logger.warning(
                "%d strings for %d pictures are class names to look for in all of them; for a "
                "prompt each, pass Prompt.of(text) of every one",
                count,
                count,
            )
        return [Prompt.of(prompts)] * count  # type: ignore[arg-type]

    def _learned_prompt(self) -> Prompt:
        if self.task is None:
            raise PromptError("say what to look for: class names, a text, or a learned prompt")
        return self.task.prompt


class _Piece(NamedTuple):
    """What goes through the model by itself."""

    place: int
    """In what was handed in."""
    source: ImageLike | FrameAt
    """What its detections remember."""
    content: ImageLike | Frame | ImageError
    """What it is read from, or why it cannot be."""


_Numbered: TypeAlias = tuple[int, _Piece]


def _is_film(source: ImageLike) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, (str, os.PathLike)) and is_video(source)


def _pieces(sources: Iterable[ImageLike], every: int) -> Iterator[_Piece]:
    """Pictures as they are, films frame by frame."""
    for place, source in enumerate(sources):
        if _is_film(source):
            yield from _frames(place, source, every)
        else:
            yield _Piece(place, source, source)


def _frames(place: int, film: str | os.PathLike[str], every: int) -> Iterator[_Piece]:
    """The frames of a film, and last why it breaks off, if it does."""
    try:
        with Clip(film) as clip:
            for frame in clip:
                if frame.number % every == 0:
                    yield _Piece(place, FrameAt(clip.name, frame.number, frame.seconds), frame)
    except DataError as error:
        yield _Piece(place, film, ImageError(str(error)))


def _detections(outcome: Outcome) -> Detections:
    """What was found, or the error in its place."""
    if outcome.detections is None:
        assert outcome.error is not None
        raise outcome.error
    return outcome.detections


def _above_limits(found: Detections, limits: Sequence[float]) -> Detections:
    """The detections that score above the limit of their phrase."""
    return found[found.scores > np.array(limits, np.float32)[found.phrase_ids]]


def _answered(found: Detections, asked: Question, options: PostprocessOptions) -> Detections:
    """Detections of all that was asked as those of the names that the user gave."""
    labels = np.array(asked.labels, np.int64)
    columns = Found(found.boxes, found.scores, found.phrase_ids)
    kept = relabelled(columns, labels, len(asked.prompt), options)
    return replace(
        found,
        boxes=kept.boxes,
        scores=kept.scores,
        phrase_ids=kept.labels,
        prompt=asked.prompt,
    )


def _is_list_of_prompts(prompts: object) -> bool:
    """Whether it is a prompt for each picture: a plain list of strings is class names."""
    if isinstance(prompts, (Prompt, str, bytes, bytearray)) or not isinstance(prompts, Sequence):
        return False  # the last two are nothing at all, and `Prompt.of` says what a prompt is
    return not all(isinstance(prompt, str) for prompt in prompts)


def _as_many(prompts: Sequence[PromptLike], count: int) -> list[Prompt]:
    """A prompt for each of so many pictures."""
    if len(prompts) == count:
        return [Prompt.of(prompt) for prompt in prompts]
    strange = [p for p in prompts if not isinstance(p, (str, Prompt, Sequence))]
    if strange:
        raise PromptError(f"a name must be text, got {strange[0]!r} among {prompts!r}")
    raise PromptError(
        f"got {len(prompts)} prompts for {count} pictures; give one prompt for all of them "
        "or one for each"
    )
