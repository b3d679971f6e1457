"""Errors that are not bugs: commands print them in one line and exit."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message states the rule, the value and the remedy; commands exit with 2."""


class NetworkError(Exception):
    """The network or the Hub failed: the message says what to do; commands exit with 1."""


def closest(given: str, valid: Iterable[str]) -> str:
    """A suggestion for a name that does not exist, or nothing."""
    near = difflib.get_close_matches(given, list(valid), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown_name(kind: str, given: str, valid: Iterable[str]) -> str:
    """The message about a name that does not exist: it lists the valid names and suggests the closest."""
    valid = list(valid)
    near = [name for name in valid if name.startswith(given)] or difflib.get_close_matches(given, valid, n=1)
    said = f"unknown {kind} {given!r}"
    said += f"; did you mean {near[0]!r}?" if near else ";"
    return said if near and len(valid) > 30 else f"{said} valid are {', '.join(valid)}"
