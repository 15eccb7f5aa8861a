"""What somebody has to read to follow one prediction, and how much of that runs.

Every function of `glip` that `Detector.predict` enters counts as read, with all its lines of code
(no blank lines, comments or docstrings); a statement runs if one of its lines does. Code of other
packages does not count, and neither does what was done before: loading, and a first prediction.

    python benchmarks/trace.py                       # the small model, two class names, a photo
    python benchmarks/trace.py --weights glip_tiny --prompt "a man with a red hat" --list
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import glip

PHOTO = Path(__file__).parents[1] / "demo" / "images" / "chelsea.jpg"
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
PACKAGE = Path(glip.__file__).parent


@dataclass(frozen=True)
class Read:
    """One function that was entered."""

    file: str
    """Relative to the package."""
    name: str
    lines: int
    """Of code."""
    statements: int
    idle: tuple[int, ...]
    """First lines of the statements that did not run."""


def traced(call: Callable[[], object]) -> list[Read]:
    """Run a call and give the functions of glip that it entered, file by file."""
    entered: set[CodeType] = set()
    ran: dict[str, set[int]] = defaultdict(set)

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        entered.add(frame.f_code)
        return line

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            ran[frame.f_code.co_filename].add(frame.f_lineno)
        return line

    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(None)
    return [
        read
        for file in sorted({code.co_filename for code in entered})
        for read in _of_file(Path(file), entered, ran[file])
    ]


def _of_file(path: Path, entered: set[CodeType], ran: set[int]) -> Iterator[Read]:
    source = path.read_text(encoding="utf-8")
    code = _code_lines(source)
    starts = {c.co_firstlineno for c in entered if c.co_filename == str(path)}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Function):
            continue
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if first not in starts:
            continue
        heads = list(_statements(node))
        yield Read(
            str(path.relative_to(PACKAGE)),
            node.name,
            sum(node.lineno <= number <= (node.end_lineno or 0) for number in code),
            len(heads),
            tuple(head.start for head in heads if ran.isdisjoint(head)),
        )


def _code_lines(source: str) -> set[int]:
    """Lines that hold something else than comments and docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return lines


def _statements(function: Function) -> Iterator[range]:
    """The lines of each statement, of a compound one only its head; without docstrings."""
    for node in ast.walk(function):
        if not isinstance(node, ast.stmt) or isinstance(node, (Function, ast.Pass, ast.Try)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        yield range(node.lineno, max(node.lineno, last) + 1)


def main() -> None:
    """Trace the prediction that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="file or name of a model; by default the packaged one")
    parser.add_argument("--image", help="picture; by default an array with the photo of the demo")
    parser.add_argument("--prompt", help='text; by default the list ["cat", "traffic light"]')
    parser.add_argument("--list", action="store_true", help="every function, and what idles in it")
    args = parser.parse_args()

    import numpy as np

    from glip.images import load_image

    detector = glip.load(args.weights, device="cpu")
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    photo = np.asarray(load_image(args.image or PHOTO))
    image, prompt = args.image or photo, args.prompt or ["cat", "traffic light"]
    detector.predict(noise, ["person", "dog"])
    reads = traced(lambda: detector.predict(image, prompt))

    if args.list:
        for read in reads:
            rest = f"  idle: {', '.join(map(str, read.idle))}" if read.idle else ""
            print(f"{read.file:24} {read.name:28} {read.lines:4} lines{rest}")
    statements = sum(read.statements for read in reads)
    idle = sum(len(read.idle) for read in reads)
    print(f"files      {len({read.file for read in reads}):6}")
    print(f"functions  {len(reads):6}")
    print(f"lines      {sum(read.lines for read in reads):6}")
    print(f"of {statements} statements run {100 * (1 - idle / statements):.1f} %")


if __name__ == "__main__":
    main()
