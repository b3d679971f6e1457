"""Runs of `task: script`: a run becomes the script's arguments, and what was recorded becomes its record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.runs.launching import Job, Request
from hf_radam.experiments.runs.run import as_text, identity, option_values, run_name
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks.script import ScriptData, ScriptTask
from hf_radam.optim_args import parse_optim_args
from hf_radam.registry import find_optimizer
from hf_radam.training.launch import script_command, script_environment
from hf_radam.training.trainer import RAdamTrainingArguments

# What the recorder sets, or what would make the record another's.
_RESERVED = (
    "logging_strategy", "logging_steps", "logging_nan_inf_filter", "save_strategy", "save_steps", "save_total_limit",
    "save_only_model", "load_best_model_at_end", "resume_from_checkpoint", "ignore_data_skip", "run_name",
    "warmup_ratio", "overwrite_output_dir", "push_to_hub", "hub_model_id", "hub_token",
)  # fmt: skip
# Of these the recorder makes sure that the script trains with them: the rest a script may have reason to change.
_DEMANDED = (
    "optim", "seed", "max_steps", "learning_rate", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon",
)  # fmt: skip


def command(task: ScriptTask, accelerate_config: str | None = None) -> list[str]:
    """What starts the script, without its arguments.

    Args:
        task: the script.
        accelerate_config: of the processes of each run; None for one.

    Raises:
        FileNotFoundError: there is no such script, command or configuration.
    """
    first, *rest = task.data.command
    return [*script_command(first, task.data.module is not None, accelerate_config), *rest]


def jobs(runs: Iterable[Run], task: ScriptTask, folder: Path, started_by: Sequence[str]) -> dict[str, Job]:
    """What to start for each run, by its id; drops checkpoints that another version of the script has left.

    Args:
        runs: those to do.
        task: the script.
        folder: results folder.
        started_by: see `command`.

    Raises:
        UserError: see `arguments`.
    """
    found = {}
    for run in runs:
        place = (folder / "runs" / run.id).resolve()
        request = _request(run, task, place)
        asked = place / "request.json"
        if asked.is_file() and Request.read(asked).fingerprint != task.fingerprint:
            shutil.rmtree(place)
        environment = {**script_environment(os.environ)}
        if run.comparison.threads is not None:
            environment["OMP_NUM_THREADS"] = str(run.comparison.threads)
        found[run.id] = Job(command=[*started_by, *arguments(run, place)], environment=environment, request=request)
    return found


def arguments(run: Run, place: Path) -> list[str]:
    """The script's own arguments, and those that make the run.

    Args:
        run: which.
        place: its folder.

    Raises:
        UserError: the script's own arguments hold one that the comparison sets; an unknown optimizer or option.
    """
    data = ScriptData(**run.comparison.data)
    own, settings = data.own_arguments, _settings(run, place, data)
    flags = {name: data.flags.get(name, f"--{name}") for name in (*settings, *_RESERVED)}
    taken = {form for flag in flags.values() if flag for form in (flag.rstrip("="), flag.rstrip("=").replace("_", "-"))}
    for word in own:
        if (word if "=" not in word else word.partition("=")[0]).replace("_", "-") in taken:
            raise UserError(f"data.arguments: {word} is set by the comparison itself; remove it there")
    words = []
    for name, value in settings.items():
        flag, values = flags[name], _words(value)
        if flag is not None:
            words += [flag + values[0]] if flag.endswith("=") else [flag, *values]
    return [*own, *words]


def _settings(run: Run, place: Path, data: ScriptData) -> dict[str, Any]:
    comparison, recipe = run.comparison, run.recipe
    options = option_values(recipe.optim_args)
    own = {word.partition("=")[0].replace("_", "-") for word in data.own_arguments}
    settings: dict[str, Any] = {
        **({} if "--report-to" in own else {"report_to": "none"}),
        **comparison.training,
        **recipe.training(),
        "output_dir": str(place / "model"),
        **identity(run),
        "warmup_steps": recipe.warmup_updates(run.max_steps) if run.max_steps else recipe.warmup_steps,
    }
    if "report_to" in comparison.training:
        settings["run_name"] = run_name(run)
    if run.max_steps:
        settings["max_steps"] = run.max_steps
    if comparison.eval_steps:
        settings |= {"eval_strategy": "steps", "eval_steps": comparison.eval_steps, "eval_on_start": True}
    try:
        if find_optimizer(recipe.optimizer) is None:
            settings["optim_args"] = as_text(options)
        elif options:
            settings["optim_args"] = ",".join(f"{key}={value}" for key, value in options.items())
            if parse_optim_args(settings["optim_args"]) != options:
                raise ValueError(f"optim_args cannot be given to a script: {options}")
        RAdamTrainingArguments(**{"use_cpu": not torch.accelerator.is_available(), **settings})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    return {key: value for key, value in settings.items() if value is not None}


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return [json.dumps(value) if isinstance(value, Mapping) else str(value)]


def _request(run: Run, task: ScriptTask, place: Path) -> Request:
    spec, flags = find_optimizer(run.recipe.optimizer), task.data.flags
    options = {**(spec.defaults if spec else {}), **run.recipe.optim_args}
    options = {key: value for key, value in options.items() if key in ("eps", "betas", "weight_decay")}
    settings = {**_settings(run, place, task.data), **options}
    overruled = {"adam_epsilon": "eps", "adam_beta1": "betas", "adam_beta2": "betas"}
    demanded = [key for key in (*_DEMANDED, *overruled.values()) if overruled.get(key) not in options]
    return Request(
        folder=str(place),
        recipe=run.recipe.name,
        warmup=run.recipe.warmup,
        demanded={key: settings[key] for key in demanded if key in settings and flags.get(key, key) is not None},
        metric=task.data.metric or "loss",
        trainer=task.data.trainer,
        eval_steps=run.comparison.eval_steps,
        save_steps=run.comparison.save_steps,
        record_every=run.comparison.record_every,
        fingerprint=task.fingerprint,
    )
