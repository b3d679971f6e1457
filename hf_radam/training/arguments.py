"""Registered names as the `optim` of training arguments.

Importing this module makes Transformers' own class accept them too, because other libraries convert our arguments to
their own class (TRL to an SFTConfig).
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers.training_args import OptimizerNames, TrainingArguments

from hf_radam.derived import refusal
from hf_radam.errors import unknown_name
from hf_radam.registry import find_optimizer, list_optimizers
from hf_radam.spec import OptimizerSpec, parse_optim_args

if TYPE_CHECKING:  # the mixin goes on top of any subclass
    _Arguments = TrainingArguments
else:
    _Arguments = object

_POST_INIT, _SET_OPTIMIZER = TrainingArguments.__post_init__, TrainingArguments.set_optimizer
_OPTIM_HELP = "The optimizer: a name of `hf-radam optimizers`, or any of Transformers' own."


def name_of(optim: OptimizerNames | str) -> str:
    """The name as text; Transformers keeps its own names as members of an enumeration."""
    return optim.value if isinstance(optim, OptimizerNames) else optim


def registered(optim: OptimizerNames | str) -> OptimizerSpec | None:
    """The registered optimizer of that name, or None for any other name."""
    return find_optimizer(name_of(optim))


def find(optim: OptimizerNames | str) -> OptimizerSpec | None:
    """The registered optimizer of that name, or None for one of Transformers' own.

    Raises:
        ValueError: the name is neither registered nor Transformers'.

    Example:
        >>> find("radam").name, find("adafactor")
        ('radam', None)
    """
    spec, vanilla = registered(optim), [member.value for member in OptimizerNames]
    if spec is None and name_of(optim) not in vanilla:
        unknown = unknown_name("optimizer", name_of(optim), [*list_optimizers(), *vanilla])
        raise ValueError(refusal(name_of(optim)) or unknown)
    return spec


@functools.wraps(TrainingArguments.__post_init__)
def _post_init(self: Any) -> None:
    """Transformers' method refuses registered names, so it runs with a name that it knows."""
    spec = find(self.optim)
    if spec is not None:
        spec.check_options(parse_optim_args(self.optim_args))
        self.optim = OptimizerNames.ADAMW_TORCH
    _POST_INIT(self)
    if spec is not None:
        self.optim = spec.name


@functools.wraps(TrainingArguments.set_optimizer)
def _set_optimizer(self: Any, name: OptimizerNames | str = "adamw_torch", *args: Any, **kwargs: Any) -> Any:
    """The same for `set_optimizer`; a refused call changes nothing."""
    spec, changed = find(name), copy.copy(self)
    _SET_OPTIMIZER(changed, OptimizerNames.ADAMW_TORCH if spec else name, *args, **kwargs)
    if spec is not None:
        spec.check_options(parse_optim_args(changed.optim_args))
        changed.optim = spec.name
    vars(self).update(vars(changed))
    return self


@dataclass
class RAdamArgumentsMixin(_Arguments):
    """Lets `optim` of any TrainingArguments subclass be a registered name; the default is RAdam.

    Put it before that class, and decorate the new class with `@dataclass`.

    Args:
        optim: a name of `list_optimizers()`, or any of Transformers' own.

    Raises:
        ValueError: the name is unknown, or the optimizer does not take the `optim_args`.

    Example:
        >>> @dataclass
        ... class Arguments(RAdamArgumentsMixin, TrainingArguments):
        ...     pass
        >>> Arguments(output_dir="out", report_to="none").optim
        'radam'
    """

    # With Transformers' own type HfArgumentParser would allow only Transformers' names.
    optim: str = field(default="radam", metadata={"help": _OPTIM_HELP})  # pyright: ignore[reportIncompatibleVariableOverride]

    def set_optimizer(self, name: str | OptimizerNames = "radam", *args: Any, **kwargs: Any) -> Any:
        """Transformers' method, with registered names as well; a refused call changes nothing."""
        return super().set_optimizer(name, *args, **kwargs)


TrainingArguments.__post_init__ = _post_init
TrainingArguments.set_optimizer = _set_optimizer
# HfArgumentParser makes choices of the members of an enumeration.
TrainingArguments.__annotations__["optim"] = TrainingArguments.__dataclass_fields__["optim"].type = str
