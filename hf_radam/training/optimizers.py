"""What Transformers' Trainer needs for a registered name: class, options, parameter groups, DeepSpeed."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers.trainer import Trainer
from transformers.training_args import OptimizerNames
from transformers.utils import logging

from hf_radam.errors import unknown_name
from hf_radam.libraries import library_of_class
from hf_radam.optimizer import RAdam
from hf_radam.registry import get_optimizer
from hf_radam.spec import OptimizerSpec, parse_optim_args
from hf_radam.training.arguments import find, name_of
from hf_radam.training.callbacks import spec_of

logger = logging.get_logger(__name__)
_CLASS_AND_OPTIONS = Trainer.get_optimizer_cls_and_kwargs


def given_options(args: Any) -> dict[str, Any]:
    """`args.optim_args`, overridden by the keyword `optim_args` of our trainers."""
    return {**parse_optim_args(args.optim_args), **getattr(args, "_hf_radam_optim_args", {})}


def options_of(spec: OptimizerSpec, args: Any) -> dict[str, Any]:
    """The options of a registered optimizer: training arguments, registered defaults, `given_options`; the later wins.

    Raises:
        ValueError: the class does not take an option.
    """
    of_arguments = {
        "lr": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
        "weight_decay": args.weight_decay,
    }
    known = spec.options()
    options = {key: value for key, value in of_arguments.items() if key in known}
    given = given_options(args)
    spec.check_options(given)
    return {**options, **spec.defaults, **given}


@functools.wraps(_CLASS_AND_OPTIONS)
def class_and_options(args: Any, model: Any = None) -> tuple[Any, Any]:
    """Trainer's `get_optimizer_cls_and_kwargs`, for registered names as well as Transformers' own."""
    spec = find(args.optim)
    if spec is None:
        return _CLASS_AND_OPTIONS(args, model)
    if not spec.like:
        return spec.load(), options_of(spec, args)
    options = {**spec.defaults, **given_options(args)}
    spec.check_options(options)
    args, known = copy.copy(args), spec.options()
    args.optim = OptimizerNames(spec.like)
    rest = {key: value for key, value in options.items() if key not in known}
    # Transformers splits at every comma, which would break a tuple.
    args.optim_args = ",".join(f"{k}={v}" for k, v in rest.items() if not isinstance(v, tuple)) or None
    cls, of_transformers = _CLASS_AND_OPTIONS(args, model)
    exchange: Any = spec.load()
    flags = {key: value for key, value in options.items() if key in known}
    return exchange(cls, **flags), {**of_transformers, **_unread(spec, cls, of_transformers, rest)}


def _unread(spec: OptimizerSpec, cls: Any, read: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that Transformers would drop silently; they go to the class itself."""
    of_groups = {key for group in read.get("params", []) if isinstance(group, dict) for key in group}
    taken = [name for name in inspect.signature(cls).parameters if name not in ("params", "weight_decay")]
    unread = {key: value for key, value in given.items() if key not in of_groups}
    for key in unread:
        if key == "weight_decay":
            raise ValueError(f"{spec.name!r} takes its decay from the training arguments; set weight_decay there")
        if key not in taken:
            known = [*spec.options(), *taken, *sorted(of_groups - {"params"})]
            raise ValueError(unknown_name(f"option of optimizer {spec.name!r}:", key, known))
    # Transformers has already converted text to a dtype.
    return {key: value for key, value in unread.items() if not isinstance(read.get(key), torch.dtype)}


def create_optimizer(trainer: Any, original: Callable[..., Any], model: Any = None) -> Any:
    """Trainer's method; registered names get the groups of `decay_groups`, unless the options have groups.

    Transformers does the rest, such as 32-bit embeddings beside an 8-bit optimizer.
    """
    of_model = () if model is None else (model,)
    if trainer.optimizer is not None or spec_of(trainer) is None:
        return original(*of_model)
    model = trainer.model if model is None else model
    cls, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    cls, options = _on_host(trainer, cls, options)
    if getattr(trainer.accelerator, "is_fsdp2", False) and library_of_class(cls) == "bitsandbytes":
        raise ValueError(
            f"optim={name_of(trainer.args.optim)!r} uses bitsandbytes, which cannot update FSDP2's sharded parameters; "
            "use radam_torch_8bit or radam_torch_4bit (torchao), or train with DDP or DeepSpeed"
        )
    if isinstance(cls, type) and "model" not in options:  # a factory makes its own groups
        key = "params" if "params" in options else "optimizer_dict"
        groups = options.get(key) or decay_groups(trainer, model)
        options[key] = [group for group in groups if not isinstance(group, dict) or group["params"]]
    trainer.optimizer_cls_and_kwargs = cls, options
    try:
        return original(*of_model)
    finally:
        trainer.optimizer_cls_and_kwargs = None


def _on_host(trainer: Any, cls: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Replace RAdam by DeepSpeed's kernel for the host under optimizer offload, unless that lacks an option."""
    if cls is not RAdam or not trainer.is_deepspeed_enabled:
        return cls, options
    config = trainer.accelerator.state.deepspeed_plugin.hf_ds_config.config
    offload = (config.get("zero_optimization") or {}).get("offload_optimizer") or {}
    known = {"lr", "betas", "eps", "weight_decay", "degenerated_to_sgd", "optimized_update"}
    if offload.get("device", "none") == "none" or set(options) - known - {"params", "optimizer_dict"}:
        return cls, options
    spec = get_optimizer("radam_deepspeed_cpu")
    if trainer.is_world_process_zero():  # a warning, because the name stands for another class
        name = name_of(trainer.args.optim)
        logger.warning(f"DeepSpeed offloads the optimizer, so {name!r} uses the kernel of DeepSpeedCPUAdam")
    return spec.load(), options


def decay_groups(trainer: Any, model: Any) -> list[dict[str, Any]]:
    """A group that decays and one that does not.

    Checkpoints depend on the number of groups, so it depends only on the model and not on its sharding.
    """
    decaying = set(trainer.get_decay_parameter_names(model))
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in trainable if name in decaying], "weight_decay": trainer.args.weight_decay},
        {"params": [p for name, p in trainable if name not in decaying], "weight_decay": 0.0},
    ]


def keep_in_deepspeed(name: str, config: dict[str, Any]) -> None:
    """Make DeepSpeed use the optimizer that it gets.

    Under optimizer offload Accelerate would replace it by `DeepSpeedCPUAdam`, unless the configuration says
    `zero_force_ds_cpu_optimizer: false`, which this function adds.

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
            f"the DeepSpeed config has a section 'optimizer' ({config['optimizer'].get('type')}), which would replace "
            f"optim={name!r}; delete that section, or pass optim='adamw_torch' to use it"
        )
    if config.setdefault("zero_force_ds_cpu_optimizer", False):
        raise ValueError(
            f"the DeepSpeed config sets zero_force_ds_cpu_optimizer, which replaces {name!r} by DeepSpeedCPUAdam; "
            "delete that line, or set it to false"
        )
