"""One training, under every engine, world size and accumulation split: all must follow one reference trajectory.

The reference is a single process with `torch.optim.RAdam`, so that it shares neither engine nor optimizer with what it
judges.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from launching import (
    FURTHER,
    MODELS,
    OPTIONS,
    TOLERANCES,
    Engine,
    accelerate,
    assert_follows,
    residual,
    torchrun,
    train,
)
from torch import Tensor

LONG = {"max_steps": 30, "save_strategy": "steps"}


def fsdp2(processes: int) -> Engine:
    return Engine(accelerate("fsdp2", processes), processes, "FSDP", is_fsdp2=True)


def ddp(processes: int) -> Engine:
    return Engine(accelerate("ddp", processes), processes, "MULTI_CPU")


ENGINES = {"ddp": ddp(2), "torchrun": Engine(torchrun(2), 2, "MULTI_CPU"), "fsdp2": fsdp2(2)}
SLOW_ENGINES = {"ddp_4": ddp(4), "fsdp2_4": fsdp2(4)}

# Where Transformers' own Trainer ends for models that ignore num_items_in_batch: start-up steps of twice the size.
TRAP = 1e-3
# What the loss of the optimizer state does to the parameters.
CONTROL = 1e-4


def every_model(engine: Engine) -> dict[str, Any]:
    """Accelerate keeps some settings of the first Accelerator of a process: first plain loops, at the end bf16."""
    accumulate = 8 // engine.world_size > 1
    cases: dict[str, Any] = {"loop": {"model": "bert", "loop": True}}
    if accumulate:
        cases["loop/accumulated"] = {**cases["loop"], "accumulation": 2}
    cases |= {model: {"model": model, "output_dir": "out"} for model in (*MODELS, *FURTHER)}
    if accumulate:
        cases |= {f"{model}/accumulated": {**cases[model], "accumulation": 2} for model in MODELS}
    if engine.is_fsdp2:
        efficient = {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
        cases["llama/ram_efficient"] = {**cases["llama"], "environment": efficient}
    options = {name: {"model": m, "output_dir": "out", "arguments": changes} for name, (m, changes) in OPTIONS.items()}
    return {**cases, **options}


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, id=name, marks=[pytest.mark.slow] if name in SLOW_ENGINES else [])
        for name, engine in {**ENGINES, **SLOW_ENGINES}.items()
        if name != "torchrun"
    ],
)
def test_follows_the_reference(engine: Engine, reference: dict[str, Tensor], tmp_path: Path) -> None:
    results = train(engine.launcher, every_model(engine), tmp_path)
    for name in every_model(engine):
        tolerance = "bf16" if name == "bf16" else "engine"
        assert_follows(results[name], reference[name.partition("/")[0]], engine, tolerance)
    # The controls: both options do something.
    for name, (model, _) in OPTIONS.items():
        assert residual(results[name], reference[model])[0] > 10 * TOLERANCES["engine"][0]


def test_accumulation_in_one_process_follows_the_reference(reference: dict[str, Tensor], tmp_path: Path) -> None:
    engine = Engine([torchrun(1)[0]], 1, "NO")
    cases = {model: {"model": model, "output_dir": "out", "accumulation": 4} for model in MODELS}
    results = train(engine.launcher, cases, tmp_path)
    for model in MODELS:
        assert_follows(results[model], reference[model], engine, "engine")


def test_the_trap_is_there_without_our_trainer(reference: dict[str, Tensor], tmp_path: Path) -> None:
    """The control: should Transformers mend its loss scale, ours could go."""
    cases = {
        model: {"model": model, "output_dir": "out", "plain_trainer": True, "arguments": {"weight_decay": 0.0}}
        for model in MODELS
    }
    two = train(ENGINES["torchrun"].launcher, cases, tmp_path, "two")
    one = train([torchrun(1)[0]], cases, tmp_path, "one")
    for model in MODELS:
        assert two[model]["world_size"] == 2
        largest, _ = residual(two[model], one[model]["trajectory"])
        assert (largest > TRAP) == (model != "llama")


def test_tensor_parallel_follows_the_reference(reference: dict[str, Tensor], tmp_path: Path) -> None:
    """A model split by `from_pretrained(tp_plan="auto")`: both processes see the same examples."""
    engine = Engine(torchrun(2), 2, "MULTI_XPU")  # as Accelerate is made to believe; see distributed/on_cpu.py
    whole = {"per_device_train_batch_size": 8}
    halves = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    cases = {
        name: {"model": "llama_tensor_parallel", "output_dir": "out", "arguments": arguments}
        for name, arguments in (("whole", whole), ("halves", halves))
    }
    results = train(engine.launcher, cases, tmp_path)
    for name in cases:
        assert_follows(results[name], reference["llama_even"], engine, "engine")


def test_several_machines(reference: dict[str, Tensor], tmp_path: Path) -> None:
    """Two launchers that meet over the network, as on two machines with a GPU each."""
    cases = {"bert": {"model": "bert", "output_dir": "out"}}
    # Below the ports that the system gives out, so that nobody is given this one before the machines meet.
    port = random.randint(20_000, 29_999)
    meeting = ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    launchers = [[*accelerate("multi_node"), *meeting, "--machine_rank", str(rank)] for rank in (0, 1)]
    with ThreadPoolExecutor() as machines:
        first, _ = machines.map(lambda i: train(launchers[i], cases, tmp_path, f"machine_{i}", results=not i), (0, 1))
    assert_follows(first["bert"], reference["bert"], ddp(2), "engine")


# Where checkpoints come from, and on how many processes they are taken up again.
CHECKPOINTS: dict[str, tuple[Engine, tuple[Engine, ...], dict[str, str]]] = {
    "ddp": (ddp(2), (Engine([torchrun(1)[0]], 1, "NO"),), {}),
    "fsdp2_sharded": (fsdp2(2), (fsdp2(1),), {}),
    "fsdp2_full": (fsdp2(2), (fsdp2(1),), {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}),
}
SLOW_CHECKPOINTS = {
    "ddp_to_4": (ddp(2), (ddp(4),), {}),
    "ddp_from_4": (ddp(4), (ddp(2),), {}),
    "fsdp2_sharded_to_4": (fsdp2(2), (fsdp2(4),), {}),
    "fsdp2_sharded_from_4": (fsdp2(4), (fsdp2(2),), {}),
    "fsdp2_full_to_4": (fsdp2(2), (fsdp2(4),), {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}),
    "fsdp2_full_from_4": (fsdp2(4), (fsdp2(2),), {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}),
}


@pytest.mark.parametrize(
    "name", [*CHECKPOINTS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CHECKPOINTS)]
)
def test_resume(name: str, reference: dict[str, Tensor], tmp_path: Path) -> None:
    """Saved in start-up and after it; bit for bit on as many processes, and within rounding on others."""
    engine, others, environment = {**CHECKPOINTS, **SLOW_CHECKPOINTS}[name]
    case = {"model": "marian", "environment": environment}
    cases: dict[str, Any] = {
        f"straight_{step}": {**case, "output_dir": f"straight_{step}", "arguments": {**LONG, "save_steps": step}}
        for step in (3, 12)
    }
    resumed = {
        f"from_{step}": {
            **case, "output_dir": "resumed", "arguments": {"max_steps": 30},
            "resume": f"straight_{step}/checkpoint-{step}",
        }
        for step in (3, 12)
    }  # fmt: skip
    # A scaler multiplies and divides by a power of two, which rounds nothing.
    resumed["scaled_from_12"] = {**resumed["from_12"], "scaler": True}
    results = train(engine.launcher, {**cases, **resumed}, tmp_path)
    straight = results["straight_3"]
    assert_follows(straight, reference["long"], engine, "other_world")
    for key in resumed:
        assert_follows(results[key], straight["trajectory"], engine, "same_world")
        assert len(results[key]["trajectory"]) == 30 - int(key.rpartition("_")[2])

    for number, other in enumerate(others):
        lost = {**resumed["from_12"], "remove": [f"straight_12/checkpoint-12/{_state_file(name)}"]}
        elsewhere = train(other.launcher, {**resumed, "lost": lost}, tmp_path, f"elsewhere_{number}")
        for key in resumed:
            assert_follows(elsewhere[key], straight["trajectory"], other, "other_world")
        assert residual(elsewhere["lost"], straight["trajectory"])[0] > CONTROL
        assert "goes on at step 12, but the checkpoint has no optimizer state" in " ".join(elsewhere["output"].split())


def _state_file(name: str) -> str:
    return "optimizer_0" if "sharded" in name else "optimizer.bin" if "full" in name else "optimizer.pt"
