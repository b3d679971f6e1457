"""Registered names in Transformers' Trainer.

Importing this module extends Trainer and all its subclasses. Without our mixin, and with one of Transformers' own names
in `args.optim`, a trainer works as before. Signatures are Transformers'. Each attribute that we add to a trainer or to
its arguments begins with `_hf_radam_`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers import modelcard
from transformers.trainer import Trainer
from transformers.training_args import OptimizerNames

from hf_radam.training import loss_scale, optimizers, trainer_card
from hf_radam.training.arguments import find, name_of
from hf_radam.training.callbacks import StartCallback, rectifies, spec_of

if TYPE_CHECKING:  # the mixin goes on top of any subclass of Trainer
    _Trainer = Trainer
else:
    _Trainer = object


class RAdamTrainerMixin(_Trainer):
    """Builds the optimizer by name in any Trainer subclass; put it before that class.

    The name is the keyword `optim`, or else `args.optim`. Options come from four places, and the later wins: the
    training arguments (learning rate, betas, eps, weight decay), the registered defaults, `args.optim_args`, the
    keyword `optim_args`. Parameter groups are Transformers' (decay and no decay), or those of the parent's own
    `create_optimizer` or `get_optimizer_cls_and_kwargs`. Transformers handles its own names. DeepSpeed uses the
    optimizer that is built here.

    Args:
        optim: a registered name, or one of Transformers' own.
        optim_args: options of a registered optimizer, as a mapping.
        whole_batch_loss: whether to rescale the loss of a split batch to the mean over the whole batch, if the model
            averages over each part (see `hf_radam.training.loss_scale`).

    Raises:
        ValueError: the name is unknown; `optim` comes together with `optimizers` or `optimizer_cls_and_kwargs`; or the
            DeepSpeed configuration would replace the optimizer.

    Example:
        >>> import torch
        >>> from transformers import TrainingArguments
        >>> class MyTrainer(RAdamTrainerMixin, Trainer):
        ...     pass
        >>> model = torch.nn.Linear(2, 1)
        >>> args = TrainingArguments("out", report_to="none", weight_decay=0.1)
        >>> MyTrainer(model, args, optim="radam").create_optimizer().__class__.__name__
        'RAdam'
    """

    def __init__(
        self,
        *args: Any,
        optim: str | None = None,
        optim_args: Mapping[str, Any] | None = None,
        whole_batch_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        spec = None if optim is None else find(optim)  # before the model is touched
        self._hf_radam_whole_batch_loss = whole_batch_loss
        super().__init__(*args, **kwargs)
        if optim is not None and (self.optimizer is not None or self.optimizer_cls_and_kwargs is not None):
            raise ValueError(
                f"optim={optim!r} and optimizers (or optimizer_cls_and_kwargs) both choose the optimizer; pass only one"
            )
        if optim is None and not optim_args:
            return
        # Trainer, reports and cards look in the arguments. A copy, so that the caller's object stays as it is.
        self.args = copy.copy(self.args)
        vars(self.args)["_hf_radam_optim_args"] = dict(optim_args or {})
        if optim is not None:
            self.args.optim = spec.name if spec else OptimizerNames(optim)
        _join(self)


def _is_ours(trainer: Any) -> bool:
    return isinstance(trainer, RAdamTrainerMixin) or spec_of(trainer) is not None


def _extend(cls: Any, name: str, more: Callable[..., Any], when: Callable[[Any], bool] = _is_ours) -> None:
    """Replace a method, or a function of a trainer in a module, by `more`; it gets trainer, original and arguments."""
    original = vars(cls)[name]
    if hasattr(original, "_hf_radam_extended"):
        return

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not when(self):
            return original(self, *args, **kwargs)
        return more(self, functools.partial(original, self), *args, **kwargs)

    vars(method)["_hf_radam_extended"] = True
    setattr(cls, name, method)


def _join(trainer: Any) -> None:
    """Set up a trainer whose optimizer is one of ours: callback, methods of its own class, DeepSpeed."""
    if not _is_ours(trainer):
        return
    callbacks = trainer.callback_handler.callbacks
    if not any(isinstance(callback, StartCallback) for callback in callbacks):
        # First, so that the reports and the progress bar get what it adds to the logs.
        callbacks.insert(0, StartCallback())
    # TRL's and Sentence Transformers' trainers have methods of their own for groups and cards.
    for name, more in (("create_optimizer", _create_optimizer), ("create_model_card", trainer_card.create_model_card)):
        _extend(next(cls for cls in type(trainer).__mro__ if name in vars(cls)), name, more)
    if trainer.is_deepspeed_enabled and (spec_of(trainer) or rectifies(trainer.optimizer)):
        config = trainer.accelerator.state.deepspeed_plugin.hf_ds_config.config
        optimizers.keep_in_deepspeed(name_of(trainer.args.optim), config)


def _init(trainer: Any, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    original(*args, **kwargs)
    _join(trainer)


def _create_optimizer(trainer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """While the optimizer is built, `args.weight_decay` is the decay of all options together: groups use it."""
    _join(trainer)  # a hyperparameter search has read DeepSpeed's configuration again
    spec, settings = spec_of(trainer), trainer.args
    given = settings.weight_decay
    if spec is not None and not spec.like and trainer.optimizer is None:
        settings.weight_decay = optimizers.options_of(spec, settings).get("weight_decay", given)
    try:
        return original(*args, **kwargs)
    finally:
        settings.weight_decay = given


def _create_in_trainer(trainer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    build = functools.partial(optimizers.create_optimizer, trainer, original)
    return _create_optimizer(trainer, build, *args, **kwargs)


def _hp_search_setup(trainer: Any, original: Callable[..., None], trial: Any) -> None:
    """Transformers converts a trial's name to the type of the old name, so both must be text."""
    if trial is not None:
        trainer.args.optim = name_of(trainer.args.optim)
    original(trial)
    if find(trainer.args.optim) is None:
        trainer.args.optim = OptimizerNames(trainer.args.optim)
    _join(trainer)


def _load_optimizer_and_scheduler(trainer: Any, original: Callable[..., None], checkpoint: str | None) -> None:
    """Under FSDP2 torch takes a step to make the state that it loads into; a fresh fp16 scaler refuses that step."""
    scaler = getattr(trainer.optimizer, "scaler", None)
    if scaler is not None:
        trainer.optimizer.scaler = None
    try:
        original(checkpoint)
    finally:
        if scaler is not None:
            trainer.optimizer.scaler = scaler


def _weighs_losses(trainer: Any) -> bool:
    return getattr(trainer, "_hf_radam_whole_batch_loss", True) and _is_ours(trainer)


_extend(Trainer, "__init__", _init, when=lambda _: True)
_extend(Trainer, "create_optimizer", _create_in_trainer)
_extend(Trainer, "compute_loss", loss_scale.compute_loss, when=_weighs_losses)
_extend(Trainer, "create_model_card", trainer_card.create_model_card)
_extend(Trainer, "init_hf_repo", trainer_card.init_hf_repo)
_extend(Trainer, "push_to_hub", trainer_card.push_to_hub)
_extend(Trainer, "_load_optimizer_and_scheduler", _load_optimizer_and_scheduler)
_extend(Trainer, "_hp_search_setup", _hp_search_setup, when=lambda _: True)
_extend(modelcard, "extract_hyperparameters_from_trainer", trainer_card.hyperparameters)
Trainer.get_optimizer_cls_and_kwargs = staticmethod(optimizers.class_and_options)
