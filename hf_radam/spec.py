"""What a name stands for: a class, its options, and what is said of it."""

from __future__ import annotations

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
    """One of Transformers' names. Trainer then builds what it builds for that name, with the class exchanged for what
    `target`, a function of the class, makes of it; `optim_args` goes to that function where it has such a keyword."""
    description: str = ""
    """One line for `hf-radam optimizers`."""
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options that differ from the class's own defaults; they win over the fields of TrainingArguments."""
    warmup_free: bool = False
    """Whether it is meant to run without learning-rate warmup."""
    reference: str = ""
    """Where it was published."""
    extra: str = ""
    """What `pip install` brings, where the class belongs to an optional dependency."""

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
            ValueError: with the valid options.
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
            ValueError: an option that the class does not know.
            ImportError: the optional dependency is missing.
        """
        options = {**self.defaults, **options}
        self.check_options(options)
        return self.load()(params, **options)


def _broken_rule(value: Any, option: inspect.Parameter) -> str | None:
    """What the value should have been, judged by the option's default; None if it is right, or nobody can tell."""
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
