"""A registered optimizer: its class, its options, and `--optim_args` as text."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from hf_radam.errors import unknown_name

PAPER = "arXiv 1908.03265"


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer that has a name; `register_optimizer` makes one, `get_optimizer` finds it.

    Example:
        >>> import torch
        >>> spec = OptimizerSpec(name="my_sgd", target="torch.optim:SGD", defaults={"momentum": 0.9})
        >>> spec(torch.nn.Linear(2, 1).parameters(), lr=1e-3).defaults["momentum"]
        0.9
    """

    name: str
    """What users write after `--optim`."""
    target: type[Optimizer] | str
    """The class, or where it is imported from when it is built: "package.module:Class"."""
    like: str = ""
    """One of Transformers' names. Trainer then builds what it builds for that name, but replaces the class by
    `target(class)`. An entry of `optim_args` goes to `target` if that has such a keyword."""
    description: str = ""
    """One line for `hf-radam optimizers`."""
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options that differ from the class's own defaults; they override the fields of TrainingArguments."""
    warmup_free: bool = False
    """Whether it is meant to run without learning-rate warmup."""
    reference: str = ""
    """Where it was published."""
    library: str = ""
    """The package that must be installed, where the class belongs to an optional dependency."""
    extra: str = ""
    """What `pip install` takes to bring it."""

    def load(self) -> type[Optimizer]:
        """Import the class.

        Raises:
            ImportError: the optional dependency is missing; the message names what to install.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            raise ImportError(f"optimizer {self.name!r} needs {error.name!r}: pip install '{self.extra}'") from error

    def options(self) -> dict[str, inspect.Parameter]:
        """The options that the class takes beside the parameters, with those that it passes on to its base class."""
        if self.like:
            _, *keywords = inspect.signature(self.load()).parameters.values()
            return {option.name: option for option in keywords}
        found: dict[str, inspect.Parameter] = {}
        for cls in self.load().__mro__:
            _self, _params, *options = inspect.signature(cls.__init__).parameters.values()
            for option in options:
                if option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY):
                    found.setdefault(option.name, option)
            if not any(option.kind is option.VAR_KEYWORD for option in options):
                break
        return found

    def check_options(self, given: Mapping[str, Any]) -> None:
        """Refuse options that the class does not know, and values of another type than the option's default.

        Raises:
            ValueError: an option is unknown or has a wrong type; the message lists the valid ones.
        """
        known = self.options()
        for key, value in given.items():
            if key not in known and self.like:
                continue  # for Transformers to read
            if key not in known:
                raise ValueError(unknown_name(f"option of optimizer {self.name!r}:", key, known))
            if rule := _broken_rule(value, known[key]):
                raise ValueError(f"option {key!r} of optimizer {self.name!r} must be {rule}, got {value!r}")

    def __call__(self, params: Iterable[Any], **options: Any) -> Optimizer:
        """Build the optimizer, with `defaults` for the options that are not given.

        Raises:
            ValueError: the class does not know an option.
            ImportError: the optional dependency is missing.
        """
        options = {**self.defaults, **options}
        self.check_options(options)
        return self.load()(params, **options)


def _broken_rule(value: Any, option: inspect.Parameter) -> str | None:
    """What the value must be, judged by the option's default; None if it is right or the default does not tell."""
    default = option.default
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, (int, float)):
        return None if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) else "a number"
    if isinstance(default, tuple):
        return None if isinstance(value, (tuple, list)) else "a tuple"
    if default is None and "bool" in str(option.annotation):
        return None if value is None or isinstance(value, bool) else "true, false or none"
    return None


def parse_optim_args(text: str | None) -> dict[str, Any]:
    """Read `--optim_args`: "key=value,key=value", where values are numbers, booleans, none, tuples or words.

    Raises:
        ValueError: an entry has no "=", a key is given twice, or a bracket does not match.

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
            raise ValueError(f"optim_args has a closing bracket without an opening one: {text!r}; remove it")
        if character == "," and depth == 0:
            entries.append("")
        else:
            entries[-1] += character
    return [entry for entry in entries if entry.strip()]


def _parse_value(text: str) -> Any:
    if text.lower() in ("true", "false", "none"):
        text = text.title()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value
