"""Dataclasses from what people write: YAML, whose keys and values are checked against the fields."""

from __future__ import annotations

import dataclasses
import re
import reprlib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from hf_radam.errors import UserError as UserError
from hf_radam.errors import unknown_name
from hf_radam.files import one_line

T = TypeVar("T")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 3


def shown(value: Any) -> str:
    """A value as messages quote it: short, whatever it is.

    Example:
        >>> shown([[1, [2, [3]]]] * 9)
        '[[1, [2, [...]]], [1, [2, [...]]], [1, [2, [...]]], [1, [2, [...]]], [1, [2, [...]]], [1, [2, [...]]], ...]'
    """
    return _SHORT.repr(value)


def unknown(kind: str, value: Any, valid: Iterable[str], where: str = "") -> UserError:
    """The error for a name that does not exist, or for something else in its place."""
    name = value if isinstance(value, str) and len(value) <= _SHORT.maxstring else shown(value)
    return UserError(f"{where}{': ' if where else ''}{unknown_name(kind, name, valid)}")


def check_least(options: Any, least: int, *names: str, where: str = "") -> None:
    """Refuse options that are set and too small.

    Raises:
        UserError: naming the first of them.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"{where}{': ' if where else ''}{name} must be >= {least}, got {value}")


def build(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of a mapping; refuse unknown and missing keys, and values of the wrong type.

    Raises:
        UserError: naming `where` and the key.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    hints = get_type_hints(cls)
    for key in content:
        if key not in fields:
            raise unknown("key", key, fields, where)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in content:
            raise UserError(f"{where}: the key {name!r} is missing")
    return cls(**{key: typed(value, hints[key], f"{where}: {key}") for key, value in content.items()})


def typed(value: Any, hint: Any, where: str) -> Any:
    """The value, as the hint wants it: a list as a tuple, a whole number as a float.

    Raises:
        UserError: it is of another type.

    Example:
        >>> typed([1, 2], tuple[float, ...], "betas")
        (1.0, 2.0)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return typed(value, next(a for a in arguments if a is not type(None)), where)
    if origin is Literal:
        if value not in arguments:
            raise unknown("value", value, map(str, arguments), where)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list, got {shown(value)}")
        return tuple(typed(item, arguments[0], where) for item in value)
    expected = {float: (int, float), Mapping: dict}.get(origin or hint, origin or hint)
    if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
        name = {Mapping: "a mapping", int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        said = f"{where} must be {name.get(origin or hint, hint)}, got {shown(value)}"
        raise UserError(f"{said}; YAML reads no as false: put it in quotes" if hint is str and value is False else said)
    return float(value) if hint is float else value


class _Loader(yaml.SafeLoader):
    """Reads 3e-3 as the number that people mean, which YAML 1.1 takes for text, and nothing that explodes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As in PyYAML, without aliases, which can make a short text huge or endless."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read; write the value again")
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str | bytes, what: str) -> Any:
    """What YAML says.

    Args:
        text: the YAML.
        what: it is, in messages.

    Raises:
        UserError: it is not YAML, or more than a comparison can mean.

    Example:
        >>> [read_yaml(text, "a value") for text in ("3e-3", "[1, 2]", "de")]
        [0.003, [1, 2], 'de']
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # of dates and numbers, of nesting
        why = "nested too deep" if isinstance(error, RecursionError) else one_line(error)
        raise UserError(f"{what} is not YAML: {why}") from error
