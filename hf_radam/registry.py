"""The optimizers by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

PAPER = "arXiv 1908.03265"


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer that has a name.

    Example:
        >>> import torch
        >>> get_optimizer("radam")(torch.nn.Linear(2, 1).parameters(), lr=1e-3).__class__.__name__
        'RAdam'
    """

    name: str
    """What users write after `--optim`."""
    target: type[Optimizer] | str
    """The class, or where it is imported from when it is built: "package.module:Class"."""
    like: str = ""
    """One of Transformers' names. Trainer then builds what it builds for that name, with the class exchanged for what
    `target`, a function of the class, makes of it; `optim_args` goes to that function where it has such a keyword."""
    description: str = ""
    """One line for the table of `python -m hf_radam`."""
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
            _, _, *options = inspect.signature(
                cls.__init__
            ).parameters.values()  # the first are self and the parameters
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
            rule = _broken_rule(value, known[key])
            if rule:
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


_REGISTRY: dict[str, OptimizerSpec] = {
    spec.name: spec
    for spec in (
        OptimizerSpec(
            name="radam",
            target="hf_radam.optimizer:RAdam",
            description="Rectified Adam, fused, decoupled decay",
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="radam_no_sgd",
            target="hf_radam.optimizer:RAdam",
            description="RAdam that waits in start-up instead of taking SGD steps",
            defaults={"degenerated_to_sgd": False},
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="radam_torch",
            target="torch.optim:RAdam",
            description="PyTorch's own RAdam with decoupled decay: the reference",
            defaults={"decoupled_weight_decay": True},
            warmup_free=True,
            reference=PAPER,
        ),
        OptimizerSpec(
            name="adam",
            target="torch.optim:AdamW",
            description="PyTorch's fused AdamW, the baseline",
            defaults={"fused": True},
            reference="arXiv 1711.05101",
        ),
        OptimizerSpec(
            name="adam_2k",
            target="hf_radam.experiments.baselines:Adam2k",
            description="Adam whose first 2,000 steps (freeze_steps) only estimate the second moment",
            warmup_free=True,
            reference=f"{PAPER}, section 3.1",
        ),
        OptimizerSpec(
            name="adam_eps",
            target="hf_radam.experiments.baselines:Adam2k",
            description="Adam with a large eps (1e-4), added to sqrt(v) as in the authors' code",
            defaults={"freeze_steps": 0, "eps": 1e-4},
            warmup_free=True,
            reference=f"{PAPER}, section 3.1",
        ),
    )
}


def list_optimizers() -> list[str]:
    """The registered names, in the order of registration, and then those of `hf_radam.derived`.

    Example:
        >>> list_optimizers()[0]
        'radam'
    """
    return [*_REGISTRY, *(name for name in _derived() if name not in _REGISTRY)]


def find_optimizer(name: str) -> OptimizerSpec | None:
    """The optimizer of that name, or None."""
    return _REGISTRY.get(name) or _derived().get(name)


def get_optimizer(name: str) -> OptimizerSpec:
    """The optimizer of that name; call it with parameters and options to build one.

    Raises:
        ValueError: no such name; the message lists the names and suggests the closest.

    Example:
        >>> get_optimizer("radam").warmup_free
        True
    """
    found = find_optimizer(name)
    if found is None:
        from hf_radam.derived import refusal

        raise ValueError(refusal(name) or unknown_name("optimizer", name, list_optimizers()))
    return found


def _derived() -> dict[str, OptimizerSpec]:
    """Names by rule, from the list of the installed Transformers: not before somebody asks for one."""
    from hf_radam.derived import derived

    return derived()


def register_optimizer(
    name: str,
    target: type[Optimizer] | str,
    *,
    description: str = "",
    defaults: Mapping[str, Any] | None = None,
    warmup_free: bool = False,
    reference: str = "",
    extra: str = "",
    overwrite: bool = False,
) -> OptimizerSpec:
    """Give an optimizer of your own a name, for `--optim` and for the recipes of comparisons.

    Args:
        name: the name; it must not be taken, unless `overwrite`.
        target: the class, or "package.module:Class" to import it only when it is built.
        description: one line.
        defaults: options that differ from the class's own defaults.
        warmup_free: whether it is meant to run without warmup; the Trainer then warns about warmup steps.
        reference: where it was published.
        extra: what `pip install` brings, for the error where the import fails.

    Returns:
        The new spec.

    Raises:
        ValueError: the name is taken, or `target` is a string without a colon.

    Example:
        >>> import torch
        >>> register_optimizer("my_sgd", torch.optim.SGD, defaults={"momentum": 0.9}, overwrite=True).name
        'my_sgd'
    """
    if name in _REGISTRY and not overwrite:
        raise ValueError(f"optimizer {name!r} is registered already; choose another name or pass overwrite=True")
    if isinstance(target, str) and ":" not in target:
        raise ValueError(f"target must read 'package.module:Class', got {target!r}")
    _REGISTRY[name] = OptimizerSpec(
        name=name,
        target=target,
        description=description,
        defaults=dict(defaults or {}),
        warmup_free=warmup_free,
        reference=reference,
        extra=extra,
    )
    return _REGISTRY[name]


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
