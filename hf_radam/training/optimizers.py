"""Registered names where Transformers' Trainer asks for an optimizer: class, options, parameter groups, DeepSpeed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers.trainer import Trainer
from transformers.training_args import OptimizerNames

from hf_radam.registry import OptimizerSpec, parse_optim_args
from hf_radam.training.arguments import find, registered

_CREATE = Trainer.create_optimizer
_CLASS_AND_OPTIONS = Trainer.get_optimizer_cls_and_kwargs
_BUILDING = threading.RLock()


def options_of(spec: OptimizerSpec, args: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a registered optimizer is built with; the later of these wins.

    Fields of the training arguments (learning rate, betas, eps, weight decay, each if the class has it), the registered
    defaults, `args.optim_args`, `given`.

    Raises:
        ValueError: an option that the class does not take.
    """
    of_arguments = {
        "lr": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
        "weight_decay": args.weight_decay,
    }
    known = spec.options()
    options = {key: value for key, value in of_arguments.items() if key in known}
    given = {**parse_optim_args(args.optim_args), **(given or {})}
    spec.check_options(given)
    return {**options, **spec.defaults, **given}


def class_and_options(args: Any, model: Any = None, given: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
    """As Trainer's `get_optimizer_cls_and_kwargs`, for registered names and for Transformers' own."""
    spec = find(args.optim)
    if spec is None:
        return _CLASS_AND_OPTIONS(args, model)
    if not spec.like:
        return spec.load(), options_of(spec, args, given)
    options = {**spec.defaults, **parse_optim_args(args.optim_args), **(given or {})}
    spec.check_options(options)
    args, known = copy.copy(args), spec.options()
    args.optim = OptimizerNames(spec.like)
    args.optim_args = ",".join(f"{key}={value}" for key, value in options.items() if key not in known) or None
    cls, of_transformers = _CLASS_AND_OPTIONS(args, model)
    exchange: Any = spec.load()
    return exchange(cls, **{key: value for key, value in options.items() if key in known}), of_transformers


def create_optimizer(trainer: Any, model: Any = None) -> Any:
    """As Trainer's method; for registered names with the groups of `decay_groups`, unless the options bring their own.

    The rest, such as 32-bit embeddings beside an 8-bit optimizer, is Transformers' own.
    """
    of_model = () if model is None else (model,)
    if (
        trainer.optimizer is not None
        or trainer.optimizer_cls_and_kwargs is not None
        or not registered(trainer.args.optim)
    ):
        return _CREATE(trainer, *of_model)
    model = trainer.model if model is None else model
    cls, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    if isinstance(cls, type) and "model" not in options:  # no factory, which makes its own groups
        key = "params" if "params" in options else "optimizer_dict"
        groups = options.get(key) or decay_groups(trainer, model)
        options[key] = [group for group in groups if not isinstance(group, dict) or group["params"]]
    trainer.optimizer_cls_and_kwargs = cls, options
    try:
        return _CREATE(trainer, *of_model)
    finally:
        trainer.optimizer_cls_and_kwargs = None


def decay_groups(trainer: Any, model: Any) -> list[dict[str, Any]]:
    """A group that decays and one that does not.

    Their number is part of the checkpoint format: it depends on the model alone, not on how it is sharded.
    """
    decaying = set(trainer.get_decay_parameter_names(model))
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in trainable if name in decaying], "weight_decay": trainer.args.weight_decay},
        {"params": [p for name, p in trainable if name not in decaying], "weight_decay": 0.0},
    ]


@contextmanager
def registered_names(given: Mapping[str, Any] | None = None) -> Iterator[None]:
    """While an optimizer is built, Transformers' Trainer itself knows the registered names.

    A `create_optimizer` that makes groups of its own asks `Trainer.get_optimizer_cls_and_kwargs(self.args)` for class
    and options, by that very name, and no subclass stands between. Both public methods are put back afterwards.
    """
    with _BUILDING:
        before = vars(Trainer)["create_optimizer"], vars(Trainer)["get_optimizer_cls_and_kwargs"]
        know_registered_names(given)
        try:
            yield
        finally:
            Trainer.create_optimizer, Trainer.get_optimizer_cls_and_kwargs = before


def know_registered_names(given: Mapping[str, Any] | None = None) -> None:
    """The same for good; see `hf_radam.enable`."""

    def get_optimizer_cls_and_kwargs(args: Any, model: Any = None) -> tuple[Any, Any]:
        return class_and_options(args, model, given)

    Trainer.create_optimizer = create_optimizer  # pyright: ignore[reportAttributeAccessIssue]
    Trainer.get_optimizer_cls_and_kwargs = staticmethod(get_optimizer_cls_and_kwargs)


def keep_in_deepspeed(name: str, config: dict[str, Any]) -> None:
    """Have DeepSpeed use the optimizer that it is given.

    Args:
        name: the optimizer's, for the error.
        config: the DeepSpeed configuration; with optimizer offload Accelerate would replace any optimizer by
            `DeepSpeedCPUAdam`, unless `zero_force_ds_cpu_optimizer` is false, which is filled in here.

    Raises:
        ValueError: the configuration asks for another optimizer.

    Example:
        >>> config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
        >>> keep_in_deepspeed("radam", config)
        >>> config["zero_force_ds_cpu_optimizer"]
        False
    """
    if "optimizer" in config:
        raise ValueError(
            f"the DeepSpeed config has a section 'optimizer' ({config['optimizer'].get('type')}), and optim asks for "
            f"{name!r}, which would never be built; delete that section, or pass optim='adamw_torch' to use it"
        )
    if config.setdefault("zero_force_ds_cpu_optimizer", False):
        raise ValueError(
            f"the DeepSpeed config sets zero_force_ds_cpu_optimizer, which replaces {name!r} by DeepSpeedCPUAdam; "
            "delete that line or set it to false"
        )
