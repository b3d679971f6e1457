"""`--optim radam` in Transformers' Trainer, and in anybody's subclass of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hf_radam.optimizer import RAdam
from hf_radam.registry import OptimizerSpec, get_optimizer, list_optimizers, parse_optim_args, unknown_name
from hf_radam.training.callbacks import LostStateCallback, innermost
from hf_radam.training.callbacks import RectificationCallback as RectificationCallback
from hf_radam.training.card import TrainerCardMixin
from hf_radam.training.loss_scale import WholeBatchLossMixin

if TYPE_CHECKING:  # the mixins go on top of any subclass of these two
    _Trainer = Trainer
    _Arguments = TrainingArguments
else:
    _Trainer = _Arguments = object

_OPTIM_HELP = "The optimizer: a name of `python -m hf_radam`, or any of Transformers' own."


def _name(optim: OptimizerNames | str) -> str:
    return optim.value if isinstance(optim, OptimizerNames) else optim


def _find(name: str) -> OptimizerSpec | None:
    """The registered optimizer of that name, or None for one of Transformers' own; refuse any other."""
    if name in list_optimizers():
        return get_optimizer(name)
    vanilla = [member.value for member in OptimizerNames]
    if name not in vanilla:
        raise ValueError(unknown_name("optimizer", name, [*list_optimizers(), *vanilla]))
    return None


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
        # Transformers turns `optim` into a member of an enumeration that only has its own names.
        spec = _find(_name(self.optim))
        if spec is None:
            return super().__post_init__()
        spec.check_options(parse_optim_args(self.optim_args))
        self.optim = OptimizerNames.ADAMW_TORCH
        super().__post_init__()
        self.optim = spec.name
        return None

    def set_optimizer(self, name: str | OptimizerNames = "radam", *args: Any, **kwargs: Any) -> Any:
        """As in Transformers, with registered names as well."""
        spec = _find(_name(name))
        super().set_optimizer(OptimizerNames.ADAMW_TORCH if spec else name, *args, **kwargs)
        if spec is not None:
            spec.check_options(parse_optim_args(self.optim_args))
            self.optim = spec.name
        return self


class RAdamTrainerMixin(TrainerCardMixin, WholeBatchLossMixin, _Trainer):
    """Builds the optimizer by name in any Trainer subclass; put it before that class.

    The name is the keyword `optim`, or else `args.optim`. Registered optimizers get their learning rate, betas, eps and
    weight decay (with Transformers' decay and no-decay groups) from the training arguments, then the registered
    defaults, then `args.optim_args`, then the keyword `optim_args`, a mapping; the later wins. Any other name is left to
    Transformers. A `create_optimizer` of the subclass itself (layer-wise learning rates, say) does not run for
    registered names.

    With a registered optimizer, the loss of a batch that is split over processes or accumulation steps is the mean over
    the whole batch (see `hf_radam.training.loss_scale`), and DeepSpeed takes the optimizer as it is.

    Raises:
        ValueError: an unknown name, `optim` together with `optimizers` or `optimizer_cls_and_kwargs`, or a DeepSpeed
            configuration that would put another optimizer in its place.

    Example:
        >>> class MyTrainer(RAdamTrainerMixin, Trainer):
        ...     pass
        >>> model = torch.nn.Linear(2, 1)
        >>> trainer = MyTrainer(model, TrainingArguments("out", report_to="none", weight_decay=0.1), optim="radam")
        >>> trainer.create_optimizer().__class__.__name__
        'RAdam'
    """

    def __init__(
        self, *args: Any, optim: str | None = None, optim_args: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        spec = None if optim is None else _find(optim)
        self._optim_args = dict(optim_args or {})
        self._built: OptimizerSpec | None = None
        self._warned_of_warmup = False
        super().__init__(*args, **kwargs)
        if optim is not None:
            if self.optimizer is not None or self.optimizer_cls_and_kwargs is not None:
                raise ValueError(
                    f"optim={optim!r} and optimizers or optimizer_cls_and_kwargs both choose the optimizer; drop one"
                )
            # In the arguments, where reports, cards and the rest of Trainer look for it; the caller's stay as they are.
            self.args = copy.copy(self.args)
            self.args.optim = OptimizerNames(optim) if spec is None else optim
        # First, so that what the callback adds to the logs reaches the reports and the progress bar.
        self.callback_handler.callbacks.insert(0, RectificationCallback())
        self.callback_handler.callbacks.insert(1, LostStateCallback())
        self._keep_in_deepspeed()

    def _registered(self) -> OptimizerSpec | None:
        """What `args.optim` names, unless that is one of Transformers' own or the caller brought an optimizer."""
        own = self.optimizer_cls_and_kwargs is not None or (self.optimizer is not None and self._built is None)
        return None if own else _find(_name(self.args.optim))

    def _is_ours(self) -> bool:
        """Whether a registered optimizer trains, or RAdam that the caller has built."""
        return self._registered() is not None or isinstance(innermost(self.optimizer), (RAdam, torch.optim.RAdam))

    def _keep_in_deepspeed(self) -> None:
        if self.is_deepspeed_enabled and self._is_ours():
            plugin: Any = self.accelerator.state.deepspeed_plugin
            keep_in_deepspeed(_name(self.args.optim), plugin.hf_ds_config.config)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Build the optimizer, unless there is one; see the class."""
        spec = self._registered()
        if self.optimizer is not None or spec is None:
            if self.optimizer is None:  # a search over hyperparameters may have changed the name
                self._built = None
            optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
            self._keep_in_deepspeed()
            return optimizer
        options = self._options(spec)
        weight_decay = options.pop("weight_decay")
        groups = self._parameter_groups(self.model if model is None else model, weight_decay)
        self.optimizer, self._built = spec(groups, **options), spec
        self._keep_in_deepspeed()  # a search over hyperparameters reads the configuration anew
        return self.optimizer

    def _options(self, spec: OptimizerSpec) -> dict[str, Any]:
        of_arguments = {
            "lr": self.args.learning_rate,
            "betas": (self.args.adam_beta1, self.args.adam_beta2),
            "eps": self.args.adam_epsilon,
        }
        known = spec.options()
        options = {key: value for key, value in of_arguments.items() if key in known}
        given = {**parse_optim_args(self.args.optim_args), **self._optim_args}
        spec.check_options(given)
        return {"weight_decay": self.args.weight_decay, **options, **spec.defaults, **given}

    def _parameter_groups(self, model: Any, weight_decay: float) -> list[dict[str, Any]]:
        """A group that decays and one that does not, each only if it has parameters.

        Their number is part of the checkpoint format: it depends on the model alone, not on how it is sharded.
        """
        groups = self._groups_of_subclass(model)
        if groups is None:
            decaying = set(self.get_decay_parameter_names(model))
            trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for name, p in trainable if name in decaying], "weight_decay": weight_decay},
                {"params": [p for name, p in trainable if name not in decaying], "weight_decay": 0.0},
            ]
        else:
            groups = [{**group, "weight_decay": weight_decay if group["weight_decay"] else 0.0} for group in groups]
        return [group for group in groups if group["params"]]

    def _groups_of_subclass(self, model: Any) -> list[dict[str, Any]] | None:
        """Groups of a Trainer that chooses its own: Sentence Transformers' also trains the parameters of its loss.

        It says so in what it returns for an optimizer of Transformers.
        """
        args = copy.copy(self.args)
        args.optim, args.optim_args, args.weight_decay = OptimizerNames.ADAMW_TORCH, None, 1.0
        original, self.args = self.args, args
        try:
            _, options = self.get_optimizer_cls_and_kwargs(args, model)
        finally:
            self.args = original
        return options.get("optimizer_dict")

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
        if self._built is not None and self._built.warmup_free and warms_up and not self._warned_of_warmup:
            self._warned_of_warmup = True
            warnings.warn(
                f"{warmup_steps} warmup steps together with {self._built.name!r}, which is meant to run without: its "
                "own start is slow already, and the learning rate is reduced twice; set warmup_steps=0",
                UserWarning,
                stacklevel=2,
            )
        return super().create_scheduler(num_training_steps, optimizer)


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


@dataclass
class RAdamTrainingArguments(RAdamArgumentsMixin, TrainingArguments):
    """TrainingArguments whose `optim` may be a registered name; RAdam by default."""


@dataclass
class RAdamSeq2SeqTrainingArguments(RAdamArgumentsMixin, Seq2SeqTrainingArguments):
    """Seq2SeqTrainingArguments whose `optim` may be a registered name; RAdam by default."""


class RAdamTrainer(RAdamTrainerMixin, Trainer):
    """Transformers' Trainer that builds optimizers by registered name; see `RAdamTrainerMixin`.

    With plain TrainingArguments the optimizer is theirs (AdamW); pass `optim="radam"` or RAdamTrainingArguments.
    """


class RAdamSeq2SeqTrainer(RAdamTrainerMixin, Seq2SeqTrainer):
    """Transformers' Seq2SeqTrainer that builds optimizers by registered name; see `RAdamTrainerMixin`."""
