"""The one exception that users are meant to see. It is not in `types`, so that importing it does not import torch."""


class InputError(ValueError):
    """The user's input is wrong: a file, a row, an option, or a checkpoint that does not fit.

    The message is one line that names the file, row, column or argument, and states what is wrong and what to do.
    The command line prints it and exits with code 2; in Python it is a `ValueError`.
    """


def reason_of(error: Exception) -> str:
    """Return a library error's message on one line, or the name of its class if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
