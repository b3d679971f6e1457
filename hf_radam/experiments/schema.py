"""Dataclasses from what people write: YAML, whose keys and values are checked against the fields."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import ConfigDict, Field, Strict, TypeAdapter, ValidationError

from hf_radam.errors import UserError as UserError
from hf_radam.errors import unknown_name
from hf_radam.files import one_line

T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]
"""A list, as YAML has it, of at least one."""
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
    """Refuse options that are set and too small, by a UserError about the first of them."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"{where}{': ' if where else ''}{name} must be >= {least}, got {value}")


def build(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of a mapping; a UserError names `where` and what is unknown, missing or of another type."""
    fields = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    hints = get_type_hints(cls, include_extras=True)
    for key in content:
        if key not in fields:
            raise unknown("key", key, fields, where)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in content:
            raise UserError(f"{where}: the key {name!r} is missing")
    return cls(**{key: typed(value, hints[key], f"{where}: {key}") for key, value in content.items()})


@cache
def _check(hint: Any) -> TypeAdapter[Any]:
    """What checks values; no number is read from text, or from true and false."""
    return TypeAdapter(hint, config=ConfigDict(strict=True))


def typed(value: Any, hint: Any, where: str) -> Any:
    """The value, as the hint wants it: a list as a tuple, a whole number as a float; else a UserError.

    Example:
        >>> typed([1, 2], Listed[float], "betas")
        (1.0, 2.0)
    """
    try:
        return _check(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        rule = re.sub("^(Input|Tuple|String) should", "must", first["msg"])
        quotes = "; YAML reads no as false: put it in quotes" if value is False and "string" in rule else ""
        raise UserError(f"{where} {rule}, got {shown(first['input'])}{quotes}") from None


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
    """What YAML says; a UserError calls it `what` if it is not YAML, or more than a comparison can mean.

    Example:
        >>> [read_yaml(text, "a value") for text in ("3e-3", "[1, 2]", "de")]
        [0.003, [1, 2], 'de']
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # of dates and numbers, of nesting
        why = "nested too deep" if isinstance(error, RecursionError) else one_line(error)
        raise UserError(f"{what} is not YAML: {why}") from error
