"""The `glip` command: parse, call the library, print. Each sub-command is one entry of `COMMANDS`.

Nothing heavy is imported before a command runs, so that `glip --help` answers at once. Results go
to stdout, everything about them (progress, errors, names of written files) to stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from glip.cli.options import (
    add_batch_size_option,
    add_detection_options,
    add_device_option,
    add_dtype_option,
)
from glip.errors import ConfigError, GlipError, ImageError
from glip.files import RESULT_SUFFIX
from glip.version import __version__

if TYPE_CHECKING:
    from glip.structures import Detections

DONE, SOME_FAILED, FAILED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
EXIT_CODES = """\
exit codes:
  0    all done
  1    some pictures failed and are named, the others are done
  2    nothing was done because of an error
  130  interrupted; what was finished is kept
"""
DEFAULT_FOLDER = "glip_output"


class Command(NamedTuple):
    """A sub-command; one function names its options, the other does its work."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code. Imports what it needs itself."""
    epilog: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """The `glip` command; returns its exit code.

    Args:
        argv: Without the program's name; by default those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="glip", description="Boxes for words: detect in pictures what a prompt names."
    )
    parser.add_argument("--version", action="version", version=f"glip {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    words = sys.argv[1:] if argv is None else argv
    for name, command in COMMANDS.items():
        sub_parser = commands.add_parser(name, help=command.help)
        # Options can need imports, which the list of commands should not wait for.
        if name in words:
            _configure(sub_parser, command)
    args = parser.parse_args(argv)
    return _guarded(COMMANDS[args.command], args)


def run_alone(name: str, argv: Sequence[str] | None = None) -> int:
    """One sub-command as a program of its own, for the scripts in `demo/` and `tools/`."""
    parser = argparse.ArgumentParser()
    _configure(parser, COMMANDS[name])
    return _guarded(COMMANDS[name], parser.parse_args(argv))


def _configure(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.description = f"{command.help[0].upper()}{command.help[1:]}."
    parser.epilog = command.epilog
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_arguments(parser)


def _guarded(command: Command, args: argparse.Namespace) -> int:
    """Runs a command; errors that a user can cause become one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal need not know all letters of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        return command.run(args)
    except GlipError as error:
        _note(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        _note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _note(message: str) -> None:
    """A line on stderr, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)


# predict


def _add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        required=True,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="picture files, or folders of them",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--prompt",
        metavar="TEXT",
        help='what to look for: names with periods between them ("person. traffic light."), or a '
        "caption, whose noun phrases are looked for",
    )
    what.add_argument(
        "--classes",
        metavar="NAMES",
        help='exact names with commas between them: "person,stop sign"',
    )
    what.add_argument(
        "--task",
        metavar="FILE",
        help="the classes of a learned prompt, NAME.prompt.safetensors (see glip tune)",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="a weights file (ours or an official checkpoint), or the name of a model such as "
        "glip_tiny; by default the model that ships with the package",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="detections score above this, 0 to 1 (default: the model's or the task's own)",
    )
    add_detection_options(parser)
    parser.add_argument(
        "--exclusive",
        action="store_true",
        help="one phrase for each thing: boxes of different phrases suppress each other, too",
    )
    add_device_option(parser)
    add_dtype_option(parser)
    add_batch_size_option(parser)
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--output",
        metavar="PATH",
        help="annotated picture (a file) for one picture, a folder for several; by default "
        f"NAME{RESULT_SUFFIX} in the working folder, or the folder {DEFAULT_FOLDER} there",
    )
    written.add_argument(
        "--no-output", action="store_true", help="write no annotated pictures, only what is found"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write all that is found: one object for one picture, a list of them for several or a "
        'folder; "-" is stdout, in place of the table',
    )


def _predict(args: argparse.Namespace) -> int:
    # What is cheap to check comes first: loading weights takes seconds, pictures can take hours.
    from glip.detector import load
    from glip.postprocess import PostprocessOptions
    from glip.task_prompt import read_prompt
    from glip.text.prompt import Prompt

    task = None if args.task is None else read_prompt(args.task)
    if task is not None:
        prompt = task.prompt
    elif args.classes is None:
        prompt = Prompt.of(args.prompt)
    else:
        prompt = Prompt.from_classes([name.strip() for name in args.classes.split(",")])
    options = PostprocessOptions(
        score=0.0 if args.threshold is None else args.threshold,
        nms=args.nms,
        max_detections=args.max_detections,
        aggregate=args.aggregate,
        exclusive=args.exclusive,
    )
    several = len(args.image) > 1 or os.path.isdir(args.image[0])
    pictures, failed = _find_pictures(args.image)
    if args.no_output:
        outputs: list[Path] = []
    elif several:
        outputs = _outputs_in(Path(args.output or DEFAULT_FOLDER), pictures)
    else:
        outputs = [_output_of(pictures[0], args.output)]
    if args.json is not None:
        _refuse_input("--json", args.json, [*pictures, *map(str, outputs)])
        if not args.json or os.path.isdir(args.json):
            raise ConfigError(f"--json {args.json or repr('')} is no file; give it a name")
    detector = load(args.weights, device=args.device, dtype=args.dtype, prompt=args.task)
    if args.threshold is None:
        options = replace(options, score=detector.lowest_threshold)

    from tqdm import tqdm

    table = _Table(pictures if several else [], prompt.names, hidden=args.json == "-")
    done = 0
    results = detector.stream(pictures, prompt, options=options, batch_size=args.batch_size)
    slow = 0.1 if sys.stderr.isatty() else 10.0  # seconds between lines of a log
    bar = tqdm(total=len(pictures), unit="picture", mininterval=slow, disable=not several)
    with _JsonFile(args.json, many=several) as file, bar:
        try:
            for outcome in results:
                picture = pictures[outcome.index]
                try:
                    if outcome.detections is None:
                        assert outcome.error is not None
                        raise outcome.error
                    found = outcome.detections
                    if args.threshold is None:
                        found = detector.above_fitted(found)
                    table.add(picture, found, options.score)
                    if outputs:
                        found.save(outputs[outcome.index], picture)
                    file.add({"image": picture, **found.to_dict()})
                    done += 1
                except ImageError as error:
                    _note(f"error: {error}")
                    failed += 1
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            _note(f"interrupted: {done} of {len(pictures)} pictures are done")
            return INTERRUPTED
    if done:
        written = [str(outputs[0].parent if several else outputs[0])] if outputs else []
        written += [args.json] if args.json not in (None, "-") else []
        if written:
            _note(f"written: {', '.join(written)}")
    if failed and several:
        _note(f"{done} pictures done, {failed} failed")
    if not failed:
        return DONE
    return SOME_FAILED if done else FAILED


def _find_pictures(paths: Sequence[str]) -> tuple[list[str], int]:
    """Files as they are given, folders listed, and how many of the latter cannot be.

    Raises:
        ImageError: There is no picture at all.
    """
    from glip.images import list_images

    pictures: list[str] = []
    errors: list[ImageError] = []
    for path in paths:
        if not os.path.isdir(path):
            pictures.append(path)
            continue
        try:
            # Our own results are no input, wherever they were put the last time.
            found = [p for p in map(str, list_images(path)) if not p.endswith(RESULT_SUFFIX)]
            if not found:
                raise ImageError(f"folder {path} holds no picture but results, *{RESULT_SUFFIX}")
            pictures += found
        except ImageError as error:
            errors.append(error)
    if not pictures:
        raise errors[0]
    for unusable in errors:
        _note(f"error: {unusable}")
    return pictures, len(errors)


def _output_of(picture: str, output: str | None) -> Path:
    """The annotated picture of a single one: `output`, or a name derived from it.

    Raises:
        ConfigError: It would replace the picture itself.
    """
    path = Path(output or "")
    if not output or path.is_dir() or not path.suffix or output.endswith(("/", os.sep)):
        path /= Path(picture).stem + RESULT_SUFFIX
    from glip.images import check_saveable

    _refuse_input("--output", path, [picture])
    check_saveable(path)
    return path


def _outputs_in(folder: Path, pictures: Sequence[str]) -> list[Path]:
    """A file in the folder for each picture: no two alike, and none of the pictures themselves.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise ConfigError(
            f"--output {folder} cannot be a folder for several pictures: {reason}"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--output {folder} cannot be written to")
    # Some file systems take "A.jpg" and "a.jpg" for one file.
    taken = {os.path.realpath(picture).casefold() for picture in pictures}
    used: Counter[str] = Counter()
    outputs = []
    for picture in pictures:
        stem = Path(picture).stem
        while True:
            used[stem.casefold()] += 1
            number = used[stem.casefold()]
            path = folder / f"{stem}{f'-{number}' if number > 1 else ''}{RESULT_SUFFIX}"
            key = os.path.realpath(path).casefold()
            if key not in taken:
                break
        taken.add(key)
        outputs.append(path)
    return outputs


def _refuse_input(option: str, path: str | Path, others: Sequence[str]) -> None:
    """Nothing that is read, or written besides, may be replaced."""
    if os.path.realpath(path) in map(os.path.realpath, others):
        raise ConfigError(f"{option} {path} would replace one of the pictures; give another name")


class _Table:
    """What is found, one row at a time as pictures are done, aligned from the first row on."""

    def __init__(self, pictures: Sequence[str], names: Sequence[str], *, hidden: bool) -> None:
        """The longest entries are known beforehand; no pictures mean no column for them."""
        self._hidden = hidden
        self._empty = True
        longest = [max(map(_columns, map(_line, texts)), default=0) for texts in (pictures, names)]
        self._picture_width = min(longest[0], 60)
        self._phrase_width = max(min(longest[1], 40), len("phrase"))

    def add(self, picture: str, found: Detections, threshold: float) -> None:
        """The rows of one picture, best first; one that says so if nothing was found."""
        if self._hidden:
            return
        rows = []
        if self._empty:
            rows.append(self._row("picture", "phrase", "score", ("x1", "y1", "x2", "y2")))
            self._empty = False
        picture = _line(picture)
        for box, score, phrase in zip(
            found.boxes.tolist(), found.scores.tolist(), found.phrases, strict=True
        ):
            corners = [f"{x:.0f}" for x in box]
            rows.append(self._row(picture, _line(phrase), f"{score:.3f}", corners))
        if not len(found):
            rows.append(self._row(picture, f"nothing above {threshold:g}", "", ()))
        if sys.stdout.isatty():  # where there may be a progress bar in the way
            from tqdm import tqdm

            tqdm.write("\n".join(rows), file=sys.stdout)
        else:
            print("\n".join(rows))

    def _row(self, picture: str, phrase: str, score: str, box: Sequence[str]) -> str:
        cells = [_padded(picture, max(self._picture_width, 7))] if self._picture_width else []
        cells += [_padded(phrase, self._phrase_width), f"{score:>5}", *(f"{x:>6}" for x in box)]
        return "  ".join(cells).rstrip()


def _line(text: str) -> str:
    """A text that leaves the terminal as it is: one line, no control characters."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(text.split())
    )


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: letters of East Asia two, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


class _JsonFile:
    """Records on their way into a JSON file: one object, or a list of them.

    They go to `<file>.part` as they come, which takes the file's name at the end, of an interrupted
    run too. A run that is killed leaves what it finished there, and an old file as it was.
    """

    def __init__(self, path: str | None, *, many: bool) -> None:
        """`path` is a file, "-" for stdout, or None to write nothing."""
        self._path = path
        self._many = many
        self._count = 0
        self._file: TextIO | None = None

    def __enter__(self) -> _JsonFile:
        if self._path == "-":
            self._file = sys.stdout
        elif self._path is not None:
            try:
                # A file name that is not Unicode keeps its bytes as JSON escapes.
                self._file = open(
                    f"{self._path}.part", "w", encoding="utf-8", errors="backslashreplace"
                )
            except OSError as error:
                raise ConfigError(
                    f"--json {self._path} cannot be written: {error.strerror}"
                ) from error
        return self

    def add(self, record: dict[str, Any]) -> None:
        """One more picture."""
        if self._file is None:
            return
        with self._failing():
            if self._many:
                self._file.write(",\n" if self._count else "[\n")
            json.dump(record, self._file, ensure_ascii=False)
            self._file.flush()
        self._count += 1

    def _failing(self) -> AbstractContextManager[None]:
        """What a failing disk says; a closed pipe is no such thing."""
        from glip.files import failing_disk

        if self._path in (None, "-"):
            return nullcontext()
        return failing_disk(Path(str(self._path)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None or kind is BrokenPipeError:
            return
        with self._failing():
            if self._many:
                self._file.write("\n]\n" if self._count else "[]\n")
            elif self._count:
                self._file.write("\n")
            if self._path in (None, "-"):
                return
            self._file.close()
            if self._count or (self._many and kind is None):
                os.replace(f"{self._path}.part", os.path.realpath(str(self._path)))
            else:
                os.unlink(f"{self._path}.part")


# convert


def _add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="an official checkpoint, a file of ours, or a model's name")
    parser.add_argument("target", help="the file to write, NAME.safetensors")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="number format in the file; by default as it is",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def _convert(args: argparse.Namespace) -> int:
    target = Path(args.target)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target} must be called NAME.safetensors, the format that is written")
    if target.exists() and not args.force:
        raise ConfigError(f"{target} exists; --force replaces it")

    import torch

    from glip.checkpoint import convert_file

    dtype: torch.dtype | None = getattr(torch, args.dtype) if args.dtype else None
    weights = convert_file(args.source, target, dtype)
    count = sum(tensor.numel() for tensor in weights.state.values())
    print(f"model:      {weights.config.name}")
    print(f"parameters: {count:,}")
    print(f"dropped:    {len(weights.dropped)} keys without effect")
    for key in weights.dropped:
        print(f"            {key}")
    print(f"written:    {target}, {target.stat().st_size / 1e6:,.1f} MB")
    return DONE


def _add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.evaluate import add_arguments

    add_arguments(parser)


def _evaluate(args: argparse.Namespace) -> int:
    from glip.cli.evaluate import run

    return run(args)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.train import add_arguments

    add_arguments(parser)


def _train(args: argparse.Namespace) -> int:
    from glip.cli.train import run

    return run(args)


def _add_tune_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.tune import add_arguments

    add_arguments(parser)


def _tune(args: argparse.Namespace) -> int:
    from glip.cli.tune import run

    return run(args)


def _add_prompts_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.prompts import EPILOG, add_arguments

    parser.epilog = EPILOG
    add_arguments(parser)


def _prompts(args: argparse.Namespace) -> int:
    from glip.cli.prompts import run

    return run(args)


def _add_label_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.label import add_arguments

    add_arguments(parser)


def _label(args: argparse.Namespace) -> int:
    from glip.cli.label import run

    return run(args)


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="annotations in any format that training reads")
    parser.add_argument(
        "--images", type=Path, metavar="PATH", help="folder or tar; by default beside the data"
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="of a folder with several"
    )
    parser.add_argument("--quick", action="store_true", help="do not decode the pictures")


def _doctor(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from glip.data.doctor.examine import examine

    with tqdm(unit="picture", leave=False, disable=None) as bar:
        report = examine(
            args.data, args.images, quick=args.quick, split=args.split, progress=bar.update
        )
    print(report.text())
    return report.exit_code


def _add_ground_arguments(parser: argparse.ArgumentParser) -> None:
    from glip.cli.ground import add_arguments

    add_arguments(parser)


def _ground(args: argparse.Namespace) -> int:
    from glip.cli.ground import run

    return run(args)


COMMANDS: dict[str, Command] = {
    "predict": Command(
        "find what a prompt names in pictures and draw boxes around it",
        _add_predict_arguments,
        _predict,
        epilog=EXIT_CODES,
    ),
    "convert": Command(
        "turn an official checkpoint into a safetensors file with the config inside",
        _add_convert_arguments,
        _convert,
    ),
    "label": Command(
        "label a folder of photos, for training a detector of your own",
        _add_label_arguments,
        _label,
        epilog=EXIT_CODES,
    ),
    "train": Command("train on your own pictures", _add_train_arguments, _train),
    "tune": Command("adapt a model to a few pictures of your own", _add_tune_arguments, _tune),
    "prompts": Command(
        "find the words for your classes that help a model most",
        _add_prompts_arguments,
        _prompts,
    ),
    "evaluate": Command("measure weights on a data set", _add_evaluate_arguments, _evaluate),
    "ground": Command(
        "find the phrases of captions in their pictures, as data to train a student on",
        _add_ground_arguments,
        _ground,
        epilog=EXIT_CODES,
    ),
    "doctor": Command(
        "look for what is wrong with a data set before training on it",
        _add_doctor_arguments,
        _doctor,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
