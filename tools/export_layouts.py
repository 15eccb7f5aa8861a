"""Grounded captions -> phrases and boxes for generators that take layouts, such as GLIGEN.

python tools/export_layouts.py grounded.jsonl layouts.jsonl --min-score 0.5
"""

import argparse
import sys

from tqdm import tqdm

from glip.cli.terminal import DONE, guarded, note, written
from glip.data.formats.recognise import read_grounding
from glip.pseudo.layouts import MOST_BOXES, write_layouts


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="MDETR JSON, or ODVG JSON lines with captions")
    parser.add_argument("target", help="JSON lines")
    parser.add_argument("--min-score", type=float, default=0.0, help="of pseudo labels")
    parser.add_argument("--max-boxes", type=int, default=MOST_BOXES, help="of a caption")
    args = parser.parse_args()
    records = read_grounding(args.source).records
    shown = tqdm(records, unit="caption", disable=None)
    count = write_layouts(shown, args.target, min_score=args.min_score, most=args.max_boxes)
    written(args.target)
    note(f"{count} layouts of {len(records)} captions")
    return DONE


if __name__ == "__main__":
    sys.exit(guarded(main))
