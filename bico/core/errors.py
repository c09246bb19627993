"""The one error a user is meant to see."""


class InputError(Exception):
    """Something the user gave does not work: a single line saying what, where, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Anything else that is raised is a bug of ours.
    """
