"""Registered names as the `optim` of training arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers.training_args import OptimizerNames, TrainingArguments

from hf_radam.derived import refusal
from hf_radam.optim_args import parse_optim_args
from hf_radam.registry import OptimizerSpec, get_optimizer, list_optimizers, unknown_name

if TYPE_CHECKING:  # the mixin goes on top of any subclass
    _Arguments = TrainingArguments
else:
    _Arguments = object

_OPTIM_HELP = "The optimizer: a name of `hf-radam optimizers`, or any of Transformers' own."


def name_of(optim: OptimizerNames | str) -> str:
    """The name as text, which Transformers keeps as a member of its enumeration."""
    return optim.value if isinstance(optim, OptimizerNames) else optim


def registered(optim: OptimizerNames | str) -> OptimizerSpec | None:
    """The registered optimizer of that name, or None for any other name."""
    name = name_of(optim)
    return get_optimizer(name) if name in list_optimizers() else None


def find(optim: OptimizerNames | str) -> OptimizerSpec | None:
    """The registered optimizer of that name, or None for one of Transformers' own.

    Raises:
        ValueError: the name is neither.

    Example:
        >>> find("radam").name, find("adafactor")
        ('radam', None)
    """
    spec, vanilla = registered(optim), [member.value for member in OptimizerNames]
    if spec is None and name_of(optim) not in vanilla:
        unknown = unknown_name("optimizer", name_of(optim), [*list_optimizers(), *vanilla])
        raise ValueError(refusal(name_of(optim)) or unknown)
    return spec


def check_name(args: Any, of_transformers: Callable[[], None]) -> None:
    """Run Transformers' own `__post_init__`, which would refuse a registered name, behind one that it knows."""
    spec = find(args.optim)
    if spec is None:
        return of_transformers()
    spec.check_options(parse_optim_args(args.optim_args))
    args.optim = OptimizerNames.ADAMW_TORCH
    of_transformers()
    args.optim = spec.name
    return None


def set_name(args: Any, name: OptimizerNames | str, of_transformers: Callable[[OptimizerNames | str], Any]) -> Any:
    """The same for Transformers' own `set_optimizer`."""
    spec = find(name)
    of_transformers(OptimizerNames.ADAMW_TORCH if spec else name)
    if spec is not None:
        spec.check_options(parse_optim_args(args.optim_args))
        args.optim = spec.name
    return args


@dataclass
class RAdamArgumentsMixin(_Arguments):
    """Lets `optim` of any TrainingArguments subclass be a registered name, RAdam by default.

    Put it before that class, and decorate the new class with `@dataclass`.

    Raises:
        ValueError: an unknown name, or `optim_args` that the optimizer does not take.

    Example:
        >>> @dataclass
        ... class Arguments(RAdamArgumentsMixin, TrainingArguments):
        ...     pass
        >>> Arguments(output_dir="out", report_to="none").optim
        'radam'
    """

    # Transformers' own type would have HfArgumentParser allow its own names only.
    optim: str = field(default="radam", metadata={"help": _OPTIM_HELP})  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        check_name(self, super().__post_init__)

    def set_optimizer(self, name: str | OptimizerNames = "radam", *args: Any, **kwargs: Any) -> Any:
        """As in Transformers, with registered names as well."""
        parent = super().set_optimizer
        return set_name(self, name, lambda known: parent(known, *args, **kwargs))
