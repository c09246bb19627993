"""The error for bad input, which users see as one line."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """An error in the user's input. The message is one line that says what, where, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Any other exception is a bug of ours.
    """


class DamagedFile(InputError):
    """A file is not what an earlier step wrote. Another run may make it again."""


def exit_code(run: Callable[[], object]) -> int:
    """Runs a script: 0, or 2 and its one line on stderr where it raises InputError."""
    try:
        run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
