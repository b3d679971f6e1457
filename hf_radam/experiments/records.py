"""The record of a run: what was asked, what happened, and on what; JSON in and out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, Strict, TypeAdapter, ValidationError, WrapValidator

from hf_radam.experiments.schema import UserError
from hf_radam.files import one_line, write_whole

# Of the files; raised when a reader would misunderstand an earlier one.
VERSION = 1


def _demand(condition: object, rule: str) -> None:
    if not condition:
        raise ValueError(rule)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _columns(columns: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
    _demand({"step", "loss"} <= columns.keys(), "step or loss is missing")
    _demand(len({len(column) for column in columns.values()}) == 1, "must hold lists of one length")
    steps = columns["step"]
    _demand(steps and None not in steps and sorted(set(steps)) == steps, "step must rise")
    return columns


def _config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    recipe, rate = config.get("recipe"), config.get("learning_rate")
    _demand(isinstance(recipe, dict) and isinstance(recipe.get("name"), str), "recipe must be a mapping with a name")
    _demand(isinstance(rate, (int, float)) and math.isfinite(rate), "learning_rate must be a number")
    _demand(_is_count(config.get("seed")), "seed must be a whole number")
    return config


def _environment(found: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = found.get("versions")
    _demand(isinstance(found.get("hardware"), str) and isinstance(versions, dict), "hardware, versions must be there")
    _demand(_is_count(found.get("processes")) and _is_count(found.get("threads")), "processes, threads must be numbers")
    texts = [found.get("commit"), *(versions or {}).values()]
    _demand(all(isinstance(text, (str, type(None))) for text in texts), "commit, versions must be text")
    return found


def _gradients(found: Mapping[str, Any]) -> Mapping[str, Any]:
    _Histograms.validate_python(found)
    _demand(len({*map(len, found["counts"])}) <= 1, "counts must be lists of one length")
    _demand(len(found["step"]) == len(found["counts"]), "must hold a row of counts for each step")
    return found


# Names that no page can misread.
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,64}$")]
# A whole number stays one, so that a record is written as it was read.
Number = Annotated[FiniteFloat, Strict(), WrapValidator(lambda value, check: (check(value), value)[1])]
Columns = Annotated[Mapping[Name, list[Number | None]], AfterValidator(_columns)]
_Histograms = TypeAdapter(dict[str, Number | list[Number] | list[list[Number]]])


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. Numbers that are not finite are None."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[^\W_][\w .=+-]*$")]  # it becomes a file's name, and stands in Markdown
    """Stable name of the run; see `comparison.Run.id`."""
    comparison: str
    """Title of the comparison it was made for."""
    config: Annotated[Mapping[str, Any], AfterValidator(_config)]
    """Everything that decides the result, the recipe, learning rate and seed among it."""
    diverged: Annotated[bool, Strict()]
    """Whether the loss became infinite or NaN, or ended above that of the untrained model, in training as well."""
    curves: Columns
    """One entry a recorded update: step, loss (as trained), learning_rate, rectification, rho, grad_norm, seconds."""
    evaluations: Columns
    """One entry an evaluation: step, loss (in `loss_unit`, without label smoothing), and further metrics."""
    final: Mapping[Name, Number | None]
    """The last evaluation, and the task's metric."""
    facts: Mapping[str, Number]
    """Numbers about the data, such as the loss of constant prediction."""
    gradients: Annotated[Mapping[str, Any], AfterValidator(_gradients)] | None = None
    """Histograms of log10|g|; see `gradients.collect`. None where none were made."""
    optimizer: Mapping[str, Any]
    """Class and options of the optimizer at the end, read from the optimizer itself."""
    seconds_per_step: Number
    """Median over the updates, without evaluations."""
    peak_memory: Annotated[int, Strict(), Field(ge=0, lt=2**63)]
    """Bytes: of the GPU, or on a CPU of the whole process."""
    environment: Annotated[Mapping[str, Any], AfterValidator(_environment)]
    """Versions, commit, hardware, processes, threads."""
    metric: Name
    """The key of `final` that is the task's own metric; see `metrics.METRICS`."""
    loss_unit: str
    """What the evaluation loss is counted in."""
    notes: list[str] = field(default_factory=list)
    """What went wrong without ending the run, such as a checkpoint for which the disk had no room."""
    example: Mapping[str, str] | None = None
    """A text (`input`) and what the model made of it (`output`), in records of earlier versions."""
    positive_label: str | None = None
    """Of two labels the one whose F1 is measured; None for other metrics."""
    state_bytes_per_parameter: Number | None = None
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
        """Write the record whole or not at all; a UserError if it could not be read again."""
        Record.load(path, content := json.dumps(_compact(asdict(self)), separators=(",", ":")) + "\n")
        write_whole(path, content)

    @classmethod
    def load(cls, path: Path, text: str | None = None) -> Record:
        """Read a record, what a file holds or a text that shall become one; a UserError if it is none."""
        try:
            content = json.loads(text or path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
            _demand(isinstance(content, dict), "the file must be a mapping")
            _demand(content.get("version") == VERSION, f"its version must be {VERSION}, that of this hf_radam")
            record = _RECORD.validate_python(content)
            _demand(record.final.keys() >= {"loss", record.metric}, f"final: loss or {record.metric} is missing")
            return record
        except (OSError, ValueError, RecursionError) as error:  # of the file, of JSON, of what it says
            why = "it is nested too deep" if isinstance(error, RecursionError) else one_line(error)
            if isinstance(error, ValidationError):  # without the value, which may be of any size
                first = error.errors(include_input=False, include_url=False)[0]
                why = one_line(f"{': '.join(map(str, first['loc']))[:80]}: {first['msg']}")
            raise UserError(f"{path} is no record of a run: {why}; move it out of the folder") from error


def load_records(folder: Path) -> list[Record]:
    """All records of a results folder, in a fixed order; a UserError if there is none, or a file is no record."""
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


_RECORD = TypeAdapter(Record)
