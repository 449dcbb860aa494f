"""The one exception that users see, and what of another exception goes into its sentence."""


class UserError(Exception):
    """Bad input or a run that can't go on.  The message is one sentence: what is wrong, and what to do."""


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its class where it says nothing.

    >>> first_line(ValueError("no room\\nin block 3")), first_line(ValueError())
    ('no room', 'ValueError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
