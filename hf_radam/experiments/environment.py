"""What a run ran on: versions, hardware, memory."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "hf_radam", "torch", "transformers", "accelerate", "datasets", "tokenizers", "sacrebleu", "scikit-learn", "numpy",
)  # fmt: skip


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
    git = partial(subprocess.check_output, cwd=root, text=True, stderr=subprocess.DEVNULL)
    try:
        changes = git(["git", "status", "--porcelain", "hf_radam", "scripts"])
        return git(["git", "rev-parse", "HEAD"]).strip() + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def cpu_name() -> str:
    """Model of the processor."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:(.*)", info.read_text(), re.MULTILINE) if info.is_file() else None
    return named[1].strip() if named else platform.processor() or platform.machine()
