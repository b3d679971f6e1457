"""The record of a run: what was asked, what happened, and on what; JSON in and out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_radam.experiments.metrics import is_metric
from hf_radam.experiments.schema import UserError
from hf_radam.files import one_line, write_whole

# Of the files; raised when a reader would misunderstand an earlier one.
VERSION = 1
# Text becomes file names, and stands in Markdown as the names of recipes do.
_ID = re.compile(r"[^\W_][\w .=+-]*")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. Numbers that are not finite are None."""

    id: str
    """Stable name of the run; see `config.Run.id`."""
    comparison: str
    """Title of the comparison it was made for."""
    config: Mapping[str, Any]
    """Everything that decides the result, the recipe, learning rate and seed among it."""
    diverged: bool
    """Whether the loss became infinite or NaN, or ended above that of the untrained model, in training as well."""
    curves: Mapping[str, list[float | None]]
    """One entry a recorded update: step, loss (as trained), learning_rate, rectification, rho, grad_norm, seconds."""
    evaluations: Mapping[str, list[float | None]]
    """One entry an evaluation: step, loss (in `loss_unit`, without label smoothing), and further metrics."""
    final: Mapping[str, float | None]
    """The last evaluation, and the task's metric."""
    facts: Mapping[str, float]
    """Numbers about the data; see `tasks.Task.facts`."""
    gradients: Mapping[str, Any] | None = None
    """Histograms of log10|g|; see `gradients.collect`. None where none were made."""
    optimizer: Mapping[str, Any]
    """Class and options of the optimizer at the end, read from the optimizer itself."""
    seconds_per_step: float
    """Median over the updates, without evaluations."""
    peak_memory: int
    """Bytes: of the GPU, or on a CPU of the whole process."""
    environment: Mapping[str, Any]
    """Versions, commit, hardware, processes, threads."""
    metric: str
    """The key of `final` that is the task's own metric; see `metrics.METRICS`."""
    loss_unit: str
    """What the evaluation loss is counted in."""
    notes: list[str] = field(default_factory=list)
    """What went wrong without ending the run, such as a checkpoint for which the disk had no room."""
    example: Mapping[str, str] | None = None
    """A text (`input`) and what the trained model makes of it (`output`); None where none was asked."""
    state_bytes_per_parameter: float | None = None
    """Bytes of optimizer state for each trained parameter, at the end, on the main process; None if not measured."""
    version: int = VERSION
    """Of the file's format."""

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.config["recipe"]["name"]

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        return self.config["learning_rate"]

    @property
    def seed(self) -> int:
        """Seed of initial weights and data order."""
        return self.config["seed"]

    @property
    def updates(self) -> int:
        """How many were made."""
        return int(self.curves["step"][-1] or 0)

    def save(self, path: Path) -> None:
        """Write the record whole or not at all."""
        write_whole(path, json.dumps(_compact(asdict(self)), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record.

        Raises:
            UserError: the file is no record.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
            return cls(**_checked(content))
        except (OSError, ValueError, RecursionError) as error:  # of text, of JSON, of what it says
            why = "it is nested too deep" if isinstance(error, RecursionError) else one_line(error)
            raise UserError(f"{path} is no record of a run: {why}; move it out of the folder") from error


def load_records(folder: Path) -> list[Record]:
    """All records of a results folder, in a fixed order.

    Raises:
        UserError: there is none, or a file is no record.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise UserError(f"{folder} holds no records (records/*.json); run hf-radam compare --output_dir {folder} first")
    return [Record.load(path) for path in paths]


def _compact(value: Any) -> Any:
    """Floats to 8 digits, which is more than float32 has; None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_compact(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _checked(content: Any) -> dict[str, Any]:
    """The fields of a record's file.

    Raises:
        ValueError: naming the field and what it must be, never its value, which may be of any size.
    """
    content = _mapping(content, "the file")
    if content.get("version") != VERSION:
        raise ValueError(f"its version must be {VERSION}, the format that this hf_radam reads")
    known = {f.name for f in fields(Record)}
    for name in known - {"example", "state_bytes_per_parameter"}:
        _demand(name in content, f"{name} is missing")
    _demand(content.keys() <= known, "it has fields that no record has")
    for name in ("id", "comparison", "loss_unit", "metric"):
        _demand(isinstance(content[name], str), f"{name} must be text")
    _demand(_ID.fullmatch(content["id"]), "id must be letters, digits, spaces or _ . = + -")
    _demand(is_metric(content["metric"]), "metric must be letters, digits or _")
    _demand(isinstance(content["diverged"], bool), "diverged must be true or false")
    config = _mapping(content["config"], "config")
    recipe = _mapping(config.get("recipe"), "config: recipe")
    _demand(isinstance(recipe.get("name"), str), "config: recipe: name must be text")
    _demand(_is_number(config.get("learning_rate")), "config: learning_rate must be a number")
    _demand(_is_count(config.get("seed")), "config: seed must be a whole number")
    _columns(content["curves"], "curves", ("step", "loss", "learning_rate"))
    evaluations = _columns(content["evaluations"], "evaluations", ("step", "loss"))
    final = _numbers(content["final"], "final", or_none=True)
    for name in ("loss", content["metric"]):
        _demand(name in final, f"final: {name} is missing")
    _demand(all(map(is_metric, {*final, *evaluations})), "names in final and evaluations must be letters, digits or _")
    _numbers(content["facts"], "facts")
    _gradients(content["gradients"])
    _mapping(content["optimizer"], "optimizer")
    _demand(_is_number(content["seconds_per_step"]), "seconds_per_step must be a number")
    _demand(_is_count(content["peak_memory"]), "peak_memory must be a whole number")
    environment = _mapping(content["environment"], "environment")
    _demand(isinstance(environment.get("hardware"), str), "environment: hardware must be text")
    for name in ("processes", "threads"):
        _demand(_is_count(environment.get(name)), f"environment: {name} must be a whole number")
    texts = [environment.get("commit"), *_mapping(environment.get("versions"), "environment: versions").values()]
    _demand(all(isinstance(text, (str, type(None))) for text in texts), "environment: commit, versions must be text")
    notes = content["notes"]
    _demand(isinstance(notes, list) and all(isinstance(note, str) for note in notes), "notes must be a list of text")
    if (example := content.get("example")) is not None:
        texts = [_mapping(example, "example").get(key) for key in ("input", "output")]
        _demand(all(isinstance(text, str) for text in texts), "example: input, output must be text")
    state = content.get("state_bytes_per_parameter")
    _demand(state is None or _is_number(state), "state_bytes_per_parameter must be a number")
    return content


def _demand(holds: object, rule: str) -> None:
    if not holds:
        raise ValueError(rule)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    _demand(isinstance(value, dict), f"{where} must be a mapping")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _numbers(value: Any, where: str, *, or_none: bool = False) -> dict[str, Any]:
    for number in _mapping(value, where).values():
        _demand(_is_number(number) or (or_none and number is None), f"{where} must hold numbers")
    return value


def _columns(value: Any, where: str, needed: tuple[str, ...]) -> dict[str, Any]:
    columns = _mapping(value, where)
    for name in needed:
        _demand(name in columns, f"{where}: {name} is missing")
    for column in columns.values():
        _demand(isinstance(column, list) and column, f"{where} must hold lists that are not empty")
        _demand(len(column) == len(columns["step"]), f"{where} must hold lists of one length")
        _demand(all(number is None or _is_number(number) for number in column), f"{where} must hold numbers")
    steps = columns["step"]
    _demand(None not in steps and sorted(set(steps)) == steps, f"{where}: step must rise")
    return columns


def _list(value: Any) -> list[Any]:
    _demand(isinstance(value, list), "gradients: step, counts must be lists")
    return value


def _gradients(value: Any) -> None:
    if value is None:
        return
    found = _mapping(value, "gradients")
    steps, rows = _list(found.get("step")), _list(found.get("counts"))
    _demand(_is_number(found.get("low")) and _is_number(found.get("high")), "gradients: low, high must be numbers")
    _demand(
        len(steps) == len(rows) and all(map(_is_number, steps)), "gradients must hold a row of counts for each step"
    )
    widths = {len(row) if isinstance(row, list) and all(map(_is_number, row)) else None for row in rows}
    _demand(None not in widths and len(widths) <= 1, "gradients: counts must be lists of numbers, all of one length")
