"""Grounded captions -> phrases and boxes for generators that take layouts, such as GLIGEN.

python tools/export_layouts.py grounded.jsonl layouts.jsonl --min-score 0.5
"""

import argparse
import sys

from tqdm import tqdm

from glip.data.formats.recognise import read_grounding
from glip.errors import GlipError
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
    try:
        records = read_grounding(args.source).records
        progress = tqdm(records, unit="caption", disable=None)
        count = write_layouts(progress, args.target, min_score=args.min_score, most=args.max_boxes)
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {args.target}, {count} layouts of {len(records)} captions", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
