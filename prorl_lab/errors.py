"""The one exception that users see."""


class UserError(Exception):
    """Bad input or a run that can't go on.  The message is one sentence: what is wrong, and what to do."""
