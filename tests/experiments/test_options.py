"""A recipe's options reach the optimizer as the values that its file says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import TINY, write_config

from hf_radam import register_optimizer, registry
from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.runs.run import build_trainer, training_arguments
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.tasks import task_class
from hf_radam.training.callbacks import innermost


class Recording(torch.optim.SGD):
    """Keeps the options it was given."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, **options: Any) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.given = options


class Recorder(Recording):
    """Takes options of any type."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, kind: Any = None, mode: Any = None,
                 name: Any = None, steps: Any = None, nested: Any = None) -> None:  # fmt: skip
        super().__init__(params, lr, weight_decay, kind=kind, mode=mode, name=name, steps=steps, nested=nested)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    before = dict(registry._REGISTRY)
    register_optimizer("recorder", Recorder)
    yield
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


def test_values_stay_what_they_are(tmp_path: Path) -> None:
    options = {"kind": "a,b", "mode": "true", "name": "1e-3", "steps": [1, 4], "nested": {"x": "none"}}
    recipe = {"name": "r", "optimizer": "recorder", "optim_args": options}
    config = tmp_path / "comparison.yaml"
    config.write_text(json.dumps({**TINY, "recipes": [recipe]}))  # with quotes, which yaml.dump leaves out
    (run,) = load_comparison(config).runs()
    task = task_class(run.comparison.task)(run.comparison)
    task.prepare(tmp_path)
    trainer = build_trainer(run, task, tmp_path / "runs" / run.id, 1, lambda step, loss: None)
    optimizer: Any = innermost(trainer.create_optimizer())
    assert optimizer.given == {**options, "steps": (1, 4)}


@pytest.mark.parametrize("optimizer", ["radam", "adam", "adamw_torch", "adafactor"])
def test_one_option_sets_no_second_one(optimizer: str, tmp_path: Path) -> None:
    recipe = {"name": "x", "optimizer": optimizer, "optim_args": {"eps": "1e-8,weight_decay=9"}}
    (run,) = load_comparison(write_config(tmp_path, recipes=[recipe])).runs()
    with pytest.raises(UserError, match=r"recipe 'x': .*eps"):
        training_arguments(run, tmp_path, 1)
