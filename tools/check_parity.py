"""Check this package against recorded numbers of the official implementation.

    python tools/check_parity.py --cases DIR [--dump OUT]

Every case of the folder goes through the public pieces of the package. A row is printed for each
tensor and each list of detections, with its error and the error that is allowed; the exit code is 1
if any row is beyond it. With --dump our own arrays are written to OUT/<case>.npz under the recorded
names, so that the comparison can be repeated by other code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from parity.cases import cases, run

from glip.errors import GlipError


def main() -> int:
    """Run the cases; 0 if all rows pass, 1 if one misses, 2 if something cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=Path, required=True, help="folder of recorded cases")
    parser.add_argument("--dump", type=Path, help="folder for our own arrays")
    parser.add_argument("--only", default="", help="run cases whose name contains this")
    parser.add_argument("--quiet", action="store_true", help="print misses and totals only")
    options = parser.parse_args()
    missed = total = 0
    try:
        for path in cases(options.cases):
            if options.only not in path.stem:
                continue
            case = run(path)
            for row in case.rows:
                if not (options.quiet and row.passed):
                    verdict = "ok  " if row.passed else "MISS"
                    print(f"{verdict} {row.error:9.2e} / {row.limit:8.2e}  {case.stem}: {row.name}"
                          f"  {row.note}".rstrip())  # fmt: skip
            misses = sum(not row.passed for row in case.rows)
            print(f"{case.stem}: {len(case.rows) - misses} passed, {misses} missed", flush=True)
            missed, total = missed + misses, total + len(case.rows)
            if options.dump:
                options.dump.mkdir(parents=True, exist_ok=True)
                arrays: dict[str, Any] = case.arrays
                np.savez(options.dump / f"{case.stem}.npz", **arrays)
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not total:
        print(f"error: no case of {options.cases} fits '{options.only}'", file=sys.stderr)
        return 2
    print(f"all cases: {total - missed} passed, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
