"""A recipe's options reach the optimizer as the values that its file says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import TINY, write_config
from transformers import HfArgumentParser

from hf_radam import register_optimizer, registry
from hf_radam.examples.translation import ARGUMENTS
from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.runs.words import job_of
from hf_radam.experiments.schema import UserError
from hf_radam.training.optimizers import class_and_options


class Recorder(torch.optim.SGD):
    """Takes options of any type."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, kind: Any = None, mode: Any = None,
                 name: Any = None, steps: Any = None, nested: Any = None) -> None:  # fmt: skip
        super().__init__(params, lr, weight_decay=weight_decay)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    before = dict(registry._REGISTRY)
    register_optimizer("recorder", Recorder)
    yield
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


def words(options: dict[str, Any], folder: Path) -> list[str]:
    recipe = {"name": "r", "optimizer": "recorder", "optim_args": options}
    config = folder / "comparison.yaml"
    config.write_text(json.dumps({**TINY, "recipes": [recipe]}))  # with quotes, which yaml.dump leaves out
    (run,) = load_comparison(config).runs()
    return [*job_of(run, folder, "").arguments]


def test_values_stay_what_they_are(tmp_path: Path) -> None:
    options = {"kind": "a-b", "mode": True, "name": 1e-3, "steps": [1, 4]}
    parser = HfArgumentParser(ARGUMENTS)  # pyright: ignore[reportArgumentType]
    *_, args = parser.parse_args_into_dataclasses(words(options, tmp_path))
    of_optimizer = class_and_options(args)[1]
    assert {name: of_optimizer[name] for name in options} == {**options, "steps": (1, 4)}


@pytest.mark.parametrize("value", ["a,b", "true", "1e-3", "none"])
def test_what_text_cannot_carry_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe 'r': .*optim_args"):
        words({"kind": value}, tmp_path)


@pytest.mark.parametrize("optimizer", ["radam", "adam", "adamw_torch", "adafactor"])
def test_one_option_sets_no_second_one(optimizer: str, tmp_path: Path) -> None:
    recipe = {"name": "x", "optimizer": optimizer, "optim_args": {"eps": "1e-8,weight_decay=9"}}
    (run,) = load_comparison(write_config(tmp_path, recipes=[recipe])).runs()
    with pytest.raises(UserError, match=r"recipe 'x': .*eps"):
        job_of(run, tmp_path, "")
