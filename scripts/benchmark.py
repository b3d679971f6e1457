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

All take rectified steps on the same parameters and fixed random gradients, without weight decay, for which
implementations that are not fused would pay extra.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from benchmark_host import host
from benchmark_sharded import COLUMNS, ROWS, sharded
from contenders import CONTENDERS, KERNELS, SHAPES, WARM_UP, Contender, mean_time, median_ratio, race, rows_of
from torch.profiler import ProfilerActivity, profile

from hf_radam.errors import UserError
from hf_radam.experiments.environment import cpu_name, environment
from hf_radam.files import write_whole
from hf_radam.fit import state_bytes_per_parameter


def step(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The subcommand `step`."""
    device = torch.device(options.device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler reports its stages

    asked = [one for one in (KERNELS if options.kernels else CONTENDERS) if device.type == "cpu" or not one.on_host]
    contenders = [contender for contender in asked if find_spec(contender.module.split(".")[0])]
    if missing := dict.fromkeys(contender.package for contender in asked if contender not in contenders):
        print(f"not installed: {', '.join(missing)}", file=sys.stderr)
    for shapes in options.shapes:
        yield measure(shapes, contenders, device, getattr(torch, options.dtype), options.steps, options.rounds)


def measure(
    shapes: str, contenders: list[Contender], device: torch.device, dtype: torch.dtype, steps: int, rounds: int
) -> dict[str, Any]:
    """Measure the contenders, the first of which is the baseline; returns what `table` takes, fit for JSON."""
    generator = torch.Generator(device).manual_seed(0)
    params, gradients = (
        [torch.randn(shape, generator=generator, device=device, dtype=dtype) for shape in SHAPES[shapes]]
        for _ in range(2)
    )
    grads = [gradient.clone() for gradient in gradients]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    size, extra = sum(p.nbytes for p in params), {}
    optimizers = {contender.name: contender.build(params) for contender in contenders}
    for name, optimizer in optimizers.items():
        for _ in range(WARM_UP):
            optimizer.step()
        extra[name] = extra_memory(optimizer.step, device)

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def seconds(call: Callable[[], object]) -> float:
        torch._foreach_copy_(grads, gradients)  # schedulefree overwrites gradients
        mean_time(call, 1, wait)  # bears what the predecessor left in the caches
        return mean_time(call, steps, wait)

    times = race({name: optimizer.step for name, optimizer in optimizers.items()}, rounds, seconds)
    rows = rows_of(times)
    for row in rows:
        name = row["optimizer"]
        plain = name.removeprefix("rectified ")
        if plain != name and plain in times:
            row["of_plain"] = median_ratio(times[name], times[plain])
        row |= {"extra_bytes": extra[name], "extra_ratio": extra[name] / size}
        row["state_bytes"] = state_bytes_per_parameter(optimizers[name])
    about = {"shapes": shapes, "tensors": len(params), "parameters": sum(p.numel() for p in params)}
    about |= {"dtype": str(dtype).removeprefix("torch."), "device": device.type, "steps": steps, "rounds": rounds}
    return {**about, "rows": rows}


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


def table(benchmark: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What was found, as Markdown: a line that says what was measured on what, and the table."""
    rows, hardware = benchmark["rows"], f": {facts['hardware']}"
    columns = {
        "optimizer": [row["optimizer"] for row in rows],
        "ms a step": [_milliseconds(row) for row in rows],
        "vs fused AdamW": [f"{row['ratio']:.2f}x" for row in rows],
    }
    if "shapes" in benchmark:
        about = (
            f"{benchmark['shapes']}: {benchmark['parameters'] / 1e6:.1f} M parameters in {benchmark['tensors']} "
            f"tensors, {benchmark['dtype']}; {benchmark['device']}{hardware}, threads: {facts['threads']}"
        )
        columns |= {
            "of the plain class": [f"{row['of_plain']:.2f}x" if "of_plain" in row else "" for row in rows],
            "extra peak memory": [f"{row['extra_bytes'] / 1e6:.1f} MB" for row in rows],
            "of the parameters": [f"{row['extra_ratio']:.2f}x" for row in rows],
            "state, bytes a parameter": [f"{row['state_bytes']:.2f}" for row in rows],
        }
    elif "host" in benchmark:
        about = (
            f"{benchmark['tensors']} parameters of one element, CPU time of one thread; RAdam against AdamW with its "
            f"step counts in one call, rectified AdamW against AdamW as it is{hardware}"
        )
    else:
        size = f"{ROWS} x {COLUMNS}, float32, on {benchmark['processes']} processes"
        about = f"{benchmark['tensors']} DTensor parameters of {size}; {benchmark['device']}{hardware}"
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    lines = [
        f"{about}; {versions}; median (range) of rounds x steps: {benchmark['rounds']} x {benchmark['steps']}",
        "",
        f"| {' | '.join(columns)} |",
        "|---" + (len(columns) - 1) * "|--:" + "|",
        *(f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)),
    ]
    return "\n".join(lines) + "\n"


def _milliseconds(row: Mapping[str, Any]) -> str:
    times = (row["seconds"], min(row["seconds_of_rounds"]), max(row["seconds_of_rounds"]))
    middle, least, most = (f"{1e3 * s:.0f}" if s > 0.1 else f"{1e3 * s:.3g}" for s in times)
    return f"{middle} ({least} to {most})"


def facts_of(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured on."""
    packages = {contender.name: contender.package for contender in (*CONTENDERS, *KERNELS)}
    used = dict.fromkeys(packages[row["optimizer"]] for row in benchmark["rows"] if row["optimizer"] in packages)
    on_gpu = benchmark.get("device") == "cuda"
    return {
        **environment(benchmark.get("processes", 1)),
        "hardware": torch.cuda.get_device_name() if on_gpu else cpu_name(),
        "versions": {package: metadata.version(package) for package in used},
    }


def counted(text: str) -> int:
    """A number of rounds, steps, processes or tensors."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {number}; leave it out for the default")
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Measure what an optimizer costs.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, measured: Callable[..., Any], text: str, rounds: int) -> Callable[..., Any]:
        made = commands.add_parser(name, help=text)
        made.set_defaults(measured=measured)
        made.add_argument("--rounds", type=counted, default=rounds, help="times that each optimizer has its turn")
        made.add_argument("--json", type=Path, help="file for the same numbers")
        return made.add_argument

    devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    add = command("step", step, "time and memory of one step, side by side", 7)
    add("--shapes", nargs="+", choices=SHAPES, default=["bert-base", "lora"], help="decoder-1b takes a large GPU")
    add("--device", choices=devices, default=devices[0])
    add("--dtype", choices=["float32", "bfloat16"], default="float32")
    add("--steps", type=counted, default=5, help="timed steps of an optimizer in a round")
    add("--kernels", action="store_true", help="AdamWs of other libraries and their RAdams; torchao compiles long")
    add = command("sharded", sharded, "time of one step of sharded parameters", 7)
    add("--processes", type=counted, default=2)
    add("--tensors", type=counted, default=200, help="parameters")
    add("--steps", type=counted, default=10, help="timed steps of an optimizer in a round")
    add = command("host", host, "CPU time of a step of many tiny tensors: a GPU's host", 25)
    add("--tensors", nargs="+", type=counted, default=[200, 500, 2000], help="parameters")
    options, found, facts = parser.parse_args(argv), [], {}
    try:
        for benchmark in options.measured(options):
            facts = facts or facts_of(benchmark)
            found.append(benchmark)
            print(table(benchmark, facts), flush=True)
    except (UserError, torch.OutOfMemoryError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    if options.json and found:  # nothing in the processes of `sharded` but the first
        write_whole(options.json, json.dumps({"environment": facts, "benchmarks": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
