"""The record of a run: what was asked, what happened, and on what; JSON in and out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, PlainValidator, Strict, TypeAdapter
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from hf_radam.experiments.schema import STRICT, UserError, why
from hf_radam.files import write_whole


def _as_it_is(kind: Any) -> PlainValidator:
    """Checks a value and leaves it as it was read: whole numbers stay whole, and keys in their order."""
    adapter = TypeAdapter(kind)

    def checked(value: Any) -> Any:
        adapter.validate_python(value)
        return value

    return PlainValidator(checked)


Number = Annotated[float, _as_it_is(Annotated[FiniteFloat, Strict()])]
Count = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
# Names that no page can misread.
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_]{1,64}$")]


class _Recipe(TypedDict):
    name: str


class _Config(TypedDict):
    recipe: _Recipe
    learning_rate: Number
    seed: Count


class _Environment(TypedDict):
    hardware: str
    versions: dict[str, str | None]
    commit: str | None
    processes: Count
    threads: Count


class _Histograms(TypedDict):
    low: Number
    high: Number
    step: list[Number]
    counts: list[list[Number]]


def _columns(columns: Mapping[str, list[Any]]) -> Mapping[str, list[Any]]:
    steps = columns.get("step")
    if not steps or None in steps or sorted(set(steps)) != steps:
        raise ValueError("must have steps that rise")
    if "loss" not in columns or any(len(column) != len(steps) for column in columns.values()):
        raise ValueError("must have a loss, and lists of one length")
    return columns


def _histograms(found: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(found["counts"]) != len(found["step"]) or len({*map(len, found["counts"])}) > 1:
        raise ValueError("must have a row of counts for each step, of one length")
    return found


Columns = Annotated[Mapping[Name, list[Number | None]], AfterValidator(_columns)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Record:
    """One run. Numbers that are not finite are None."""

    id: Annotated[str, Field(pattern=r"^[^\W_][\w .=+-]*$")]  # it becomes a file's name, and stands in Markdown
    """Stable name of the run; see `comparison.Run.id`."""
    comparison: str
    """Title of the comparison it was made for."""
    config: Annotated[Mapping[str, Any], _as_it_is(_Config)]
    """Everything that decides the result, the recipe, learning rate and seed among it."""
    diverged: bool
    """Whether the loss became infinite or NaN, or ended above that of the untrained model, in training as well."""
    curves: Columns
    """One entry a recorded update: step, loss (as trained), learning_rate, rectification, rho, grad_norm, seconds."""
    evaluations: Columns
    """One entry an evaluation: step, loss (in `loss_unit`, without label smoothing), and further metrics."""
    final: Mapping[Name, Number | None]
    """The last evaluation, and the task's metric."""
    facts: Mapping[str, Number]
    """Numbers about the data, such as the loss of constant prediction."""
    gradients: Annotated[Mapping[str, Any], _as_it_is(_Histograms), AfterValidator(_histograms)] | None = None
    """Histograms of log10|g|; see `gradients.collect`. None where none were made."""
    optimizer: Mapping[str, Any]
    """Class and options of the optimizer at the end, read from the optimizer itself."""
    seconds_per_step: Number
    """Median over the updates, without evaluations."""
    peak_memory: Count
    """Bytes: of the GPU, or on a CPU of the whole process."""
    environment: Annotated[Mapping[str, Any], _as_it_is(_Environment)]
    """Versions, commit, hardware, processes, threads."""
    metric: Name
    """The key of `final` that is the task's own metric; see `metrics.METRICS`."""
    loss_unit: str
    """What the evaluation loss is counted in."""
    notes: list[str] = field(default_factory=list)
    """What else a reader must know, such as after how many updates a script ended its training."""
    example: Mapping[str, str] | None = None
    """A text (`input`) and what the model made of it (`output`), in records of earlier versions."""
    positive_label: str | None = None
    """Of two labels the one whose F1 is measured; None for other metrics."""
    state_bytes_per_parameter: Number | None = None
    """Bytes of optimizer state for each trained parameter, at the end, on the main process; None if not measured."""
    version: Literal[1] = 1
    """Of the file's format; raised when a reader would misunderstand an earlier one."""

    def __post_init__(self) -> None:
        if not self.final.keys() >= {"loss", self.metric}:
            raise ValueError(f"final must have loss and {self.metric}")

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
        content = json.dumps(asdict(self), separators=(",", ":")) + "\n"
        Record.load(path, content.encode())
        write_whole(path, content)

    @classmethod
    def load(cls, path: Path, content: bytes = b"") -> Record:
        """Read a record, what a file holds or shall hold; a UserError if it is none."""
        try:
            return _RECORD.validate_json(content or path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is no record of a run: {why(error)}; move it out of the folder") from error


_RECORD = TypeAdapter(Record)


def load_records(folder: Path) -> list[Record]:
    """All records of a results folder, in a fixed order; a UserError if there is none, or a file is no record."""
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise UserError(f"{folder} holds no records (records/*.json); run hf-radam compare --output_dir {folder} first")
    return [Record.load(path) for path in paths]


def compact(value: Any) -> Any:
    """Floats to 8 digits, which is more than float32 has; None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: compact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [compact(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
