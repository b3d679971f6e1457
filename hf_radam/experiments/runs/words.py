"""A run as a command: the script, its own words, and those that make the run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import SchedulerType

from hf_radam.experiments.comparison import Comparison, Run
from hf_radam.experiments.runs.launching import Job, Request
from hf_radam.experiments.schema import UserError, build
from hf_radam.experiments.script_data import TASKS, ScriptData, digest_of, paths_in
from hf_radam.registry import find_optimizer
from hf_radam.spec import parse_optim_args
from hf_radam.training.launch import script_environment
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
# Arguments of our scripts that are fields of the comparison.
_OF_COMPARISON = ("batch_size", "tokens_per_batch", "average_checkpoints", "needed_examples", "cache_dir")
_SENTENCE = 10  # tokens of a sentence of the built-in grammar, about


def script_of(comparison: Comparison) -> tuple[ScriptData, str]:
    """What a comparison runs, one of our scripts or the user's, and a fingerprint of it and of the files that it reads.

    Raises:
        UserError: bad options.
    """
    if comparison.task == "script":
        script = build(ScriptData, comparison.data, where="data")
        return script, digest_of(paths_in(script.own_arguments), script.version)
    _check(comparison)
    languages = [str(comparison.data.get(key, own)) for key, own in (("source_lang", "de"), ("target_lang", "en"))]
    endings = ["", *(f".{language}{packed}" for language in languages for packed in ("", ".gz"))]
    options = {**comparison.data, **comparison.model}
    named = [
        str(options[key]) for key in options if options[key] and key.endswith(("_file", "_prefix", "_name", "_path"))
    ]
    # Not of the script, so that the next version of this package goes on with what this one has begun.
    fingerprint = digest_of(paths_in(f"{name}{ending}" for name in named for ending in endings))
    return ScriptData(module=TASKS[comparison.task]), f"files:{fingerprint}"


def _check(comparison: Comparison) -> None:
    """Refuse what our script does not take, before the folder is claimed."""
    of_data, of_model, _ = import_module(TASKS[comparison.task]).ARGUMENTS
    for name in comparison.data:
        if name in _OF_COMPARISON:
            raise UserError(f"data: {name} is a field of the comparison; set it there")
    build(of_data, comparison.data, where="data")
    for recipe in comparison.recipes:
        build(of_model, comparison.model_of(recipe), where="model")
    if not hasattr(of_data, "tokens_per_batch") and (comparison.tokens_per_batch or comparison.average_checkpoints):
        raise UserError(
            "tokens_per_batch and average_checkpoints are for translation; give batch_size, in blocks or texts"
        )


def jobs(
    runs: Iterable[Run], script: ScriptData, fingerprint: str, folder: Path, started_by: Sequence[str], forks: bool
) -> dict[str, Job]:
    """What to start for each run, by its id; drops checkpoints that another version of the script has left.

    Args:
        runs: those to do.
        script: of all of them.
        fingerprint: see `script_of`.
        folder: results folder.
        started_by: what starts the script, without its arguments.
        forks: whether the script is called in a fork, in the place of a process of its own.

    Raises:
        UserError: see `arguments`.
    """
    found = {}
    for run in runs:
        place = (folder / "runs" / run.id).resolve()
        request = _request(run, script, fingerprint, place)
        asked = place / "request.json"
        if asked.is_file() and Request.read(asked).fingerprint != fingerprint:
            shutil.rmtree(place)
        environment = {} if forks else {**script_environment(os.environ)}
        if run.comparison.threads is not None:
            environment["OMP_NUM_THREADS"] = str(run.comparison.threads)
        if "tensorboard" in (run.comparison.training.get("report_to") or ()):  # which names a run after its folder
            parts = (re.sub(r'[\\:*?"<>|]+', "-", part) for part in run_name(run).split("/"))
            environment["TENSORBOARD_LOGGING_DIR"] = str(place.parents[1].joinpath("tensorboard", *parts))
        found[run.id] = Job(
            command=[*started_by, *arguments(run, place)],
            words=len(started_by),
            environment=environment,
            request=request,
            module=script.module if forks else None,
        )
    return found


def arguments(run: Run, place: Path) -> list[str]:
    """The script's own arguments, and those that make the run.

    Args:
        run: which.
        place: its folder.

    Raises:
        UserError: the script's own arguments hold one that the comparison sets; an unknown optimizer or option.
    """
    if run.comparison.task != "script":
        given = {**_own(run, place), **_settings(run, place)}
        words = {name: _words(value) for name, value in given.items() if value is not None}
        return [
            word
            for name, of in words.items()
            for word in ([f"--{name}={of[0]}"] if len(of) == 1 else [f"--{name}", *of])
        ]
    data = ScriptData(**run.comparison.data)
    own, settings = data.own_arguments, _settings(run, place, data.own_arguments)
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


def _own(run: Run, place: Path) -> dict[str, Any]:
    """What our scripts take beside training arguments."""
    comparison = run.comparison
    _, of_model, _ = import_module(TASKS[comparison.task]).ARGUMENTS
    model = build(of_model, comparison.model_of(run.recipe), where="model")
    examples = comparison.batch_size or (comparison.tokens_per_batch or 0) // _SENTENCE
    return {
        **comparison.data,
        **asdict(model),  # all of it: where a command line names no size, a script takes small ones
        "batch_size": comparison.batch_size,
        "tokens_per_batch": comparison.tokens_per_batch,
        "average_checkpoints": comparison.average_checkpoints or None,
        "needed_examples": comparison.max_steps * examples,  # the same for all recipes, whatever their lengths
        "cache_dir": place.parents[1],
    }


def run_name(run: Run) -> str:
    """What trackers call the run: comparison/recipe/seed-k, with the learning rate where there are several."""
    rate = f"-lr{run.learning_rate:g}" if len(run.comparison.learning_rates) > 1 else ""
    return f"{run.comparison.name}/{run.recipe.name}/seed-{run.seed}{rate}"


def _settings(run: Run, place: Path, own: Sequence[str] = ()) -> dict[str, Any]:
    """Training arguments of a run."""
    comparison, recipe, is_ours = run.comparison, run.recipe, run.comparison.task != "script"
    given = {word.partition("=")[0].replace("_", "-") for word in own}
    settings: dict[str, Any] = {
        **({} if "--report-to" in given else {"report_to": "none"}),
        **({"per_device_eval_batch_size": 64, "disable_tqdm": True, **_on_device()} if is_ours else {}),
        **comparison.training,
        **recipe.training(),
        "output_dir": str(place / "model"),
        "seed": run.seed,
        "data_seed": run.seed,
        "optim": recipe.optimizer,
        "learning_rate": run.learning_rate * recipe.learning_rate_scale,
        "warmup_steps": recipe.warmup_updates(run.max_steps) if run.max_steps else recipe.warmup_steps,
    }
    if "report_to" in comparison.training:
        settings["run_name"] = run_name(run)
    if run.max_steps:
        settings["max_steps"] = run.max_steps
    if comparison.eval_steps:
        settings |= {"eval_strategy": "steps", "eval_steps": comparison.eval_steps, "eval_on_start": True}
    if comparison.gradient_accumulation_steps > 1:
        settings["gradient_accumulation_steps"] = comparison.gradient_accumulation_steps
    if comparison.average_checkpoints:
        settings["save_total_limit"] = comparison.average_checkpoints
    try:
        settings["optim_args"] = _options_as_text(recipe.optimizer, recipe.optim_args)
        args = RAdamTrainingArguments(**{**_on_device(), **settings})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    if recipe.warmup_steps and args.lr_scheduler_type == SchedulerType.CONSTANT:
        raise UserError(f"recipe {recipe.name!r}: lr_scheduler_type constant knows no warmup; use constant_with_warmup")
    return {key: value for key, value in settings.items() if value is not None}


def _on_device() -> dict[str, bool]:
    return {"use_cpu": not torch.accelerator.is_available(), "dataloader_pin_memory": torch.accelerator.is_available()}


def _options_as_text(optimizer: str, options: Mapping[str, Any]) -> str | None:
    """As `--optim_args` takes them; Transformers, for its own, splits at every comma."""
    # YAML and JSON know no tuples.
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    text = ",".join(f"{key}={value}" for key, value in options.items()) or None
    if find_optimizer(optimizer) is None:
        for key, value in options.items():
            if any(character in f"{key}{value}" for character in ",= "):
                raise ValueError(
                    f"Transformers cannot be given the option {key}: {value!r}; take a registered optimizer"
                )
    elif parse_optim_args(text) != options:
        raise ValueError(f"optim_args cannot be given to a script: {options}")
    return text


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return [json.dumps(value) if isinstance(value, Mapping) else str(value)]


def _request(run: Run, script: ScriptData, fingerprint: str, place: Path) -> Request:
    spec, flags = find_optimizer(run.recipe.optimizer), script.flags
    options = {**(spec.defaults if spec else {}), **run.recipe.optim_args}
    options = {key: value for key, value in options.items() if key in ("eps", "betas", "weight_decay")}
    settings = {**_settings(run, place), **options}
    overruled = {"adam_epsilon": "eps", "adam_beta1": "betas", "adam_beta2": "betas"}
    demanded = [key for key in (*_DEMANDED, *overruled.values()) if overruled.get(key) not in options]
    return Request(
        folder=str(place),
        recipe=run.recipe.name,
        warmup=run.recipe.warmup,
        demanded={key: settings[key] for key in demanded if key in settings and flags.get(key, key) is not None},
        optim_args={} if spec else run.recipe.optim_args,
        metric=script.metric or "loss",
        trainer=script.trainer,
        eval_steps=run.comparison.eval_steps,
        save_steps=run.comparison.save_steps,
        record_every=run.comparison.record_every,
        fingerprint=fingerprint,
    )
