"""Errors that are no bugs: commands print them in one line and exit."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message says the rule, the value and the remedy; commands exit with 2."""


class NetworkError(Exception):
    """The network's or the Hub's fault; the message says what to do, and commands exit with 1."""


def closest(given: str, valid: Iterable[str]) -> str:
    """A suggestion to put behind a name that does not exist, or nothing.

    Example:
        >>> closest("radm", ["radam", "adafactor"])
        " (did you mean 'radam'?)"
    """
    near = difflib.get_close_matches(given, list(valid), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_name(kind: str, given: str, valid: Iterable[str]) -> str:
    """The message for a name that does not exist: the valid ones, and the closest as a suggestion.

    Example:
        >>> unknown_name("optimizer", "radm", ["radam", "adam"])
        "unknown optimizer 'radm'; did you mean 'radam'? valid are radam, adam"
    """
    valid = list(valid)
    near = [name for name in valid if name.startswith(given)] or difflib.get_close_matches(given, valid, n=1)
    said = f"unknown {kind} {given!r}"
    said += f"; did you mean {near[0]!r}?" if near else ";"
    return said if near and len(valid) > 30 else f"{said} valid are {', '.join(valid)}"
