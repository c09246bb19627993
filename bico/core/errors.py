"""The one error a user is meant to see."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """Something the user gave does not work: a single line saying what, where, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Anything else that is raised is a bug of ours.
    """


def exit_code(run: Callable[[], object]) -> int:
    """Runs a script: 0, or 2 and its one line on stderr where it raises InputError."""
    try:
        run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
