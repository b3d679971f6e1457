"""Measure what an optimizer costs.

    python scripts/benchmark.py step                                       # BERT-base and LoRA shapes
    python scripts/benchmark.py step --shapes decoder-1b --device cuda --json runs/step.json
    python scripts/benchmark.py host                                       # Python's share, many tiny tensors
    python scripts/benchmark.py sharded --processes 2                      # DTensor parameters; benchmark_sharded.py

`step` prints, for RAdam of this and other packages and for AdamW:

- The time of one `step()`: the median over rounds, and the fastest and slowest round. In every round each optimizer has
  its turn, so that a drift of the machine hits all alike.
- Its extra peak memory: temporary tensors only, without parameters, gradients and state. On CUDA this is the peak of
  the caching allocator, on a CPU that of all allocations and frees that the PyTorch profiler records. The resident size
  would not do: malloc keeps the memory of small tensors and hands it out again.
- The bytes of its state a parameter.
- The share of a copy's speed: a step in float32 has to read p, g, m, v and write p, m, v; a copy is one read and one
  write. CPUs reach more than 100 %: to write where they have just read is faster than to write elsewhere.

All take rectified steps on the same parameters and fixed random gradients, without weight decay, for which
implementations that are not fused would pay extra.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import benchmark_host
import benchmark_sharded
import torch
from contenders import CONTENDERS, KERNELS, SHAPES, WARM_UP, Contender
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hf_radam.experiments.environment import cpu_name, environment
from hf_radam.experiments.schema import UserError
from hf_radam.files import write_whole
from hf_radam.fit import state_bytes_per_parameter

SMALLEST_COPY = 256_000_000  # bytes; less might stay in a cache


def measure(
    shapes: str, contenders: list[Contender], device: torch.device, dtype: torch.dtype, steps: int, rounds: int
) -> dict[str, Any]:
    """Measure the contenders, the first of which is the baseline; returns what `table` takes, fit for JSON."""
    generator = torch.Generator(device).manual_seed(0)

    def random_tensors() -> list[Tensor]:
        return [torch.randn(shape, generator=generator, device=device, dtype=dtype) for shape in SHAPES[shapes]]

    params, gradients = random_tensors(), random_tensors()
    grads = [gradient.clone() for gradient in gradients]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    size = sum(p.nbytes for p in params)
    # Ones, since zeros may be memory that nobody has touched, which is read faster.
    source, target = torch.ones(2, max(size, SMALLEST_COPY) // dtype.itemsize, device=device, dtype=dtype)

    optimizers = {contender.name: contender.build(params) for contender in contenders}
    extra: dict[str, int] = {}
    for name, optimizer in optimizers.items():
        for _ in range(WARM_UP):
            optimizer.step()
        extra[name] = extra_memory(optimizer.step, device)

    copies: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(rounds):
        copies.append(seconds_per_call(lambda: target.copy_(source), steps, device))
        for name, optimizer in optimizers.items():
            torch._foreach_copy_(grads, gradients)  # schedulefree overwrites gradients
            times[name].append(seconds_per_call(optimizer.step, steps, device))

    seconds = {name: statistics.median(of_rounds) for name, of_rounds in times.items()}
    copy_speed = 2 * source.nbytes / statistics.median(copies)
    rows = [
        {
            "optimizer": name,
            "seconds": seconds[name],
            "seconds_of_rounds": times[name],
            "ratio": seconds[name] / seconds[contenders[0].name],
            **of_plain(name, times),
            "extra_bytes": extra[name],
            "extra_ratio": extra[name] / size,
            "state_bytes": state_bytes_per_parameter(optimizer),
            "share_of_copy": 7 * size / seconds[name] / copy_speed,
        }
        for name, optimizer in optimizers.items()
    ]
    return {
        "shapes": shapes,
        "tensors": len(params),
        "parameters": sum(p.numel() for p in params),
        "dtype": str(dtype).removeprefix("torch."),
        "device": device.type,
        "steps": steps,
        "rounds": rounds,
        "copy_bytes_per_second": copy_speed,
        "rows": rows,
    }


def of_plain(name: str, times: Mapping[str, list[float]]) -> dict[str, float]:
    """Of a rectified class its time by that of the plain one, round by round, the median."""
    plain = name.removeprefix("rectified ")
    if plain == name or plain not in times:
        return {}
    ratios = [ours / theirs for ours, theirs in zip(times[name], times[plain], strict=True)]
    return {"of_plain": statistics.median(ratios)}


def seconds_per_call(call: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean time of a call; one before, not timed, bears what the predecessor left in the caches."""
    call()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(times):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / times


def extra_memory(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes that a call holds at once, beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def table(benchmark: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What was found, as Markdown: a line that says what was measured on what, and the table."""
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    lines = [
        f"{_intro(benchmark, facts)}; {versions}; median (range) of rounds x steps: {benchmark['rounds']} x "
        f"{benchmark['steps']}",
        "",
    ]
    rows = benchmark["rows"]
    columns = {
        "optimizer": [row["optimizer"] for row in rows],
        "ms a step": [_milliseconds(row) for row in rows],
        "vs fused AdamW": [f"{row['ratio']:.2f}x" for row in rows],
    }
    if "shapes" in benchmark:
        columns |= {
            "of the plain class": [f"{row['of_plain']:.2f}x" if "of_plain" in row else "" for row in rows],
            "extra peak memory": [f"{row['extra_bytes'] / 1e6:.1f} MB" for row in rows],
            "of the parameters": [f"{row['extra_ratio']:.2f}x" for row in rows],
            "state, bytes a parameter": [f"{row['state_bytes']:.2f}" for row in rows],
        }
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    lines += [f"| {' | '.join(columns)} |", "|---" + (len(columns) - 1) * "|--:" + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def _intro(benchmark: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What was measured on what."""
    if "shapes" in benchmark:
        return (
            f"{benchmark['shapes']}: {benchmark['parameters'] / 1e6:.1f} M parameters in {benchmark['tensors']} "
            f"tensors, {benchmark['dtype']}; {benchmark['device']}: {facts['hardware']}, threads: {facts['threads']}"
        )
    intro = benchmark_host.intro if "host" in benchmark else benchmark_sharded.intro
    return f"{intro(benchmark)}: {facts['hardware']}"


def _milliseconds(row: Mapping[str, Any]) -> str:
    times = (row["seconds"], min(row["seconds_of_rounds"]), max(row["seconds_of_rounds"]))
    middle, least, most = (f"{1e3 * s:.0f}" if s > 0.1 else f"{1e3 * s:.3g}" for s in times)
    return f"{middle} ({least} to {most})"


def step(options: argparse.Namespace) -> None:
    """The subcommand `step`."""
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda needs a GPU, and PyTorch sees none; use --device cpu")
    if device.type == "cpu" and "decoder-1b" in options.shapes:
        raise UserError("--shapes decoder-1b needs the memory of a large GPU (--device cuda); use bert-base on a CPU")
    if options.threads:
        torch.set_num_threads(options.threads)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler reports its stages

    asked = KERNELS if options.kernels else CONTENDERS
    if device.type != "cpu":
        asked = [contender for contender in asked if not contender.on_host]
    contenders = [contender for contender in asked if find_spec(contender.module.split(".")[0])]
    if missing := dict.fromkeys(contender.package for contender in asked if contender not in contenders):
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
    facts = facts_of(device.type, [contender.package for contender in contenders])

    benchmarks: list[dict[str, Any]] = []
    dtype = getattr(torch, options.dtype)
    for shapes in options.shapes:
        benchmarks.append(measure(shapes, contenders, device, dtype, options.steps, options.rounds))
        print(table(benchmarks[-1], facts), flush=True)
    write(options.json, facts, benchmarks)


def facts_of(device: str, packages: Iterable[str], processes: int = 1) -> dict[str, Any]:
    """What was measured on."""
    facts = environment(processes)
    facts["hardware"] = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    facts["versions"] = {package: metadata.version(package) for package in packages}
    return facts


def show(benchmarks: list[dict[str, Any]], path: Path | None) -> None:
    """Print and keep what `sharded` or `host` has found: nothing in the processes of `sharded` but the first."""
    if not benchmarks:
        return
    first = benchmarks[0]
    facts = facts_of(first.get("device", "cpu"), benchmark_sharded.PACKAGES, first.get("processes", 1))
    for measured in benchmarks:
        print(table(measured, facts), flush=True)
    write(path, facts, benchmarks)


def write(path: Path | None, facts: Mapping[str, Any], benchmarks: list[dict[str, Any]]) -> None:
    """Keep the numbers, if a file was asked for."""
    if path is None:
        return
    try:
        write_whole(path, json.dumps({"environment": facts, "benchmarks": benchmarks}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; the tables above are complete") from error


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the message without the usage, and exit with 2."""
        self.exit(2, f"error: {message}\n")


def positive(text: str) -> int:
    """A count, as an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text}")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(description="Measure what an optimizer costs.")
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("step", help="time and memory of one step, side by side")
    command.set_defaults(run=step)
    add = command.add_argument
    add("--shapes", nargs="+", choices=SHAPES, default=["bert-base", "lora"], help="of the parameters")
    add("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", choices=["float32", "bfloat16"], default="float32")
    add("--steps", type=positive, default=5, help="timed steps of an optimizer in a round")
    add("--rounds", type=positive, default=7, help="times that each optimizer has its turn")
    add(
        "--kernels",
        action="store_true",
        help="AdamWs of other libraries and their RAdams; torchao compiles for minutes",
    )
    add("--threads", type=positive, help="on a CPU; PyTorch's choice if not given")
    add("--json", type=Path, help="file for the same numbers")
    command = commands.add_parser("sharded", help="time of one step of sharded parameters")
    command.set_defaults(run=lambda options: show(benchmark_sharded.sharded(options), options.json))
    add = command.add_argument
    add("--processes", type=positive, default=2)
    add("--tensors", type=positive, default=200, help="parameters")
    add("--steps", type=positive, default=10, help="timed steps of an optimizer in a round")
    add("--rounds", type=positive, default=7, help="times that each optimizer has its turn")
    add("--json", type=Path, help="file for the same numbers")
    command = commands.add_parser("host", help="CPU time of a step of many tiny tensors: a GPU's host")
    command.set_defaults(run=lambda options: show(benchmark_host.host(options), options.json))
    add = command.add_argument
    add("--tensors", nargs="+", type=positive, default=[200, 500, 2000], help="parameters")
    add("--rounds", type=positive, default=25, help="times that each optimizer has its turn")
    add("--json", type=Path, help="file for the same numbers")
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (UserError, torch.OutOfMemoryError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
