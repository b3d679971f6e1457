"""A tiny comparison, and how a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hf_radam.cli import main
from hf_radam.experiments.records import Record

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "hf_radam" / "experiments" / "configs"
COMMITTED = sorted(
    path.parent.relative_to(ROOT / "model_cards").as_posix() for path in ROOT.glob("model_cards/**/comparison.json")
)
"""Folders of results under model_cards/; one within another has its parent's card."""
COMPARE = [sys.executable, "-m", "hf_radam", "compare"]

TINY: dict[str, Any] = {
    "name": "Tiny",
    "task": "translation",
    "data": {"vocab_size": 300, "max_length": 32, "max_eval_samples": 20},
    "model": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": 0.0,
    },
    "recipes": ["adam", {"recipe": "adam_warmup", "warmup_steps": 3}, "radam"],
    "learning_rates": [3e-3],
    "seeds": [0],
    "max_steps": 12,
    "batch_size": 4,
    "eval_steps": 4,
    "save_steps": 5,
    "target_loss": 5.5,
    "threads": 1,
    "training": {"adam_beta2": 0.9, "label_smoothing_factor": 0.1},
}  # fmt: skip


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def run(command: Sequence[str | Path], check: bool = True, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def compare(*arguments: Any) -> int:
    """The command in this process, which has imported what it needs; returns its exit code."""
    return main(["compare", *map(str, arguments)])


def outcome(record: Record) -> tuple[Any, ...]:
    """What a run came to, which is the same however often it was interrupted."""
    curves = {name: values for name, values in record.curves.items() if name != "seconds"}
    return curves, record.evaluations, record.final, record.gradients, record.diverged


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, **changes}
