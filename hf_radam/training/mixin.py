"""What registered names do in a Trainer: the mixins."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer import Trainer
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hf_radam.registry import OptimizerSpec
from hf_radam.training.arguments import find, name_of, registered
from hf_radam.training.callbacks import AdviceCallback, LostStateCallback, RectificationCallback, innermost, rectifies
from hf_radam.training.card import TrainerCardMixin
from hf_radam.training.loss_scale import WholeBatchLossMixin
from hf_radam.training.optimizers import keep_in_deepspeed, options_of, registered_names

if TYPE_CHECKING:  # the mixins go on top of any subclass of Trainer
    _Trainer = Trainer
else:
    _Trainer = object


class _ClassAndOptions:
    """`get_optimizer_cls_and_kwargs` that knows the registered names, static or not as the parent's is."""

    def __get__(self, trainer: Any, owner: type) -> Any:
        def get_optimizer_cls_and_kwargs(*args: Any, **kwargs: Any) -> Any:
            with registered_names(None if trainer is None else trainer._optim_args):
                of_parent = super(RegisteredOptimizers, owner if trainer is None else trainer)  # pyright: ignore[reportArgumentType]
                return of_parent.get_optimizer_cls_and_kwargs(*args, **kwargs)

        return get_optimizer_cls_and_kwargs


class RegisteredOptimizers(TrainerCardMixin, WholeBatchLossMixin, _Trainer):
    """What registered names do in a Trainer, wherever among its classes this one stands; see `RAdamTrainerMixin`.

    Here it says and changes nothing where `args.optim` is one of Transformers' own names.
    """

    gives_advice: bool = True
    """Whether the log says what share of Adam's learning rate the optimizer will use."""
    _optim: str | None = None
    _optim_args: Mapping[str, Any] = {}
    _warned_of_warmup = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._optim is not None:
            if self.optimizer is not None or self.optimizer_cls_and_kwargs is not None:
                raise ValueError(
                    f"optim={self._optim!r} and optimizers or optimizer_cls_and_kwargs both choose the optimizer; "
                    "drop one"
                )
            # In the arguments, where reports, cards and the rest of Trainer look for it; the caller's stay as they are.
            self.args = copy.copy(self.args)
            self.args.optim = self._optim if find(self._optim) else OptimizerNames(self._optim)
        # First, so that what the callback adds to the logs reaches the reports and the progress bar.
        callbacks = [RectificationCallback()]
        if self._says_more():
            callbacks += [LostStateCallback(), *([AdviceCallback()] if self.gives_advice else [])]
        self.callback_handler.callbacks[:0] = callbacks
        self._keep_in_deepspeed()

    get_optimizer_cls_and_kwargs: Any = _ClassAndOptions()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build the optimizer, unless there is one; a `create_optimizer` of the parents' own makes its own groups."""
        with self._by_name():
            optimizer = super().create_optimizer(*args, **kwargs)
        self._keep_in_deepspeed()  # a search over hyperparameters reads the configuration anew
        return optimizer

    @contextmanager
    def _by_name(self) -> Iterator[None]:
        """While the optimizer is built: registered names are known, and the weight decay is that of all the options."""
        spec = self._registered()
        if spec is None or self.optimizer is not None:
            yield
            return
        given = self.args.weight_decay
        if not spec.like:
            self.args.weight_decay = options_of(spec, self.args, self._optim_args).get("weight_decay", given)
        try:
            with registered_names(self._optim_args):
                yield
        finally:
            self.args.weight_decay = given

    def _registered(self) -> OptimizerSpec | None:
        """What `args.optim` names, unless that is one of Transformers' own or another optimizer is in its place."""
        spec = None if self.optimizer_cls_and_kwargs is not None else registered(self.args.optim)
        if spec is None or self.optimizer is None:
            return spec
        optimizer: Any = innermost(self.optimizer)
        return spec if (rectifies(optimizer) if spec.like else isinstance(optimizer, spec.load())) else None

    def _is_ours(self) -> bool:
        """Whether a registered optimizer trains, or RAdam that the caller has built."""
        return self._registered() is not None or rectifies(self.optimizer)

    def _says_more(self) -> bool:
        return self._is_ours()

    def _weighs_loss(self) -> bool:
        return self.whole_batch_loss and self._says_more()

    def _keep_in_deepspeed(self) -> None:
        if self.is_deepspeed_enabled and self._is_ours():
            plugin: Any = self.accelerator.state.deepspeed_plugin
            keep_in_deepspeed(name_of(self.args.optim), plugin.hf_ds_config.config)

    def _hp_search_setup(self, trial: Any) -> None:
        """As in Transformers, which turns the name of a trial into the type that the name had before."""
        if trial is not None:
            self.args.optim = name_of(self.args.optim)
        super()._hp_search_setup(trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in Transformers; also for FSDP2 in fp16.

        There torch makes the state that it loads into by a step, through a scaler that has scaled nothing and refuses.
        """
        optimizer: Any = self.optimizer
        scaler = getattr(optimizer, "scaler", None)
        if scaler is None:
            return super()._load_optimizer_and_scheduler(checkpoint)
        optimizer.scaler = None
        try:
            return super()._load_optimizer_and_scheduler(checkpoint)
        finally:
            optimizer.scaler = scaler

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """As in Transformers; warns once where warmup steps meet an optimizer that brings its own."""
        warmup_steps = self.args.get_warmup_steps(num_training_steps)
        warms_up = bool(warmup_steps) and self.args.lr_scheduler_type != SchedulerType.CONSTANT
        spec = self._registered()
        if spec is not None and spec.warmup_free and warms_up and not self._warned_of_warmup:
            self._warned_of_warmup = True
            warnings.warn(
                f"{warmup_steps} warmup steps together with {spec.name!r}, which is meant to run without: its "
                "own start is slow already, and the learning rate is reduced twice; set warmup_steps=0",
                UserWarning,
                stacklevel=2,
            )
        return super().create_scheduler(num_training_steps, optimizer)


class RAdamTrainerMixin(RegisteredOptimizers):
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
        if optim is not None:
            find(optim)  # before the model is touched
        self._optim, self._optim_args, self.whole_batch_loss = optim, dict(optim_args or {}), whole_batch_loss
        super().__init__(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build the optimizer, unless there is one; see the class."""
        with self._by_name():  # here as well: other classes may stand between this one and its parent
            return super().create_optimizer(*args, **kwargs)

    def _says_more(self) -> bool:
        return True
