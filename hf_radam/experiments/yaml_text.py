"""YAML that people write: numbers as they mean them, and nothing that explodes."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hf_radam.errors import UserError
from hf_radam.files import one_line


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
