"""A Trainer's model card that names the optimizer that really ran, and a push that keeps private files at home."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from hf_radam import rectification
from hf_radam.libraries import full_name
from hf_radam.training.callbacks import betas_of, innermost, rectification_progress, rectifies

# The Hub leaves out what the .gitignore of an upload names. Trainer's pickle holds the arguments: folders, and tokens.
_STAY_HOME = "training_args.bin"
# Schedules that ignore the warmup steps of the arguments, by name: not every version of Transformers has all.
_WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")
# What parameter groups hold beside options.
_NO_OPTIONS = ("params", "initial_lr", "step")
# What Transformers writes of a model that it knows no origin of.
_NO_ORIGIN = "This model is a fine-tuned version of [](https://huggingface.co/) on "


def create_model_card(trainer: Any, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """As Trainer's method; a card that lists no hyperparameters gets a section about the optimizer."""
    original(*args, **kwargs)
    path = Path(str(trainer.args.output_dir)) / "README.md"
    if trainer.is_world_process_zero() and trainer.optimizer is not None and path.is_file():
        card = path.read_text(encoding="utf-8").replace(_NO_ORIGIN, "This model was trained from scratch on ")
        if "\n- optimizer: " not in card:
            lines = "".join(f"- {name}: {value}\n" for name, value in describe_training(trainer).items())
            card = f"{card.rstrip()}\n\n### Optimizer\n\n{lines}"
        path.write_text(card, encoding="utf-8")


def hyperparameters(trainer: Any, original: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What Transformers' card lists: it repeats the arguments, of which this replaces those that say something else."""
    found = original()
    if trainer.optimizer is None:
        return found
    rates = [_plain(group.get("initial_lr", group["lr"])) for group in innermost(trainer.optimizer).param_groups]
    found.update(describe_training(trainer), learning_rate=_distinct(rates))
    if (scheduler := _passed_in(trainer)) is not None:
        found["lr_scheduler_type"] = f"passed in ({scheduler})"
    if found.get("warmup", "none") == "none":
        found.pop("lr_scheduler_warmup_steps", None)
    return found


def init_hf_repo(trainer: Any, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """As Trainer's method; from here on `training_args.bin`, a pickle, is kept out of every upload."""
    _make_no_space(trainer)
    original(*args, **kwargs)
    if trainer.is_world_process_zero():
        ignored = Path(str(trainer.args.output_dir)) / ".gitignore"
        lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
        if _STAY_HOME not in lines:
            ignored.parent.mkdir(parents=True, exist_ok=True)
            ignored.write_text("\n".join([*lines, _STAY_HOME]) + "\n", encoding="utf-8")


def push_to_hub(trainer: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As Trainer's method, which asks its callbacks, and so Trackio's, before `init_hf_repo`."""
    _make_no_space(trainer)
    return original(*args, **kwargs)


def _make_no_space(trainer: Any) -> None:
    """Trackio would copy the logs of a pushed model to a public Space, unless a name or False is given."""
    if getattr(trainer.args, "trackio_static_space_id", False) is None:
        trainer.args = copy.copy(trainer.args)
        trainer.args.trackio_static_space_id = False


def describe_training(trainer: Trainer) -> dict[str, str]:
    """The optimizer of a Trainer, as it is now, and what it was used with; names and values for a card."""
    optimizer, args = innermost(trainer.optimizer), trainer.args
    name, options = describe_optimizer(optimizer)
    told = ", ".join(f"{key}={_distinct(values)}" for key, values in options.items() if values[0] is not None)
    found = {"optimizer": f"{name} with {told}"}
    if rectifies(optimizer):
        found["rectification"] = _describe_rectification(optimizer)
    if _passed_in(trainer) is None:
        steps = args.get_warmup_steps(max(trainer.state.max_steps, 0))
        found["warmup"] = f"{steps} updates" if steps and args.lr_scheduler_type not in _WITHOUT_WARMUP else "none"
    found["gradient clipping"] = f"norm {args.max_grad_norm:g}" if args.max_grad_norm else "none"
    if args.bf16:
        found["mixed precision"] = "bf16"
    return found


def _passed_in(trainer: Trainer) -> str | None:
    """The class of a scheduler that the caller made. DeepSpeed makes its own, which Trainer does not call made."""
    if trainer.lr_scheduler is None or trainer._created_lr_scheduler or trainer.is_deepspeed_enabled:
        return None
    return type(getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)).__name__  # Accelerate wraps it


def describe_optimizer(optimizer: Any) -> tuple[str, dict[str, list[Any]]]:
    """Class and options of an optimizer: of each option the values of the parameter groups that differ, in order.

    The learning rate is that before any schedule. Progress that some optimizers keep beside their options is left out.

    Example:
        >>> from hf_radam import RAdam
        >>> optimizer = RAdam(torch.nn.Linear(2, 1).parameters(), lr=0.1, betas=(0.9, 0.98))
        >>> name, options = describe_optimizer(optimizer)
        >>> name, options["betas"], options["degenerated_to_sgd"]
        ('hf_radam.optimizer.RAdam', [(0.9, 0.98)], [True])
    """
    optimizer = innermost(optimizer)
    groups = [{**group, "lr": group.get("initial_lr", group["lr"])} for group in optimizer.param_groups]
    for group in groups:
        if "beta2" in group:
            group["betas"] = betas_of(group)
    keys = [*optimizer.defaults, *(key for group in groups for key in group if key not in _NO_OPTIONS)]
    values = {key: [_plain(group[key]) for group in groups if key in group] for key in dict.fromkeys(keys)}
    flags = {key: [value] for key, value in vars(optimizer).items() if not key.startswith("_") and type(value) is bool}
    known = inspect.signature(type(optimizer)).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    options = {
        key: [value for i, value in enumerate(of_groups) if value not in of_groups[:i]]
        for key, of_groups in {**values, **flags}.items()
        if of_groups and (key in known or takes_any or key not in optimizer.defaults)
    }
    return full_name(type(optimizer)), options


def _describe_rectification(optimizer: torch.optim.Optimizer) -> str:
    progress = rectification_progress(optimizer)
    if progress is None:
        return "no update yet"
    step, beta2 = progress
    r, rho = rectification.rectification(step, beta2), rectification.rho(step, beta2)
    ended = "still in start-up" if r is None else f"r_t = {r:.4f}"
    return f"{ended} (rho_t = {rho:.1f}) after {step} updates"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else tuple(value) if isinstance(value, list) else value


def _distinct(values: Sequence[Any]) -> str:
    return " and ".join(dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
