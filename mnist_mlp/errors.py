"""The exception for mistakes that a user can correct."""


class UserError(ValueError):
    """A mistake the user can correct, or a missing prerequisite. Its message is one line, shown without a traceback.

    What cannot be shown in a line, such as a newline in a value, is written as Python would write it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with escapes in place of newlines and of everything else that a terminal does not show as itself."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
