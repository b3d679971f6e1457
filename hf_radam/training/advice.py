"""What RAdam's start-up costs a training. Floats only, so that the command line is quick."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

from hf_radam.errors import UserError
from hf_radam.rectification import rectification

HALF = 0.5
# The advice is the largest of these beta2 that reaches this share.
ENOUGH = 2 / 3
BETA2S = (0.999, 0.995, 0.99, 0.98, 0.95, 0.9)
# About as many updates are computed; in a longer training every second, every third, ...
SAMPLE = 20_000

# Share of the peak learning rate after `done`, a share of the training; named as in Transformers.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "constant": lambda done: 1.0,
}


class Advice(NamedTuple):
    """What RAdam's start-up costs a training."""

    share: float
    """The part of Adam's learning rate, summed over all updates, that RAdam uses."""
    text: str
    """The same in a sentence or two, with what to do about it."""


def advise(max_steps: int, beta2: float, factor: Callable[[int], float]) -> Advice:
    """What RAdam's start-up costs a training.

    The share is RAdam's learning rate over Adam's, each summed over all updates. RAdam's is r_t times Adam's, and 0 in
    start-up (its SGD steps have another scale).

    Args:
        max_steps: number of updates, at least 1.
        beta2: in [0, 1).
        factor: the schedule, from the update, counted from 0, to the factor of the rate.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> print(advise(250, 0.999, lambda update: 1 - update / 250).text.split(". ")[0])
        RAdam with beta2=0.999 uses 18% of the learning rate that Adam would use over these 250 updates; beta2=0.98 would use 67%
    """  # noqa: E501
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    share = share_of_adam(max_steps, beta2, factor)
    said = f"RAdam with beta2={beta2:g} uses {share:.0%} of the learning rate that Adam would use over these "
    said += f"{max_steps:,} updates"
    smaller = ((other, share_of_adam(max_steps, other, factor)) for other in BETA2S if other < beta2)
    better = next((found for found in smaller if found[1] >= ENOUGH), None) if share < ENOUGH else None
    if better:
        said += "; beta2={:g} would use {:.0%}".format(*better)
    if share < HALF and beta2 <= 2 / 3:
        said += ", because it never rectifies. Take a beta2 above 2/3"
    elif share < HALF:
        remedies = ["a higher learning rate", "more updates", "or an Adam with warmup instead of RAdam"]
        said += f". Consider {', '.join(['a smaller beta2'] * bool(better) + remedies)}"
    return Advice(share, said)


def share_of_adam(max_steps: int, beta2: float, factor: Callable[[int], float]) -> float:
    """The sum of learning rate times r_t over the sum of the learning rate; 1 if the latter is 0."""
    updates = range(0, max_steps, math.ceil(max_steps / SAMPLE))
    rates = [factor(update) for update in updates]
    used = sum(rate * (rectification(update + 1, beta2) or 0.0) for update, rate in zip(updates, rates, strict=True))
    return used / sum(rates) if sum(rates) else 1.0


def plot(max_steps: int, beta2: float, width: int = 60, height: int = 8) -> str:
    """The curve of r_t as text, for a terminal.

    Example:
        >>> plot(100, 0.99, width=20, height=3).splitlines()[-1].split()
        ['1', '100']
    """
    steps = sorted({max(1, round(max_steps * i / (width - 1))) for i in range(width)})
    bars = [rectification(step, beta2) or 0.0 for step in steps]
    rows = [
        f"{row / height:4.2f} " + "".join("█" if bar > (row - 0.5) / height else " " for bar in bars).rstrip()
        for row in range(height, 0, -1)
    ]
    last = f"{max_steps:,}"
    return "\n".join([*rows, " " * 5 + "1" + last.rjust(len(bars) - 1)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    parser.epilog = "example:\n  hf-radam advise --max_steps 250 --adam_beta2 0.999 --lr_scheduler_type cosine"
    add = parser.add_argument
    add("--max_steps", type=int, required=True, metavar="N", help="number of updates")
    add("--adam_beta2", type=float, default=0.999, metavar="B", help="0.999 if not given")
    add("--lr_scheduler_type", choices=SCHEDULES, default="linear", metavar="S", help="linear, cosine or constant")
    add("--warmup_steps", type=float, default=0.0, metavar="N", help="updates, or a share below 1; 0 if not given")


def run(options: argparse.Namespace) -> int:
    """`hf-radam advise`: print the advice and the curve of r_t; returns the exit code."""
    max_steps, decay = options.max_steps, SCHEDULES[options.lr_scheduler_type]
    if not math.isfinite(options.warmup_steps):
        raise UserError(f"--warmup_steps must be a finite number, got {options.warmup_steps}")
    warmup = math.ceil(options.warmup_steps * (max_steps if options.warmup_steps < 1 else 1))

    def factor(update: int) -> float:
        return update / warmup if update < warmup else decay((update - warmup) / max(1, max_steps - warmup))

    try:
        print(advise(max_steps, options.adam_beta2, factor).text + ".")
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f"\nr_t, the part of the learning rate that update t uses:\n{plot(max_steps, options.adam_beta2)}")
    return 0
