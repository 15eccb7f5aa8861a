"""`python -m glip`: the `glip` command where no script of that name is on the path."""

import sys

from glip.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
