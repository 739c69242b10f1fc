"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake or lack the user can mend; its message is one line and is shown without a traceback."""
