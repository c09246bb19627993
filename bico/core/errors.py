"""The error for bad input, which users see as one line."""


class InputError(Exception):
    """An error in the user's input. The message is one line that says what, where, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Any other exception is a bug of ours.
    """
