"""The one exception a user is meant to see."""


class UserError(Exception):
    """Wrong usage or bad input, said in one line: what is wrong and what to do.

    Commands print the line on stderr and exit with status 2; scripts may catch it.
    """
