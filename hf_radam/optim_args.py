"""`--optim_args`, text that becomes options of an optimizer."""

from __future__ import annotations

import ast
from typing import Any


def parse_optim_args(text: str | None) -> dict[str, Any]:
    """Read `--optim_args`: "key=value,key=value", where values are numbers, booleans, none, tuples or words.

    Raises:
        ValueError: an entry without "=", a key given twice, brackets that do not match.

    Example:
        >>> parse_optim_args("degenerated_to_sgd=false,betas=(0.9,0.98),eps=1e-6")
        {'degenerated_to_sgd': False, 'betas': (0.9, 0.98), 'eps': 1e-06}
    """
    options: dict[str, Any] = {}
    for entry in _split_outside_brackets(text or ""):
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not (key and equals and value):
            raise ValueError(f"optim_args must read 'key=value,key=value', but one entry is {entry.strip()!r}")
        if key in options:
            raise ValueError(f"optim_args gives {key!r} twice; leave one out")
        options[key] = _parse_value(value)
    return options


def _split_outside_brackets(text: str) -> list[str]:
    entries, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            raise ValueError(f"optim_args closes a bracket that it has not opened: {text!r}")
        if character == "," and depth == 0:
            entries.append("")
        else:
            entries[-1] += character
    return [entry for entry in entries if entry.strip()]


def _parse_value(text: str) -> Any:
    constant = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if constant is not text:
        return constant
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value
