"""YAML that people write: numbers as they mean them, and nothing that explodes."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hf_radam.errors import UserError
from hf_radam.files import one_line


class _Loader(yaml.SafeLoader):
    """Reads 3e-3 as the number that people mean, which YAML 1.1 takes for text, and nothing that explodes."""

    def get_single_data(self) -> Any:
        """The content, unless its aliases make it huge or endless."""
        node = self.get_single_node()
        if node is None:
            return None
        values, depth = _extent(node, {})
        if values > _MOST_VALUES or depth > _DEEPEST:
            raise yaml.YAMLError(f"more than {_MOST_VALUES:,} values, or nested more than {_DEEPEST} deep")
        return self.construct_document(node)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_MOST_VALUES, _DEEPEST = 10_000, 20


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node has with all aliases written out, and how deep they are nested."""
    if id(node) not in known:
        known[id(node)] = (_MOST_VALUES + 1, 0)  # met again below: it contains itself
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        extents = [_extent(child, known) for child in children]
        known[id(node)] = (1 + sum(e[0] for e in extents), 1 + max((e[1] for e in extents), default=0))
    return known[id(node)]


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
