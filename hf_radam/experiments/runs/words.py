"""A run as the arguments of its script: the script's own words, and those that make the run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, make_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import SchedulerType

from hf_radam.experiments.comparison import RECORDED, RESERVED, Comparison, Run
from hf_radam.experiments.folder import run_folder
from hf_radam.experiments.runs.launching import Job
from hf_radam.experiments.schema import UserError, build
from hf_radam.experiments.script_data import digest_of, paths_in
from hf_radam.registry import find_optimizer
from hf_radam.spec import parse_optim_args
from hf_radam.training.trainer import RAdamTrainingArguments

# Of these the recorder makes sure that the script trains with them: the rest a script may have reason to change.
_DEMANDED = (
    "optim", "seed", "max_steps", "learning_rate", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2",
    "adam_epsilon",
)  # fmt: skip
# Options of an optimizer that take the place of training arguments.
_OVERRULED = {"adam_epsilon": "eps", "adam_beta1": "betas", "adam_beta2": "betas", "weight_decay": "weight_decay"}
# The training arguments that a comparison may set; Transformers checks numbers no earlier than it uses them.
_TRAINING = make_dataclass("Training", [
    (field.name, field.type if field.type in (bool, int, float) else Any, None)
    for field in fields(RAdamTrainingArguments) if field.name not in RESERVED
], frozen=True)  # fmt: skip
_SENTENCE = 10  # tokens of a sentence of the built-in grammar, about


def fingerprint_of(comparison: Comparison) -> str:
    """A digest of the script, where it is not ours, and of the files that it reads."""
    script = comparison.script
    if not comparison.is_ours:
        return digest_of(paths_in(script.own_arguments), script.version)
    languages = [str(comparison.data.get(key, own)) for key, own in (("source_lang", "de"), ("target_lang", "en"))]
    endings = ["", *(f".{language}{packed}" for language in languages for packed in ("", ".gz"))]
    options = {**comparison.data, **comparison.model}
    named = [value for key, value in options.items() if value and re.search("_(file|prefix|name|path)$", key)]
    # Not of the script, so that the next version of this package goes on with what this one has begun.
    return f"files:{digest_of(paths_in(f'{name}{ending}' for name in named for ending in endings))}"


def job_of(run: Run, folder: Path, fingerprint: str) -> Job:
    """What the process of a run needs, in a results folder.

    A UserError names an unknown optimizer or option, what a script of ours does not take, and an argument of a user's
    script that the comparison sets.
    """
    comparison, script, place = run.comparison, run.comparison.script, run_folder(folder, run).resolve()
    environment = {} if comparison.threads is None else {"OMP_NUM_THREADS": str(comparison.threads)}
    if "tensorboard" in (comparison.training.get("report_to") or ()):  # which names a run after its folder
        parts = (re.sub(r'[\\:*?"<>|]+', "-", part) for part in run_name(run).split("/"))
        environment["TENSORBOARD_LOGGING_DIR"] = str(place.parents[1].joinpath("tensorboard", *parts))
    settings, spec = _settings(run, place), find_optimizer(run.recipe.optimizer)
    options = {**(spec.defaults if spec else {}), **run.recipe.optim_args}
    overruling = {key: value for key, value in options.items() if key in _OVERRULED.values()}
    demanded = {
        key: value for key, value in settings.items()
        if key in _DEMANDED and _OVERRULED.get(key) not in overruling and script.flags.get(key, key) is not None
    }  # fmt: skip
    return Job(
        folder=str(place),
        fingerprint=fingerprint,
        recipe=run.recipe.name,
        warmup=run.recipe.warmup,
        demanded={**demanded, **overruling},
        optim_args={} if spec else run.recipe.optim_args,
        metric=script.metric or "loss",
        trainer=script.trainer,
        eval_steps=comparison.eval_steps,
        save_steps=comparison.save_steps,
        record_every=comparison.record_every,
        arguments=_arguments(run, place, settings),
        environment=environment,
    )


def _arguments(run: Run, place: Path, settings: Mapping[str, Any]) -> list[str]:
    """The script's own arguments, and those that make the run."""
    script, is_ours = run.comparison.script, run.comparison.is_ours
    flags = {name: script.flags.get(name, f"--{name}") for name in (*settings, *RECORDED)}
    taken = {flag.rstrip("=").replace("_", "-") for flag in flags.values() if flag}
    for word in script.own_arguments:
        if word.partition("=")[0].replace("_", "-") in taken:
            raise UserError(f"data.arguments: {word} is set by the comparison itself; remove it there")
    words = script.own_arguments
    for name, value in {**(_own(run, place) if is_ours else {}), **settings}.items():
        values = [_word(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
        flag = (f"--{name}=" if len(values) == 1 else f"--{name}") if is_ours else flags[name]
        if flag is not None and value is not None:
            words += [flag + values[0]] if flag.endswith("=") else [flag, *values]
    return words


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (bool, Mapping)) else str(value)


def _own(run: Run, place: Path) -> dict[str, Any]:
    """What our scripts take beside training arguments."""
    comparison = run.comparison
    examples = comparison.batch_size or (comparison.tokens_per_batch or 0) // _SENTENCE
    own = {
        "batch_size": comparison.batch_size,
        "tokens_per_batch": comparison.tokens_per_batch,
        "average_checkpoints": comparison.average_checkpoints or None,
        "needed_examples": comparison.max_steps * examples,  # the same for all recipes, whatever their lengths
        "cache_dir": place.parents[1],
    }
    for name in own.keys() & comparison.data.keys():
        raise UserError(f"data: {name} is a field of the comparison; set it there")
    of_data, of_model, _ = import_module(comparison.script.command[0]).ARGUMENTS
    if not hasattr(of_data, "tokens_per_batch") and (comparison.tokens_per_batch or comparison.average_checkpoints):
        raise UserError(
            "tokens_per_batch and average_checkpoints are for translation; give batch_size, in blocks or texts"
        )
    build(of_data, comparison.data, where="data")
    # All of the model: where a command line names no size, a script takes small ones.
    model = asdict(build(of_model, comparison.model_of(run.recipe), where="model"))
    return {**comparison.data, **model, **own}


def run_name(run: Run) -> str:
    """What trackers call the run: comparison/recipe/seed-k, with the learning rate where there are several."""
    rate = f"-lr{run.learning_rate:g}" if len(run.comparison.learning_rates) > 1 else ""
    return f"{run.comparison.name}/{run.recipe.name}/seed-{run.seed}{rate}"


def _settings(run: Run, place: Path) -> dict[str, Any]:
    """Training arguments of a run."""
    comparison, recipe = run.comparison, run.recipe
    accelerated = torch.accelerator.is_available()
    on_device = {"use_cpu": not accelerated, "dataloader_pin_memory": accelerated}
    reports = any(word.partition("=")[0] in ("--report_to", "--report-to") for word in comparison.script.own_arguments)
    settings: dict[str, Any] = {
        **({} if reports else {"report_to": "none"}),
        **({"per_device_eval_batch_size": 64, "disable_tqdm": True, **on_device} if comparison.is_ours else {}),
        **comparison.training,
        **recipe.training(),
        "output_dir": str(place / "model"),
        "seed": run.seed,
        "data_seed": run.seed,
        "optim": recipe.optimizer,
        "learning_rate": run.learning_rate * recipe.learning_rate_scale,
        "warmup_steps": recipe.warmup_updates(run.max_steps) if run.max_steps else recipe.warmup_steps,
        "run_name": run_name(run) if "report_to" in comparison.training else None,
        "max_steps": run.max_steps or None,
        "save_total_limit": comparison.average_checkpoints or None,
    }
    if comparison.eval_steps:
        settings |= {"eval_strategy": "steps", "eval_steps": comparison.eval_steps, "eval_on_start": True}
    if comparison.gradient_accumulation_steps > 1:
        settings["gradient_accumulation_steps"] = comparison.gradient_accumulation_steps
    build(_TRAINING, comparison.training, where="training")
    try:
        settings["optim_args"] = _options_as_text(recipe.optimizer, recipe.optim_args)
        settings = {key: value for key, value in settings.items() if value is not None}
        args = RAdamTrainingArguments(**{**on_device, **settings})
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"recipe {recipe.name!r}: {error}") from error
    if recipe.warmup_steps and args.lr_scheduler_type == SchedulerType.CONSTANT:
        raise UserError(f"recipe {recipe.name!r}: lr_scheduler_type constant knows no warmup; use constant_with_warmup")
    return settings


def _options_as_text(optimizer: str, options: Mapping[str, Any]) -> str | None:
    """As `--optim_args` takes them; Transformers, for its own, splits at every comma."""
    # YAML and JSON know no tuples.
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    text = ",".join(f"{key}={value}" for key, value in options.items()) or None
    if find_optimizer(optimizer) is None:
        for key, value in options.items():
            if re.search("[,= ]", f"{key}{value}"):
                raise ValueError(f"Transformers cannot be given {key}: {value!r}; take a registered optimizer")
    elif parse_optim_args(text) != options:
        raise ValueError(f"a command line cannot carry optim_args {options}; write values without quotes and commas")
    return text
