"""Launches trainings on several processes, by the commands that a user would type."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "hf_radam" / "training" / "accelerate_configs"
WORKERS = ROOT / "tests" / "distributed"

# Launched trainings are about CPU processes on gloo: two of them would meet on the only GPU of a machine.
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
TIMEOUT = 900  # seconds; a launch takes 20 to 60 on a machine of its own
GRACE = 45  # torchrun gives its workers 30

MODELS = ("bert", "marian", "llama")
FURTHER = ("llama_tied", "llama_half_frozen", "llama_lora")

# Largest and mean residual of all parameters, over all steps; they have moved by 1e-2 to 3e-2.
TOLERANCES = {
    # float32 sums in another order: a rounding of 6e-8 in parameters near 1 (norm weights), 1e-9 in those near 0.01.
    "engine": (5e-7, 1e-9),
    # Autocast rounds activations to 8 bits: gradients are off by a percent, and steps of 1e-3 with them.
    "bf16": (2e-3, 2e-5),
    # float32 over 16 steps, of which some start from a state that was saved under another split.
    "other_world": (1e-6, 2e-9),
    "same_world": (0.0, 0.0),
}
# A training that is long enough to be taken up again, in start-up (which takes five updates) and after it.
LONG: dict[str, Any] = {"model": "marian", "arguments": {"max_steps": 16}}
SAVING = {**LONG["arguments"], "save_strategy": "steps", "save_steps": 4}
TAKEN_UP = (4, 12)
# Trainings with an option that must mean the same everywhere: of which model, and the arguments.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "clipped": ("bert", {"max_grad_norm": 0.05}),
    "bf16": ("llama", {"bf16": True}),
}


class Engine(NamedTuple):
    """A way to launch a training, and what it must report of itself, so that no test passes by running another."""

    launcher: list[str]
    world_size: int
    distributed_type: str
    is_fsdp2: bool = False


def accelerate(config: str, processes: int = 2) -> list[str]:
    """`accelerate launch` with one of our configurations; port 0 is any free one."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml")]
    return [*launch, "--num_processes", str(processes), "--main_process_port", "0"]


def torchrun(processes: int) -> list[str]:
    """`torchrun` on this machine."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def train(
    launcher: list[str],
    cases: Mapping[str, Any],
    folder: Path,
    name: str = "job",
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """Run `distributed/train.py` on cases; returns its results, and under "output" what it wrote to the terminal."""
    description, out = folder / f"{name}.json", folder / f"{name}.pt"
    description.write_text(json.dumps(cases))
    output = run([*launcher, str(WORKERS / "train.py"), str(description), str(out)], folder, timeout)
    return {**torch.load(out, weights_only=False), "output": output}


def run(command: list[str], cwd: Path, timeout: float = TIMEOUT) -> str:
    """Run a command to its good end; returns what it wrote to the terminal.

    Once more where its port was taken between the launcher's look for a free one and its use.
    """
    status, output = _attempt(command, cwd, timeout)
    if status and re.search("EADDRINUSE|address already in use", output, re.IGNORECASE):
        status, output = _attempt(command, cwd, timeout)
    if status != 0:
        ended = f"not done after {timeout} s" if status is None else f"ended with status {status}"
        raise AssertionError(f"{command} {ended}:\n{excerpt(output)}")
    return output


def _attempt(command: list[str], cwd: Path, timeout: float) -> tuple[int | None, str]:
    """Exit status, None where the time was up, and output."""
    with tempfile.TemporaryFile("w+") as log:  # a pipe would be held open by any process that is left
        process = subprocess.Popen(
            command, cwd=cwd, stdout=log, stderr=log, text=True, env=os.environ | ENVIRONMENT, start_new_session=True
        )
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            try:
                status = process.wait(timeout)
            finally:
                _end(process)
        log.seek(0)
        return status, log.read()


def _end(process: subprocess.Popen[str]) -> None:
    """End a launcher and its workers; they have sessions of their own, so that only torchrun can end them."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def excerpt(output: str, limit: int = 6000) -> str:
    """The first traceback or abort, from which those of other processes follow, and the end."""
    found = re.search(r"Traceback \(most recent call last\)|terminate called|Fatal Python error", output)
    first = found.start() if found else 0
    rest = output[first + limit :]
    return output[first : first + limit] + ("\n[...]\n" if len(rest) > limit else "") + rest[-limit:]


def residual(results: dict[str, Any], trajectory: Tensor) -> tuple[float, float]:
    """Largest and mean difference; a resumed training is compared with the steps that it took."""
    difference = (results["trajectory"] - trajectory[-len(results["trajectory"]) :]).abs()
    return difference.max().item(), difference.mean().item()


def assert_follows(results: dict[str, Any], trajectory: Tensor, engine: Engine, tolerance: str) -> None:
    assert (results["world_size"], results["distributed_type"], results["is_fsdp2"]) == engine[1:]
    largest, mean = residual(results, trajectory)
    assert largest <= TOLERANCES[tolerance][0]
    assert mean <= TOLERANCES[tolerance][1]
