"""RAdam as DeepSpeed's client optimizer."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from launching import LONG, MODELS, SAVING, TAKEN_UP, Engine, accelerate, assert_follows, train
from torch import Tensor

from hf_radam.training.optimizers import keep_in_deepspeed

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="needs `pip install deepspeed --no-build-isolation`; make test-slow does it"
)
TIMEOUT = 900  # seconds: the first launch compiles for over 2 minutes
# Configuration, what is added on the command line, and the stage and offloading that must come of it.
ENGINES: dict[str, tuple[str, list[str], int, str]] = {
    "zero1": ("deepspeed_zero2", ["--zero_stage", "1"], 1, "none"),
    "zero2": ("deepspeed_zero2", [], 2, "none"),
    "zero3": ("deepspeed_zero3", [], 3, "none"),
    "zero2_offload": ("deepspeed_zero2", ["--offload_optimizer_device", "cpu"], 2, "cpu"),
    "zero3_offload": ("deepspeed_zero3", ["--offload_optimizer_device", "cpu"], 3, "cpu"),
}


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("name", ENGINES)
def test_follows_the_reference_and_resumes(name: str, reference: dict[str, Tensor], tmp_path: Path) -> None:
    config, options, stage, offload = ENGINES[name]
    engine = Engine([*accelerate(config), *options], 2, "DEEPSPEED")
    cases: dict[str, Any] = {model: {"model": model, "output_dir": "out"} for model in MODELS}
    cases |= {f"{model}/accumulated": {**cases[model], "accumulation": 2} for model in MODELS}
    cases["straight"] = {**LONG, "output_dir": "straight", "arguments": SAVING}
    resumed = {f"from_{n}": {**LONG, "output_dir": "resumed", "resume": f"straight/checkpoint-{n}"} for n in TAKEN_UP}
    if offload != "none":  # DeepSpeed's kernel, which rounds a weight after decay and step, torch's after each
        alone = {model: {**cases[model], "optim": "radam_deepspeed_cpu"} for model in MODELS}
        alone["long"] = {**LONG, "output_dir": "alone", "optim": "radam_deepspeed_cpu"}
        found = train([sys.executable], alone, tmp_path, "alone", timeout=TIMEOUT)
        assert {found[case]["optimizer"] for case in alone} == {"DeepSpeedCPURAdam"}
        reference = {case: found[case]["trajectory"] for case in alone}
    results = train(engine.launcher, {**cases, **resumed}, tmp_path, timeout=TIMEOUT)
    for case in (*cases, *resumed):
        assert results[case]["optimizer"] == ("RAdam" if offload == "none" else "DeepSpeedCPURAdam")
        assert results[case]["deepspeed"]["stage"] == stage
        assert (results[case]["deepspeed"].get("offload_optimizer") or {}).get("device", "none") == offload
    for case in cases:
        if case != "straight":
            assert_follows(results[case], reference[case.partition("/")[0]], engine, "engine")
    assert_follows(results["straight"], reference["long"], engine, "other_world")
    for case in resumed:
        assert_follows(results[case], results["straight"]["trajectory"], engine, "same_world")
        assert len(results[case]["trajectory"]) == SAVING["max_steps"] - int(case.rpartition("_")[2])

    # The control: the optimizer's state is read, and DeepSpeed does not go on without.
    states = list((tmp_path / "straight/checkpoint-12/global_step12").glob("*optim_states.pt"))
    assert len(states) == 2
    for state in states:
        state.unlink()
    with pytest.raises(AssertionError, match="optim_states"):
        train(engine.launcher, {"lost": resumed["from_12"]}, tmp_path, "lost", timeout=TIMEOUT)


def test_the_optimizer_is_kept() -> None:
    config: dict[str, Any] = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    keep_in_deepspeed("radam", config)
    assert config["zero_force_ds_cpu_optimizer"] is False
    keep_in_deepspeed("radam", config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"optimizer": {"type": "AdamW"}}, r"section 'optimizer' \(AdamW\).*'radam'.*delete that section"),
        ({"zero_force_ds_cpu_optimizer": True}, "replaces 'radam' by DeepSpeedCPUAdam; delete that line"),
    ],
    ids=["section", "forced"],
)
def test_a_config_that_asks_for_another_optimizer_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keep_in_deepspeed("radam", config)
