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
    from glip.tuning.prompt_file import search_words, write_words

    if args.search == (args.data is None):
        raise ConfigError("--search needs labelled photos (--data), and --data is for --search")
    if args.search and args.ensemble is not None:
        raise ConfigError("--search tries both ensembles; leave --ensemble out")
    model = {"weights": args.weights, "device": args.device}
    if not args.search:
        write_words(args.out, args.wordings, ensemble=args.ensemble, **model)
        written(args.out)
        return DONE
    drawn = {"images": args.images, "max_bad": args.max_bad, "shots": args.shots, "seed": args.seed}
    with progress_bar() as show:
        found, report = search_words(
            args.out, args.wordings, args.data, progress=show, **drawn, **model
        )
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
