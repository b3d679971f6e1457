"""Launches trainings on several processes, by the commands that a user would type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "scripts" / "accelerate_configs"
WORKERS = ROOT / "tests" / "distributed"


def accelerate(config: str, processes: int = 2) -> list[str]:
    """`accelerate launch` with one of our configurations; port 0 is any free one."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml")]
    return [*launch, "--num_processes", str(processes), "--main_process_port", "0"]


def torchrun(processes: int) -> list[str]:
    """`torchrun` on this machine."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def train(launcher: list[str], cases: Mapping[str, Any], folder: Path, name: str = "job") -> dict[str, Any]:
    """Run `distributed/train.py` on cases; returns its results, and under "output" what it wrote to the terminal."""
    description, out = folder / f"{name}.json", folder / f"{name}.pt"
    description.write_text(json.dumps(cases))
    output = run([*launcher, str(WORKERS / "train.py"), str(description), str(out)], cwd=folder)
    return {**torch.load(out, weights_only=False), "output": output}


def run(command: list[str], cwd: Path, timeout: int = 300) -> str:
    """Run a command to its good end; returns what it wrote to the terminal."""
    done = subprocess.run(
        command, cwd=cwd, timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
