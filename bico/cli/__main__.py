"""`python -m bico.cli`, as the rules of the pipeline call it."""

import sys

from bico.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
