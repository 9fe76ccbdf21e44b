"""The one exception that a user is meant to see. Stands above `types`, since it must not cost an import of torch."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a row, an option, a checkpoint that does not fit.

    The message is one line that names the thing (file, row, column, argument), says what is wrong and what to do.
    The command line prints it and ends with exit code 2; from Python it is a `ValueError`.
    """


def reason_of(error: Exception) -> str:
    """What an error of a library says, in a line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
