"""The exception for mistakes that a user can correct."""


class UserError(ValueError):
    """A mistake the user can correct, or a missing prerequisite. Its message is one line, shown without a traceback."""
