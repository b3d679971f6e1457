"""The record of a run: what was asked, what happened, and on what; JSON in and out."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hf_radam.experiments.schema import UserError
from hf_radam.files import write_whole

PACKAGES = (
    "hf_radam", "torch", "transformers", "accelerate", "datasets", "tokenizers", "sacrebleu", "scikit-learn", "numpy",
)  # fmt: skip


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
    """One entry an update: step, loss (as trained), learning_rate, rectification, rho, grad_norm, seconds."""
    evaluations: Mapping[str, list[float | None]]
    """One entry an evaluation: step, loss (in `loss_unit`, without label smoothing), and names of `metrics.METRICS`."""
    final: Mapping[str, float | None]
    """The last evaluation, and the task's metric."""
    facts: Mapping[str, float]
    """Numbers about the data; see `tasks.Task.facts`."""
    gradients: Mapping[str, Any] | None = None
    """Histograms of log10|g|; see `gradients.collect`. None in records of earlier versions."""
    optimizer: Mapping[str, Any]
    """Class and options of the optimizer at the end, read from the optimizer itself."""
    seconds_per_step: float
    """Median over the updates, without evaluations."""
    peak_memory: int
    """Bytes: of the GPU, or on a CPU of the whole process."""
    environment: Mapping[str, Any]
    """Versions, commit, hardware, processes, threads."""
    metric: str = "bleu"
    """The key of `final` that is the task's own metric, a name of `metrics.METRICS`."""
    loss_unit: str = "nats a token"
    """What the evaluation loss is counted in."""
    notes: list[str] = field(default_factory=list)
    """What went wrong without ending the run, such as a checkpoint for which the disk had no room."""

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
            content = json.loads(path.read_text(encoding="utf-8"))
            optional = {f.name for f in fields(cls) if not (f.default is MISSING and f.default_factory is MISSING)}
            return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content or f.name not in optional})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no record of a run ({error!r}); move it out of the folder") from error


def load_records(folder: Path) -> list[Record]:
    """All records of a results folder, in a fixed order.

    Raises:
        UserError: there is none, or a file is no record.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise UserError(
            f"{folder} holds no records (records/*.json); run scripts/compare.py --output_dir {folder} first"
        )
    return [Record.load(path) for path in paths]


def environment(processes: int) -> dict[str, Any]:
    """What the run ran on. Names of users, hosts and folders stay out."""
    return {
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name(),
        "cpu_cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
    }


def reset_peak_memory() -> None:
    """Forget earlier peaks, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak resident size back to the present one


def peak_memory() -> int:
    """Bytes since `reset_peak_memory`, of the GPU or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    import resource  # absent on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of a source checkout, with "+" where it has changes; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "hf_radam", "scripts"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changes)


def cpu_name() -> str:
    """Model of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _compact(value: Any) -> Any:
    """Floats to 8 digits, which is more than float32 has; None for what JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_compact(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
