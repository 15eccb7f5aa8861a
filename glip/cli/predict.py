"""`glip predict` and `demo/predict.py`: pictures and a prompt -> a table, boxes on pictures, JSON.

A film is looked at frame by frame and gets an annotated film (`glip/cli/films.py`). In a folder for
several pictures, their sub-folders are kept, and one hidden file says with which prompt and weights
the folder was made: those of another are not mixed with them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from glip.cli.films import (
    check_film,
    check_film_name,
    films_below,
    is_film,
    say_left_out,
    through_film,
    work_folder,
)
from glip.cli.options import (
    add_batch_size_option,
    add_detection_options,
    add_device_option,
    add_dtype_option,
    add_shortlist_option,
    some_path,
)
from glip.cli.terminal import (
    DONE,
    FAILED,
    SOME_FAILED,
    DetectionTable,
    JsonFile,
    exit_code,
    note,
    progress_bar,
    stopping,
    written,
)
from glip.config import PostprocessOptions
from glip.errors import ConfigError, ImageError
from glip.files import FILM_SUFFIX, RESULT_SUFFIX, fitting, read_json, write_json
from glip.progress import Counter, Progress
from glip.settings import within

if TYPE_CHECKING:
    from glip.detector import Detector
    from glip.images import ImageLike
    from glip.structures import Detections
    from glip.text.prompt import Prompt

DEFAULT_FOLDER = "glip_output"
SETTINGS = ".glip.json"
"""In a folder of annotated pictures: what they were made with."""


class Input(NamedTuple):
    """A picture or film to look at."""

    source: str
    below: str
    """Its name in the folder of results, sub-folders included."""
    film: bool = False

    @property
    def suffix(self) -> str:
        """Ends the name of what is drawn."""
        return FILM_SUFFIX if self.film else RESULT_SUFFIX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH",
        help='pictures, folders of them, films, and last the prompt: street.jpg "cat. red car."; '
        "with an option that says what to look for, all are pictures",
    )
    parser.add_argument(
        "--image",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="picture files, folders of them, or films",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="of a film, look at each N-th frame (default: %(default)s); glip track follows things "
        "from frame to frame",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--prompt",
        metavar="TEXT",
        help='what to look for: names with periods between them ("person. traffic light."), or a '
        "caption, whose noun phrases are looked for",
    )
    what.add_argument(
        "--classes",
        metavar="NAMES",
        help='exact names with commas between them: "person,stop sign"; or a file, one name a line',
    )
    what.add_argument(
        "--task",
        metavar="FILE",
        help="the classes of a learned prompt, NAME.prompt.safetensors (see glip tune)",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="a weights file (ours or an official checkpoint), a folder that was exported or holds "
        "a detector of transformers, or the name of a model such as glip_tiny or "
        "google/owlv2-base-patch16; by default the model that ships with the package",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="detections score above this, 0 to 1 (default: the model's or the task's own)",
    )
    add_detection_options(parser)
    add_device_option(parser)
    add_dtype_option(parser)
    add_batch_size_option(parser)
    add_shortlist_option(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--output",
        type=some_path,
        metavar="PATH",
        help="annotated picture (a file) for one picture, a folder for several; by default "
        f"NAME{RESULT_SUFFIX} (NAME{FILM_SUFFIX} of a film) in the working folder, or the folder "
        f"{DEFAULT_FOLDER} there",
    )
    output.add_argument(
        "--no-output", action="store_true", help="write no annotated pictures, only what is found"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write all that is found: one object for one picture, a list of them for several, a "
        'folder or the frames of a film, a line each in FILE.jsonl; "-" is stdout, in place of the '
        "table",
    )


def run(args: argparse.Namespace) -> int:
    """Look for the prompt in all pictures and write what is found; returns the exit code."""
    # What is cheap to check comes first: loading weights takes seconds, pictures can take hours.
    from glip.detector import load

    within("every", args.every, least=1, whole=True, way_out="1 looks at every frame")
    images, text = _images_and_text(args)
    prompt = _prompt(args, text)
    options = PostprocessOptions(
        score=0.0 if args.threshold is None else args.threshold,
        nms=args.nms,
        max_detections=args.max_detections,
        aggregate=args.aggregate,
        exclusive=args.exclusive,
    )
    inputs, failed = _find_pictures(images)
    several = len(images) > 1 or len(inputs) > 1 or os.path.isdir(images[0])
    made_with = {"prompt": prompt.text, "weights": args.weights, "task": args.task}
    folder, outputs = _places(args, inputs, made_with if several else None)
    _check_json(args.json, [*(one.source for one in inputs), *map(str, outputs)])
    detector = load(args.weights, device=args.device, dtype=args.dtype, prompt=args.task)
    if args.shortlist is not None:
        detector = detector.with_shortlist(args.shortlist)
    if args.threshold is None:
        options = replace(options, score=detector.lowest_threshold)
    if folder is not None:
        write_json(folder / SETTINGS, made_with)
    work = _Work(inputs, outputs, several)
    work.through(_Asked(detector, prompt, options, args))
    work.failed += failed
    places = [str(folder or outputs[0])] if outputs else []
    places += [args.json] if args.json not in (None, "-") else []
    if work.done and places:
        written(*places)
    return work.tell()


def _places(
    args: argparse.Namespace, inputs: Sequence[Input], made_with: dict[str, Any] | None
) -> tuple[Path | None, list[Path]]:
    """The folder of annotated pictures, if they go into one, and the file of each picture.

    Args:
        args: The command line.
        inputs: The pictures.
        made_with: For several pictures, which have a folder to themselves.
    """
    if args.no_output:
        return None, []
    if made_with is None:
        return None, [_output_of(inputs[0], args.output)]
    folder = _folder(args.output, made_with)
    return folder, _outputs_in(folder, inputs)


class _Asked(NamedTuple):
    """What is looked for, by what, and what the command line says of it."""

    detector: Detector
    prompt: Prompt
    options: PostprocessOptions
    args: argparse.Namespace

    def kept(self, found: Detections) -> Detections:
        """The detections above thresholds that were fitted for classes, if those hold."""
        return self.detector.above_fitted(found) if self.args.threshold is None else found


class _Places(NamedTuple):
    """Where results go as they come."""

    table: DetectionTable
    file: JsonFile
    show: Progress


class _Work:
    """Pictures through the detector, each written down as it is done."""

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[Path], several: bool) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._several = several
        self.done = self.failed = 0
        self._broken = False
        self.stop: KeyboardInterrupt | None = None

    def through(self, asked: _Asked) -> None:
        """Until all pictures are done or the run is stopped."""
        films = [one.film for one in self._inputs]
        shown = [one.source for one in self._inputs if not one.film] if self._several else []
        json_path, many = asked.args.json, self._several or any(films)
        table = DetectionTable(shown, asked.prompt.names, hidden=json_path == "-")
        with JsonFile(json_path, many=many) as file, progress_bar(shown=many) as show:
            places = _Places(table, file, show)
            counter = None if all(films) else Counter(show, "pictures", films.count(False))
            try:
                for _, group in groupby(range(len(films)), films.__getitem__):
                    indices = list(group)
                    if films[indices[0]] or counter is None:
                        self._films(indices, asked, places)
                    else:
                        self._pictures(indices, asked, places, counter)
            except KeyboardInterrupt as stop:
                self.stop = stop

    def _films(self, indices: Sequence[int], asked: _Asked, places: _Places) -> None:
        from glip.tracking.looking import Looker

        args = asked.args
        looker = Looker(asked.detector, asked.prompt, asked.options, args.batch_size)
        model = _model(asked.detector, args)
        for index in indices:
            source = self._inputs[index].source
            out = self._outputs[index] if self._outputs else None
            try:
                broken = through_film(
                    source,
                    looker,
                    places.file,
                    asked.kept,
                    every=args.every,
                    out=out,
                    work=work_folder(source, index, out, args.json),
                    model=model,
                    shown=args.json != "-",
                    progress=places.show,
                )
                self.done += 1
                if broken is not None:
                    note(f"error: {broken}; the frames before are done")
                    self._broken = True
            except ImageError as error:
                note(f"error: {error}")
                self.failed += 1

    def _pictures(
        self, indices: Sequence[int], asked: _Asked, places: _Places, counter: Counter
    ) -> None:
        options, batch_size = asked.options, asked.args.batch_size
        sources: list[ImageLike] = [self._inputs[index].source for index in indices]
        for outcome in asked.detector.stream(
            sources, asked.prompt, options=options, batch_size=batch_size
        ):
            try:
                if outcome.detections is None:
                    assert outcome.error is not None
                    raise outcome.error
                self._write(indices[outcome.index], asked.kept(outcome.detections), asked, places)
                self.done += 1
            except ImageError as error:
                note(f"error: {error}")
                self.failed += 1
            counter.add()

    def tell(self) -> int:
        """Say how it ended; returns the exit code."""
        if self.stop is not None:
            count = len(self._inputs)
            rest = any(one.film for one in self._inputs[self.done + self.failed :])
            way_on = "; the same command goes on in a film where it was" if rest else ""
            note(f"{stopping(self.stop)}: {self.done} of {count} pictures are done{way_on}")
            return exit_code(self.stop)
        if self.failed and self._several:
            note(f"{self.done} pictures done, {self.failed} failed")
        if not self.failed:
            return SOME_FAILED if self._broken else DONE
        return SOME_FAILED if self.done else FAILED

    def _write(self, index: int, found: Detections, asked: _Asked, places: _Places) -> None:
        picture = self._inputs[index].source
        places.table.add(picture, found, asked.options.score)
        record = {"image": picture, **found.to_dict()}
        if self._outputs:
            found.save(self._outputs[index], picture)
            record["annotated"] = str(self._outputs[index])
        places.file.add(record)


def _check_json(path: str | None, taken: Sequence[str]) -> None:
    """Refuse what is no file, or one that is read or written otherwise."""
    if path is None:
        return
    _refuse_input("--json", path, taken)
    if not path or os.path.isdir(path):
        raise ConfigError(f"--json {path or repr('')} is no file; give it a name")


def _images_and_text(args: argparse.Namespace) -> tuple[list[str], str | None]:
    """Which words are pictures, and which one the prompt, if it is among them."""
    words, text = list(args.words), args.prompt
    if text is not None and text.endswith(".txt") and os.path.isfile(text):
        raise ConfigError(f"--prompt {text} is a file; names of a file come with --classes {text}")
    if text is None and args.classes is None and args.task is None:
        if len(words) + len(args.image) < 2 or not words:
            raise ConfigError(
                'say what to look for: glip predict photo.jpg "cat. ear.", or --prompt, --classes '
                "or --task"
            )
        text = words.pop()
        if os.path.exists(text):
            raise ConfigError(
                f"{text} is a file, and the last word is the prompt: say what to look for behind it"
            )
        if words and "." not in words[-1] and not os.path.exists(words[-1]):
            raise ConfigError(
                f"{words[-1]} is no file or folder; a prompt of several words stands in quotes: "
                f'"{words[-1]} {text}"'
            )
    images = [*words, *args.image]
    if not images:
        raise ConfigError("say where to look: name a picture or a folder of them")
    return images, text


def _prompt(args: argparse.Namespace, text: str | None) -> Prompt:
    from glip.task_prompt import read_prompt
    from glip.text.class_list import class_names
    from glip.text.prompt import Prompt

    if args.task is not None:
        return read_prompt(args.task).prompt
    return Prompt.from_classes(class_names(args.classes)) if text is None else Prompt.of(text)


def _model(detector: Detector, args: argparse.Namespace) -> dict[str, Any]:
    """What tells a model from others."""
    model: dict[str, Any] = {
        "weights": detector.fingerprint,
        "dtype": str(detector.dtype),
        "shortlist": args.shortlist,
    }
    if args.task is not None:
        from glip.files import file_sha256

        model["task"] = file_sha256(args.task)
    return model


def _find_pictures(paths: Sequence[str]) -> tuple[list[Input], int]:
    """Files and addresses as they are given, folders listed, patterns filled in; and how many of
    the latter two cannot be.

    Raises:
        ImageError: There is no picture at all.
    """
    from glip.images import expand_sources

    pictures: list[Input] = []
    errors: list[ImageError] = []
    for path in paths:
        try:
            found = [os.fspath(one) for one in expand_sources(path)]  # type: ignore[arg-type]
            if os.path.isdir(path):
                say_left_out(path)
            elif is_film(path):
                check_film(path)
        except ImageError as error:
            errors.append(_of_films(path) or error)
            continue
        if found == [path]:
            name = Path(_without_server(path)).name or "picture"
            pictures.append(Input(path, name, is_film(path)))
            continue
        # Our own results are no input, wherever they were put the last time.
        found = [file for file in found if not file.endswith((RESULT_SUFFIX, FILM_SUFFIX))]
        if not found:
            errors.append(ImageError(f"{path} holds no picture but results, *{RESULT_SUFFIX}"))
            continue
        # Sub-folders of a folder are kept, and those below the part of a pattern that is a folder.
        top = path if os.path.isdir(path) else os.path.commonpath(map(os.path.dirname, found))
        pictures += [Input(file, os.path.relpath(file, top), is_film(file)) for file in found]
    if not pictures:
        raise errors[0]
    for unusable in errors:
        note(f"error: {unusable}")
    return pictures, len(errors)


def _without_server(path: str) -> str:
    """What names a file in a path or an address."""
    try:
        return urlsplit(path).path if "://" in path else path
    except ValueError:  # brackets that hold no address: nothing will be fetched from there
        return ""


def _of_films(path: str) -> ImageError | None:
    """What is said of a folder without a picture, if there are films in it."""
    films = films_below(path) if os.path.isdir(path) else 0
    if not films:
        return None
    return ImageError(
        f"folder {path} holds no picture, but {films} films; name them, or '{path}/*.mp4'"
    )


def _output_of(picture: Input, output: str | None) -> Path:
    """The annotated picture of a single one: `output`, or a name derived from it.

    Raises:
        ConfigError: It would replace the picture itself.
    """
    from glip.images import check_saveable

    path = Path(output or "")
    if not output or os.path.isdir(path) or not path.suffix or output.endswith(("/", os.sep)):
        path /= fitting(Path(picture.below).stem, picture.suffix)
    _refuse_input("--output", path, [picture.source])
    (check_film_name if picture.film else check_saveable)(path)
    return path


def _folder(output: str | None, made_with: dict[str, Any]) -> Path:
    """The folder for annotated pictures: made, and without those of other prompts or weights.

    Raises:
        ConfigError: It cannot be made or written to, or holds pictures of something else.
    """
    from glip.jobs.folder import check_same

    folder = Path(output or DEFAULT_FOLDER)
    number = 1
    while (before := _made_with(folder)) not in (None, made_with):
        if output is not None:
            check_same(folder, before or {}, made_with)
        number += 1
        folder = Path(f"{DEFAULT_FOLDER}-{number}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if os.path.isfile(folder) else error.strerror
        raise ConfigError(
            f"--output {folder} cannot be a folder for several pictures: {reason}"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {folder} cannot be written to")
    return folder


def _made_with(folder: Path) -> dict[str, Any] | None:
    """What the pictures in a folder were made with, if it says so."""
    try:
        content = read_json(folder / SETTINGS)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _outputs_in(folder: Path, inputs: Sequence[Input]) -> list[Path]:
    """A file in the folder for each picture: no two alike, and none of the pictures themselves."""
    # Some file systems take "A.jpg" and "a.jpg" for one file.
    taken = {os.path.realpath(one.source).casefold() for one in inputs}
    outputs = []
    for one in inputs:
        place = folder / Path(one.below).parent
        stem, number = Path(one.below).stem, 1
        path = place / fitting(stem, one.suffix)
        while (key := os.path.realpath(path).casefold()) in taken:
            number += 1
            path = place / fitting(f"{stem}-{number}", one.suffix)
        taken.add(key)
        outputs.append(path)
    return outputs


def _refuse_input(option: str, path: str | Path, others: Sequence[str]) -> None:
    """Nothing that is read, or written besides, may be replaced."""
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise ConfigError(f"{option} {path} would replace one of the pictures; give another name")
