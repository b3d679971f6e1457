"""Dataclasses from what people write: YAML, whose keys and values are checked against the fields."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from hf_radam.errors import UserError as UserError
from hf_radam.errors import unknown_name
from hf_radam.files import one_line

T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]
"""A list, as YAML has it, of at least one."""
STRICT = ConfigDict(strict=True, extra="forbid")
"""No number is read from text, or from true and false."""
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


def why(error: Exception) -> str:
    """What is wrong with content that cannot be read, in one line: of rules for values, the first that is broken."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors(include_url=False)[0]
    place, value = one_line(".".join(map(str, first["loc"])))[:80], first["input"]
    if first["type"] == "missing":
        return f"the key {place!r} is missing"
    if first["type"] == "value_error":  # a rule of ours
        return f"{place} {first['msg'].removeprefix('Value error, ')}".lstrip()
    rule = re.sub("^(Input|Tuple|String) should", "must", first["msg"])
    quotes = "; YAML reads no as false: put it in quotes" if value is False and "string" in rule else ""
    return f"{place} {rule}, got {shown(value)}{quotes}".lstrip()


def build(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of a mapping; a UserError names `where` and what is unknown, missing or of another type.

    A list becomes a tuple, a whole number a float, as the fields want it.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
    for key in content:
        if key not in names:
            raise unknown("key", key, names, where)
    try:
        return _checked(cls)(**content)
    except ValidationError as error:
        raise UserError(f"{where}: {why(error)}") from None


@cache
def _checked(cls: type) -> type[Any]:
    """The class itself if it checks what it is made of; of a plain dataclass of a script one that does."""
    return cls if is_pydantic_dataclass(cls) else dataclass(cls, frozen=True, config=STRICT)


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
        raise UserError(f"{what} is not YAML: {why(error)}") from error
