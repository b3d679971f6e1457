"""One training, under every engine, world size and accumulation split: all must follow one reference trajectory.

The reference is a single process with `torch.optim.RAdam`, so that it shares neither engine nor optimizer with what it
judges.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from launching import (
    FURTHER,
    LONG,
    MODELS,
    OPTIONS,
    SAVING,
    TAKEN_UP,
    TOLERANCES,
    Engine,
    accelerate,
    assert_follows,
    residual,
    torchrun,
    train,
)
from torch import Tensor


def fsdp2(processes: int) -> Engine:
    return Engine(accelerate("fsdp2", processes), processes, "FSDP", is_fsdp2=True)


def ddp(processes: int) -> Engine:
    return Engine(accelerate("ddp", processes), processes, "MULTI_CPU")


def two_machines() -> Engine:
    """Two launchers that meet over the network, as on two machines with a GPU each."""
    launch = f"{shlex.join(accelerate('multi_node'))} --num_machines 2 --main_process_ip 127.0.0.1"
    # Below the ports that the system gives out, so that nobody is given this one before the machines meet.
    first, second = (f'{launch} --main_process_port $port --machine_rank {rank} "$@"' for rank in (0, 1))
    both = f"port=$((20000 + RANDOM % 10000)); {second} & {first}; status=$?; wait $! && exit $status"
    return Engine(["bash", "-c", both, "machines"], 2, "MULTI_CPU")


ENGINES = {
    "ddp": two_machines(), "fsdp2": fsdp2(2), "ddp_4": ddp(4), "fsdp2_4": fsdp2(4),
    "one": Engine([torchrun(1)[0]], 1, "NO"), "fsdp2_1": fsdp2(1),
}  # fmt: skip
Launched = Callable[..., dict[str, Any]]


def fast_and_slow(names: Sequence[str], slow: Sequence[str]) -> list[Any]:
    return [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


# What the loss of the optimizer state does to the parameters.
CONTROL = 1e-4


# How FSDP writes a checkpoint, and the file with the optimizer's state.
FORMATS = {"sharded": "optimizer_0", "full": "optimizer.bin", "file": "optimizer.pt"}


def formats(engine: Engine) -> list[str]:
    return ["sharded", "full"] if engine.is_fsdp2 else ["file"]


def every_training(engine: Engine) -> dict[str, Any]:
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


def resumed(format: str) -> dict[str, Any]:
    """Taken up after start-up, and of one format of FSDP in it."""
    case = {**LONG, "output_dir": "resumed", "environment": environment(format)}
    steps = TAKEN_UP if format != "full" else TAKEN_UP[1:]
    cases = {f"from_{step}": {**case, "resume": f"{format}/checkpoint-{step}"} for step in steps}
    if format != "full":  # a scaler multiplies and divides by a power of two, which rounds nothing
        cases["scaled_from_12"] = {**cases["from_12"], "scaler": True}
    return {f"{format}/{name}": case for name, case in cases.items()}


def environment(format: str) -> dict[str, str]:
    return {} if format == "file" else {"FSDP_STATE_DICT_TYPE": f"{format.upper()}_STATE_DICT"}


def straight_and_resumed(engine: Engine) -> dict[str, Any]:
    cases: dict[str, Any] = {}
    for format in formats(engine):
        straight = {**LONG, "arguments": SAVING, "output_dir": format, "environment": environment(format)}
        cases |= {f"{format}/straight": straight, **resumed(format)}
    return cases


def tensor_parallel() -> dict[str, Any]:
    """Without FSDP, whatever the launch was for."""
    environment = {"ACCELERATE_USE_FSDP": "false", "TENSOR_PARALLEL": "true"}
    case = {"model": "llama_tensor_parallel", "output_dir": "out", "environment": environment}
    whole = {"per_device_train_batch_size": 8}
    halves = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    return {"tp/whole": {**case, "arguments": whole}, "tp/halves": {**case, "arguments": halves}}


@pytest.fixture
def together(launched: Launched) -> Callable[[str], dict[str, Any]]:
    """Everything that is trained on the processes of an engine, in one launch."""

    def results(name: str) -> dict[str, Any]:
        engine = ENGINES[name]
        cases = every_training(engine)
        bf16 = {"bf16": cases.pop("bf16")}
        further = tensor_parallel() if name == "fsdp2" else {}
        return launched(name, engine.launcher, {**cases, **further, **straight_and_resumed(engine), **bf16})

    return results


Together = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("name", fast_and_slow(["ddp", "fsdp2"], ["ddp_4", "fsdp2_4"]))
def test_follows_the_reference(name: str, reference: dict[str, Tensor], together: Together) -> None:
    engine, results = ENGINES[name], together(name)
    for case in every_training(engine):
        tolerance = "bf16" if case == "bf16" else "engine"
        assert_follows(results[case], reference[case.partition("/")[0]], engine, tolerance)
    # The controls: both options do something.
    for option, (model, _) in OPTIONS.items():
        assert residual(results[option], reference[model])[0] > 10 * TOLERANCES["engine"][0]


@pytest.mark.parametrize("model", MODELS)
def test_accumulation_in_one_process_follows_the_reference(
    model: str, alone: dict[str, Any], reference: dict[str, Tensor]
) -> None:
    assert_follows(alone[f"{model}/accumulated"], reference[model], ENGINES["one"], "engine")


@pytest.mark.parametrize("case", tensor_parallel())
def test_tensor_parallel_follows_the_reference(case: str, reference: dict[str, Tensor], together: Together) -> None:
    """A model split by `from_pretrained(tp_plan="auto")`: both processes see the same examples."""
    engine = Engine([], 2, "MULTI_XPU")  # as Accelerate is made to believe; see distributed/on_cpu.py
    assert_follows(together("fsdp2")[case], reference["llama_even"], engine, "engine")


@pytest.mark.parametrize("name", fast_and_slow(["ddp", "fsdp2"], ["ddp_4", "fsdp2_4"]))
def test_the_same_processes_go_on_bit_for_bit(name: str, reference: dict[str, Tensor], together: Together) -> None:
    engine, results = ENGINES[name], together(name)
    for format in formats(engine):
        straight = results[f"{format}/straight"]
        assert_follows(straight, reference["long"], engine, "other_world")
        for case in resumed(format):
            assert_follows(results[case], straight["trajectory"], engine, "same_world")
            assert len(results[case]["trajectory"]) == SAVING["max_steps"] - int(case.rpartition("_")[2])


# Where checkpoints come from, and on how many processes they are taken up again.
MOVES = {
    "ddp_to_1": ("ddp", "one"), "fsdp2_to_1": ("fsdp2", "fsdp2_1"),
    "ddp_to_4": ("ddp", "ddp_4"), "ddp_from_4": ("ddp_4", "ddp"),
    "fsdp2_to_4": ("fsdp2", "fsdp2_4"), "fsdp2_from_4": ("fsdp2_4", "fsdp2"),
}  # fmt: skip


@pytest.mark.parametrize("name", fast_and_slow(list(MOVES)[:2], list(MOVES)[2:]))
def test_other_processes_go_on_within_rounding(name: str, together: Together) -> None:
    engine, other = (ENGINES[name] for name in MOVES[name])
    results = together(MOVES[name][0])
    cases: dict[str, Any] = {}
    for format in formats(engine):
        lost, without = f"lost_{format}/checkpoint-12", shutil.ignore_patterns(FORMATS[format])
        shutil.copytree(results["folder"] / format / "checkpoint-12", lost, ignore=without)
        control = {**resumed(format)[f"{format}/from_12"], "resume": lost}
        cases |= {**resumed(format), f"{format}/lost_12": control}
        Path(format).symlink_to(results["folder"] / format)
    elsewhere = train(other.launcher, cases, Path.cwd())
    for case in cases:
        straight = results[f"{case.partition('/')[0]}/straight"]["trajectory"]
        warned = "resumes at step 12, but the checkpoint has no optimizer state" in str(elsewhere[case]["warnings"])
        assert warned == ("lost" in case)
        if "lost" in case:
            assert residual(elsewhere[case], straight)[0] > CONTROL
        else:
            assert_follows(elsewhere[case], straight, other, "other_world")
