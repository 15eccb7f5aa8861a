"""`glip prompts`: its options, and what it prints."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, get_args

from glip.choices import Ensemble
from glip.cli.options import (
    add_device_option,
    add_max_bad_option,
    add_out_option,
    number_of_shots,
)
from glip.cli.terminal import DONE, progress_bar, written
from glip.errors import ConfigError
from glip.files import make_folder, write_json

if TYPE_CHECKING:
    from glip.tuning.word_search import SearchResult

EPILOG = """\
a file of wordings:
  templates: ["a photo of a {}"]
  classes:
    raccoon: [trash panda, "a furry [raccoon] in a garden"]
  attributes: {raccoon: grey with a black mask}
  knowledge: {raccoon: a nocturnal mammal with a ringed tail}
  negatives: [cat]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--wordings", required=True, metavar="YAML", help="what to try, see below")
    parser.add_argument("--weights", metavar="NAME", help="the model: a file or a name")
    add_out_option(
        parser,
        "the words that are best, NAME.prompt.safetensors, with a report NAME.json beside it",
        metavar="FILE",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="try the wordings on labelled photos and keep what helps; without it, all are taken",
    )
    parser.add_argument(
        "--data", metavar="PATH", help="labelled photos: a folder with a train part, or a file"
    )
    parser.add_argument("--images", metavar="PATH", help="folder or tar; by default beside --data")
    add_max_bad_option(parser)
    parser.add_argument(
        "--shots",
        type=number_of_shots,
        default=10,
        metavar="N",
        help='photos of each class, or "all" (default: %(default)s)',
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shots")
    parser.add_argument(
        "--ensemble",
        choices=get_args(Ensemble),
        help="without --search: average scores, in one sentence, or features, one row for a class "
        "(default: scores); a search tries both",
    )
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Search or put together, print what helped and say where it is; returns the exit code."""
    from glip.data.formats.recognise import read_annotated, train_and_val
    from glip.data.records import DetectionData
    from glip.detector import load
    from glip.errors import DataError
    from glip.task_prompt import SUFFIX, save_prompt
    from glip.training.words import check_names
    from glip.tuning.few_shot import select
    from glip.tuning.word_search import Photos, search
    from glip.tuning.wording import Said, in_templates, read_wordings, worded

    if not args.out.name.endswith(SUFFIX):
        raise ConfigError(f"--out {args.out} must be called NAME{SUFFIX}")
    if args.search == (args.data is None):
        raise ConfigError("--search needs labelled photos (--data), and --data is for --search")
    if args.search and args.ensemble is not None:
        raise ConfigError("--search tries both ensembles; leave --ensemble out")
    wordings = read_wordings(args.wordings)
    make_folder(args.out.parent)
    if not args.search:
        if not wordings.names:
            raise ConfigError(f"{args.wordings} names no class")
        check_names(wordings.names)
        wordings.check(wordings.names)
        said = Said(
            {name: in_templates(wordings, name) for name in wordings.names},
            negatives=wordings.negatives,
            ensemble=args.ensemble or "scores",
        )
        save_prompt(args.out, worded(load(args.weights, device=args.device), said))
        written(args.out)
        return DONE
    train, _ = train_and_val(args.data)
    annotated = read_annotated(train.path, args.images, split=train.split, max_bad=args.max_bad)
    if not isinstance(annotated.data, DetectionData):
        raise DataError(f"{train.path} holds captions; a search needs boxes with classes")
    check_names(annotated.data.names)
    wordings.check(annotated.data.names)
    drawn, selection = select(annotated.data, args.shots, args.seed)
    photos = Photos(load(args.weights, device=args.device), drawn, annotated.pictures)
    with progress_bar() as show:
        found = search(photos, wordings, progress=show)
    save_prompt(args.out, found.task)
    report = args.out.with_name(args.out.name.removesuffix(SUFFIX) + ".json")
    content = {**found.to_dict(), "selection": selection.to_dict()}
    write_json(report, content)
    print(trials_table(found))
    written(args.out, report)
    return DONE


def trials_table(found: SearchResult) -> str:
    """Each trial with its AP in per cent, what it changed, and whether it was kept."""
    width = max(len(trial.what) for trial in found.trials)
    lines = [f"{'words':<{width}}  {'AP':>5}  change"]
    best = found.trials[0].ap or 0.0
    for trial in found.trials:
        if trial.ap is None:
            lines.append(f"{trial.what:<{width}}      -       -  left out, too long")
            continue
        change = 100 * (trial.ap - best)
        kept = "  kept" if trial.kept else ""
        lines.append(f"{trial.what:<{width}}  {100 * trial.ap:5.1f}  {change:+6.1f}{kept}")
        best = max(best, trial.ap)
    thresholds = zip(found.task.names, found.task.thresholds, strict=True)
    lines.append(f"thresholds: {', '.join(f'{name} {value:.2f}' for name, value in thresholds)}")
    return "\n".join(lines)
