"""Errors that are no bugs: commands print them in one line and exit."""


class UserError(Exception):
    """Bad input: the message says the rule, the value and the remedy; commands exit with 2."""


class NetworkError(Exception):
    """The network's or the Hub's fault; the message says what to do, and commands exit with 1."""
