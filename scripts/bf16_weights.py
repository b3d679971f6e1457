"""Measure how many bf16 weights a small learning rate moves, and whether they go where float32 goes; draw it.

    python scripts/bf16_weights.py --output_dir docs/bf16_weights

Rounding to the nearest loses steps that are smaller than half of the distance to the next number. Stochastic rounding
(torchao) takes them with the right probability, and Kahan sums (torch-optimi) keep what was lost beside the weight.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from hf_radam.experiments.environment import cpu_name
from hf_radam.experiments.report.drawing import DARK, LIGHT, Chart, colored, layer, named_ends, number, save, scale
from hf_radam.files import write_whole
from hf_radam.registry import get_optimizer

SHAPE, RATE, BETAS, STEPS = (64, 64), 1e-4, (0.9, 0.999), 2000
SIGNAL = 0.1  # how much the means of the gradients differ between weights; their standard deviation is 1


class Contender(NamedTuple):
    """A RAdam for bf16 weights."""

    optimizer: str
    options: Mapping[str, Any]
    package: str
    rounding: str
    hue: str | None
    """In the figure, which leaves out what is the same line as another."""

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.optimizer} ({self.rounding})"


CONTENDERS = (
    Contender("radam", {}, "torch", "to the nearest", "adam"),
    Contender("radam_torch_8bit", {}, "torchao", "to the nearest", None),
    Contender("radam_kahan", {}, "torch-optimi", "Kahan sums", "radam"),
    Contender("radam_torch_8bit", {"bf16_stochastic_round": True}, "torchao", "stochastic", "untuned"),
)


def follow(contender: Contender, steps: list[int]) -> dict[str, list[float]]:
    """Train 4,096 normal weights on noisy gradients, in bf16 and, by class RAdam, in float32.

    Args:
        contender: what steps the bf16 weights.
        steps: when to look, ascending.

    Returns:
        For each of the steps `moved`, the share of weights that differ from their start, and `distance` of the weights
        from float32's, relative to the way that those have gone.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # of the stochastic rounding
    start = torch.randn(SHAPE, generator=generator).bfloat16()
    means = SIGNAL * torch.randn(SHAPE, generator=generator)
    params = [torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.float())]
    optimizers: list[Any] = [
        get_optimizer(contender.optimizer)(params[:1], lr=RATE, betas=BETAS, **contender.options),
        get_optimizer("radam")(params[1:], lr=RATE, betas=BETAS),
    ]
    found: dict[str, list[float]] = {"moved": [], "distance": []}
    for step in range(1, steps[-1] + 1):
        gradient = (means + torch.randn(SHAPE, generator=generator)).bfloat16()
        for p, optimizer in zip(params, optimizers, strict=True):
            p.grad = gradient.to(p.dtype, copy=True)  # which torch-optimi overwrites
            optimizer.step()
        if step in steps:
            ours, exact = (p.detach().float() - start.float() for p in params)
            found["moved"].append((ours != 0).float().mean().item())
            found["distance"].append(((ours - exact).norm() / exact.norm()).item())
    return found


def measure() -> dict[str, Any]:
    """What `bf16_weights.json` holds."""
    steps = sorted({round(step) for step in np.geomspace(10, STEPS, 40)})
    versions = {contender.package: metadata.version(contender.package) for contender in CONTENDERS}
    return {
        "environment": {"hardware": cpu_name(), "versions": versions},
        "learning_rate": RATE,
        "signal": SIGNAL,
        "weights": SHAPE[0] * SHAPE[1],
        "step": steps,
        "rows": [{"optimizer": contender.name, **follow(contender, steps)} for contender in CONTENDERS],
    }


def table(found: Mapping[str, Any]) -> str:
    """The last step, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["environment"]["versions"].items())
    lines = [
        f"{found['weights']:,} normal weights after {found['step'][-1]:,} steps at lr {found['learning_rate']:g}; "
        f"gradients N(m, 1), where m differs between weights, N(0, {found['signal']:g}²); {versions}:",
        "",
        "| optimizer (rounding) | weights that moved | distance from float32's way |",
        "|---|--:|--:|",
    ]
    lines += [f"| {row['optimizer']} | {row['moved'][-1]:.1%} | {row['distance'][-1]:.2f} |" for row in found["rows"]]
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Any]) -> Chart:
    """Both numbers over the steps."""
    drawn = {contender.name: contender for contender in CONTENDERS if contender.hue}
    shown = {drawn[row["optimizer"]].rounding: row for row in found["rows"] if row["optimizer"] in drawn}
    stays = 1 - shown["to the nearest"]["moved"][-1]
    message = f"At lr {found['learning_rate']:g}, rounding to the nearest leaves {stays:.0%} of bf16 weights unmoved"
    color, panels, height = colored(list(shown), "name"), [], 230
    for title, key in (("Share of weights that have moved", "moved"), ("Distance from float32's way", "distance")):
        wide = pd.DataFrame({name: row[key] for name, row in shown.items()}).assign(step=found["step"])
        points = wide.melt("step", var_name="name")
        x, y = {**number("step", **scale(points.step, True, most=4)), "title": "step"}, scale([0, *points.value], False)
        line = layer(points, {"type": "line", "strokeWidth": 2}, x=x, y=number("value", **y), color=color)
        ends = named_ends(points.groupby("name", sort=False).tail(1), y, height, color)
        panels.append({"title": title, "height": height, "layer": [line, *ends]})
    hues = {t.name: {one.rounding: t.hues[str(one.hue)] for one in drawn.values()} for t in (LIGHT, DARK)}
    return Chart(name="bf16_weights", title=message, message=message, panels=panels, colors=hues, names=list(shown))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/bf16_weights"))
    options, found = parser.parse_args(), measure()
    write_whole(options.output_dir / "bf16_weights.json", json.dumps(found) + "\n")
    save(draw(found), options.output_dir / "figures")
    print(table(found))


if __name__ == "__main__":
    main()
