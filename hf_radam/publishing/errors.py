"""The error that is neither the user's nor ours."""


class NetworkError(Exception):
    """The network's or the Hub's fault; the message says what to do, commands print it and exit with 1."""
