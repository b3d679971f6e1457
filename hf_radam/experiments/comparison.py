"""A comparison, as frozen dataclasses read from YAML; each run has a stable id."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from hf_radam.experiments.recipes import RECIPES, Recipe
from hf_radam.experiments.schema import STRICT, Listed, UserError, build, check_least, read_yaml, shown, unknown
from hf_radam.experiments.script_data import TASKS, ScriptData, portable

# What the recorder sets, or what would make the record another's: of no script an argument of its own.
RECORDED = (
    "logging_strategy", "logging_steps", "logging_nan_inf_filter", "save_strategy", "save_steps", "save_total_limit",
    "save_only_model", "load_best_model_at_end", "resume_from_checkpoint", "ignore_data_skip", "run_name",
    "warmup_ratio", "overwrite_output_dir", "push_to_hub", "hub_model_id", "hub_token",
)  # fmt: skip
# Set by the comparison itself, the same for every recipe.
RESERVED = frozenset({
    *RECORDED, "output_dir", "seed", "data_seed", "optim", "optim_args", "learning_rate", "warmup_steps", "max_steps",
    "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "auto_find_batch_size",
    "eval_strategy", "eval_steps", "eval_on_start", "eval_delay", "dataloader_drop_last", "prediction_loss_only",
    "hub_revision", "deepspeed",
})  # fmt: skip

# Fields that only scripts of ours heed, with their defaults.
_OF_OUR_SCRIPTS = {
    "batch_size": None, "tokens_per_batch": None, "gradient_accumulation_steps": 1, "average_checkpoints": 0,
    "model": {},
}  # fmt: skip
# Of the training arguments, what only says where to report to; results are the same with and without.
_TRACKING = frozenset({
    "report_to", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "logging_dir",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Comparison:
    """Everything that is the same for all runs, and the lists of what differs."""

    name: str
    """Title of the report."""
    task: str
    """What is trained: a script of ours (`script_data.TASKS`), or `script`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task's data."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task's model."""
    recipes: Listed[Recipe]
    """The arms."""
    learning_rates: Listed[Annotated[FiniteFloat, Field(gt=0)]]
    """Peak learning rates; every recipe tries each."""
    seeds: Listed[Annotated[int, Field(ge=0, lt=2**32)]] = (0,)
    """Seeds of initial weights and data order."""
    max_steps: NonNegativeInt = 0
    """Updates of each run; of a script 0 for as many as it takes."""
    batch_size: PositiveInt | None = None
    """Examples of one update, over all processes; this or `tokens_per_batch`."""
    tokens_per_batch: PositiveInt | None = None
    """Tokens of one update, over all processes, counted as in `TokenBatches`."""
    eval_steps: NonNegativeInt = 0
    """Updates between two evaluations; of a script 0 for those that it makes by itself."""
    save_steps: NonNegativeInt = 0
    """Updates between two checkpoints, from which a broken run goes on; 0 for a quarter of `max_steps`."""
    record_every: PositiveInt = 1
    """Of a record's curves all of the first updates, then every so-manieth; above 1 without histograms of gradients."""
    average_checkpoints: NonNegativeInt = 0
    """The final test is that of the mean of the weights at the last so many multiples of `save_steps`; 0 for none."""
    target_loss: FiniteFloat | None = None
    """Evaluation loss whose first reaching is reported as "steps to target"."""
    threads: PositiveInt | None = None
    """CPU threads of each process; by default PyTorch's."""
    gradient_accumulation_steps: PositiveInt = 1
    """Parts into which each process splits its share of a batch, to save memory; the results are the same."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `RAdamTrainingArguments`, the same for all recipes."""

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("value", self.task, TASKS, "task")
        if self.is_ours:
            check_least(self, 1, "max_steps", "eval_steps")
            if (self.batch_size is None) == (self.tokens_per_batch is None):
                raise UserError("give either batch_size or tokens_per_batch, the size of the batch of one update")
        else:
            for name, default in _OF_OUR_SCRIPTS.items():
                if any(getattr(part, name, default) != default for part in (self, *self.recipes)):
                    raise UserError(f"task script: {name} belongs to the script; give it in data.arguments")
        for key in ("recipes", "learning_rates", "seeds"):
            values = [value.name if isinstance(value, Recipe) else value for value in getattr(self, key)]
            if len(set(values)) < len(values):
                raise UserError(f"{key} must be all different, got {shown(values)}; leave one out")
        if not self.runs():
            raise UserError(f"none of the seeds {shown(list(self.seeds))} is one of a recipe; see the recipes' seeds")
        for recipe in self.recipes:
            self._check_recipe(recipe, recipe.max_steps or self.max_steps)
        if own := RESERVED & self.training.keys():
            raise UserError(f"training: {min(own)!r} is set by the comparison itself; remove it")

    def _check_recipe(self, recipe: Recipe, steps: int) -> None:
        here = f"recipe {recipe.name!r}"
        if steps and recipe.warmup_updates(steps) >= steps:
            raise UserError(
                f"{here}: warmup_steps {recipe.warmup_steps:g} must be less than max_steps {steps}; "
                "the learning rate would never reach its peak"
            )
        window = self.average_checkpoints * self.save_steps
        if self.average_checkpoints and (not self.save_steps or steps % self.save_steps or steps < window):
            raise UserError(
                f"{here}: average_checkpoints {self.average_checkpoints} needs save_steps of which max_steps {steps} "
                f"is a multiple, at least {self.average_checkpoints} times; got {self.save_steps}"
            )
        if own := {"name_or_path", "revision"} & recipe.model.keys():
            raise UserError(
                f"{here}: model may not set {min(own)!r}, since all recipes begin with the same checkpoint; make a "
                "comparison of its own"
            )

    @property
    def is_ours(self) -> bool:
        """Whether its script comes with the package."""
        return self.task != "script"

    @cached_property
    def script(self) -> ScriptData:
        """What is run."""
        return ScriptData(module=TASKS[self.task]) if self.is_ours else build(ScriptData, self.data, where="data")

    def model_of(self, recipe: Recipe) -> dict[str, Any]:
        """Options of the model of a recipe."""
        return _merged(self.model, recipe.model)

    def runs(self) -> list[Run]:
        """All runs; seed by seed, so that a job that is cut short has compared all recipes."""
        return [
            Run(self, recipe, learning_rate, seed)
            for seed in self.seeds
            for learning_rate in self.learning_rates
            for recipe in self.recipes
            if recipe.seeds is None or seed in recipe.seeds
        ]

    def shared(self) -> dict[str, Any]:
        """What all results in one folder have in common."""
        differs = {
            "name", "recipes", "learning_rates", "seeds", "save_steps", "target_loss", "threads", "record_every",
            "gradient_accumulation_steps",
        }  # fmt: skip
        optional = ("batch_size", "tokens_per_batch", "average_checkpoints")  # older results lack them
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in differs}
        shared = {key: value for key, value in fields.items() if value or key not in optional}
        if self.average_checkpoints:
            shared["save_steps"] = self.save_steps
        shared["training"] = {key: value for key, value in self.training.items() if key not in _TRACKING}
        shared |= {"data": _portable(self.data), "model": _portable(self.model)}
        return json.loads(json.dumps(shared, default=str))


def _portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of paths only the last part: results travel, and are told apart by a fingerprint of the text itself."""
    found = dict(options)
    for key, value in options.items():
        if isinstance(value, str) and (key == "arguments" or (key == "script" and not os.path.isfile(value))):
            found[key] = portable(value)
        elif isinstance(value, str) and (key.endswith(("_prefix", "_file", "script")) or os.path.isdir(value)):
            found[key] = Path(value).name
    return found


@dataclasses.dataclass(frozen=True)
class Run:
    """One recipe at one learning rate and seed."""

    comparison: Comparison
    recipe: Recipe
    learning_rate: float
    """That of the comparison, by which runs are compared; the recipe may scale it."""
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe.name}, lr {self.learning_rate:g}, seed {self.seed}"

    def config(self) -> dict[str, Any]:
        """Everything that decides the result."""
        settings = {"recipe": self.recipe.definition(), "learning_rate": self.learning_rate, "seed": self.seed}
        return {**self.comparison.shared(), **settings}

    @property
    def max_steps(self) -> int:
        """Updates of this run; 0 for as many as a script takes."""
        return self.recipe.max_steps or self.comparison.max_steps

    @property
    def id(self) -> str:
        """Stable name: readable, with a digest of everything that decides the result."""
        digest = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.recipe.name}-lr{self.learning_rate:g}-seed{self.seed}-{digest}"


def load_comparison(path: Path, overrides: Mapping[str, Any] | None = None) -> Comparison:
    """Read a comparison.

    Args:
        path: a YAML file with the fields of `Comparison`; a recipe is a name of `RECIPES`, or a mapping that starts
            from one (`recipe: adam_warmup`) and sets fields of `Recipe`.
        overrides: fields that replace those of the file; `data`, `model` and `training` are merged key by key, and
            names in `recipes` select from the recipes of the file first.
    """
    if not path.is_file():
        raise UserError(f"no such comparison file: {path}; give a YAML file, or a name of `hf-radam configs`")
    content = read_yaml(path.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the keys of a comparison, got {shown(content)}; see hf-radam configs script")
    overrides, entries = dict(overrides or {}), content.get("recipes")
    if not isinstance(entries, list):
        raise UserError(f"{path}: recipes must be a list, got {shown(entries)}; give it one, such as [adam, radam]")
    recipes = [read_recipe(entry) for entry in entries]
    if chosen := overrides.pop("recipes", None):
        by_name = {recipe.name: recipe for recipe in recipes}
        for name in chosen:
            if name not in by_name and name not in RECIPES:
                raise unknown("recipe", name, dict.fromkeys([*by_name, *RECIPES]))
        recipes = [by_name.get(name) or read_recipe(name) for name in chosen]
    for key in ("data", "model", "training"):
        of_file, changes = content.get(key) or {}, overrides.pop(key, {})
        content[key] = {**of_file, **changes} if isinstance(of_file, dict) else of_file
    return build(Comparison, {**content, **overrides, "recipes": recipes}, where=str(path))


def read_recipe(entry: Any) -> Recipe:
    """A recipe from what a comparison's file or a record says; a UserError if that is none."""
    if not isinstance(entry, (str, dict)):
        raise UserError(f"a recipe must be a name or a mapping, got {shown(entry)}; write radam, or {{recipe: radam}}")
    given = {"recipe": entry} if isinstance(entry, str) else dict(entry)
    base = given.pop("recipe", None)
    if base is not None and (not isinstance(base, str) or base not in RECIPES):
        raise unknown("recipe", base, RECIPES)
    fields = {**(vars(RECIPES[base]) if base else {}), **given}
    recipe = build(Recipe, fields, where=f"recipe {shown(given.get('name', base))}")
    if not re.fullmatch(r"[^\W_][\w .=+-]{0,63}", recipe.name):  # it becomes part of file names, tables and figures
        raise UserError(
            f"recipe {shown(recipe.name)}: a name must have 1 to 64 letters, digits, spaces or _ . = + -, and begin "
            "with a letter or digit"
        )
    if (recipe.warmup == "linear") != (recipe.warmup_steps > 0):
        raise UserError(
            f"recipe {recipe.name!r}: warmup_steps must be positive with linear warmup and 0 otherwise, got "
            f"{recipe.warmup_steps:g}; set it in the comparison's file"
        )
    return recipe


def _merged(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with changes, also within the mappings among them."""
    inner = {
        key: _merged(options[key], value)
        for key, value in changes.items()
        if isinstance(value, Mapping) and isinstance(options.get(key), Mapping)
    }
    return {**options, **changes, **inner}
