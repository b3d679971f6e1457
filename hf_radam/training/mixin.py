"""Registered names in Transformers' Trainer.

Once this module is imported, Trainer itself is extended, and so are its subclasses, whenever they are made. A trainer
without our mixin, whose `args.optim` is one of Transformers' own names, does what it ever did. Signatures are
Transformers' own. All that we add to a trainer or to its arguments begins with `_hf_radam_`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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

    The name is the keyword `optim`, or else `args.optim`. Registered optimizers get their learning rate, betas, eps and
    weight decay from the training arguments, then the registered defaults, then `args.optim_args`, then the keyword
    `optim_args`, a mapping; the later wins. Parameter groups are Transformers' (decay and no decay), or those that the
    parent makes in a `create_optimizer` or `get_optimizer_cls_and_kwargs` of its own. Any other name is left to
    Transformers. DeepSpeed takes a registered optimizer as it is.

    Args:
        optim: a registered name, or one of Transformers' own.
        optim_args: options of a registered optimizer.
        whole_batch_loss: whether the loss of a batch that is split over processes or accumulation steps is the mean
            over the whole batch, whatever the optimizer (see `hf_radam.training.loss_scale`).

    Raises:
        ValueError: an unknown name, `optim` together with `optimizers` or `optimizer_cls_and_kwargs`, or a DeepSpeed
            configuration that would put another optimizer in its place.

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
                f"optim={optim!r} and optimizers or optimizer_cls_and_kwargs both choose the optimizer; drop one"
            )
        if optim is None and not optim_args:
            return
        # In the arguments, where reports, cards and the rest of Trainer look for it; the caller's stay as they are.
        self.args = copy.copy(self.args)
        vars(self.args)["_hf_radam_optim_args"] = dict(optim_args or {})
        if optim is not None:
            self.args.optim = spec.name if spec else OptimizerNames(optim)
        _join(self)


def _is_ours(trainer: Any) -> bool:
    return isinstance(trainer, RAdamTrainerMixin) or spec_of(trainer) is not None


def _extend(cls: Any, name: str, more: Callable[..., Any], when: Callable[[Any], bool] = _is_ours) -> None:
    """Have `more` called with the trainer, the method of that name and its arguments, in the method's place."""
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
    """What a trainer of ours has beside the methods of Trainer, whenever its optimizer becomes one of ours."""
    if not _is_ours(trainer):
        return
    callbacks = trainer.callback_handler.callbacks
    if not any(isinstance(callback, StartCallback) for callback in callbacks):
        # First, so that what it adds to the logs reaches the reports and the progress bar.
        callbacks.insert(0, StartCallback(getattr(trainer, "_hf_radam_gives_advice", True)))
    # A trainer that makes groups or writes a card by itself (TRL's, Sentence Transformers') does not ask Trainer.
    for name, more in (("create_optimizer", _create_optimizer), ("create_model_card", trainer_card.create_model_card)):
        _extend(next(cls for cls in type(trainer).__mro__ if name in vars(cls)), name, more)
    if trainer.is_deepspeed_enabled and (spec_of(trainer) or rectifies(trainer.optimizer)):
        config = trainer.accelerator.state.deepspeed_plugin.hf_ds_config.config
        optimizers.keep_in_deepspeed(name_of(trainer.args.optim), config)


def _init(trainer: Any, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    original(*args, **kwargs)
    _join(trainer)


def _create_optimizer(trainer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The weight decay is that of all the options while the optimizer is built: groups are made with it."""
    _join(trainer)  # a search over hyperparameters reads DeepSpeed's configuration anew
    with _weight_decay_of_options(trainer):
        return original(*args, **kwargs)


@contextmanager
def _weight_decay_of_options(trainer: Any) -> Iterator[None]:
    spec, args = spec_of(trainer), trainer.args
    given = args.weight_decay
    if spec is not None and not spec.like and trainer.optimizer is None:
        args.weight_decay = optimizers.options_of(spec, args).get("weight_decay", given)
    try:
        yield
    finally:
        args.weight_decay = given


def _create_in_trainer(trainer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    build = functools.partial(optimizers.create_optimizer, trainer, original)
    return _create_optimizer(trainer, build, *args, **kwargs)


def _hp_search_setup(trainer: Any, original: Callable[..., None], trial: Any) -> None:
    """Transformers turns the name of a trial into the type that the name had before."""
    if trial is not None:
        trainer.args.optim = name_of(trainer.args.optim)
    original(trial)
    if find(trainer.args.optim) is None:
        trainer.args.optim = OptimizerNames(trainer.args.optim)
    _join(trainer)


def _load_optimizer_and_scheduler(trainer: Any, original: Callable[..., None], checkpoint: str | None) -> None:
    """Under FSDP2 torch makes the state that it loads into by a step, which a fresh scaler of fp16 refuses."""
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
Trainer.get_optimizer_cls_and_kwargs = staticmethod(optimizers.class_and_options)
