"""Simulate the variance of Adam's adaptive learning rate and compare it with the formulas; draw it, and r_t.

    python scripts/variance.py --output_dir docs/variance

Figures 8 and 9 of arXiv 1908.03265, and r_t for the betas of the annotated implementation of labml.ai.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from hf_radam.experiments.environment import cpu_name
from hf_radam.experiments.report.drawing import Chart, colored, layer, level, number, save, scale
from hf_radam.experiments.report.palette import DARK, LIGHT, shades
from hf_radam.files import write_whole
from hf_radam.rectification import rectification, rho, variance_exact, variance_first_order

BETAS = (0.9999, 0.999, 0.99, 0.9, 0.8, 0.6, 0.5)
MEANS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)
# The variance of what has a heavier tail cannot be estimated: below rho_t = 5 the estimate does not converge.
FIRST_STEP = 5
_CHUNK = 5_000  # paths that are advanced together; they fit in a core's cache


def recorded_steps(last: int, count: int = 120) -> list[int]:
    """Steps from 5 on, evenly spaced on a logarithmic axis.

    Example:
        >>> recorded_steps(8)
        [5, 6, 7, 8]
    """
    return sorted({round(step) for step in np.geomspace(FIRST_STEP, last, count)})


def simulate(
    steps: Sequence[int], means: Sequence[float] = MEANS, beta2: float = 0.999, paths: int = 100_000, seed: int = 0
) -> np.ndarray:
    """Var[psi_t] with psi_t = 1 / sqrt(v_hat_t), for gradients drawn from N(mean, 1).

    All means share the draws. The same seed gives the same numbers on any number of cores.

    Args:
        steps: t, increasing, each >= 1.
        means: mu.
        beta2: decay of the second moment, in (0, 1).
        paths: independent trajectories, rounded up to a multiple of 5,000.
        seed: of the draws.

    Returns:
        Variances, shape (means, steps).
    """
    seeds = np.random.SeedSequence(seed).spawn(-(-paths // _CHUNK))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets go of the interpreter while it draws and computes
        chunks = pool.map(lambda child: _chunk(np.random.default_rng(child), steps, means, beta2), seeds)
        mean, variance = np.array(list(tqdm(chunks, total=len(seeds), desc=f"{_CHUNK:,} paths each"))).swapaxes(0, 1)
    return variance.mean(0) + mean.var(0)  # within the chunks and between them


def _chunk(
    rng: np.random.Generator, steps: Sequence[int], means: Sequence[float], beta2: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of psi over some paths, each of shape (means, steps)."""
    shift = np.array(means, dtype=np.float32)[:, None]
    v = np.zeros((len(means), _CHUNK), dtype=np.float32)
    mean, variance = np.empty((2, len(means), len(steps)))
    for step in range(1, max(steps) + 1):
        gradient = rng.standard_normal(_CHUNK, dtype=np.float32) + shift
        v = np.float32(beta2) * v + np.float32(1 - beta2) * gradient**2
        if step in steps:
            psi = np.sqrt((1 - beta2**step) / v.astype(np.float64))
            mean[:, steps.index(step)], variance[:, steps.index(step)] = psi.mean(1), psi.var(1)
    return mean, variance


def study(last: int = 6_000, beta2: float = 0.999, paths: int = 100_000, seed: int = 0) -> dict[str, Any]:
    """Simulate, and set the formulas beside it.

    Returns:
        What `docs/variance/variance.json` holds: the settings, `step`, `exact` and `first_order` (one number a
        step), `simulated` (a list for each mean) and `agreement`.
    """
    steps = recorded_steps(last)
    simulated = simulate(steps, MEANS, beta2, paths, seed)
    formulas = {"exact": variance_exact, "first_order": variance_first_order}
    found = {name: [formula(rho(step, beta2)) for step in steps] for name, formula in formulas.items()}
    ratio = float(np.median(simulated[MEANS.index(1.0)] / simulated[0]))
    near = {name: agreement(steps, values, simulated[0]) for name, values in found.items()}
    return {
        "beta2": beta2,
        "paths": paths,
        "seed": seed,
        "mean": list(MEANS),
        "step": steps,
        **found,
        "simulated": simulated.tolist(),
        "agreement": {**near, "variance_of_mean_1": ratio},
    }


def agreement(
    steps: Sequence[int], formula: Sequence[float], simulated: Sequence[float] | np.ndarray
) -> dict[str, Any]:
    """How near a formula is to the simulation with mean 0.

    Returns:
        `largest`: the largest relative difference, and `at`, its step; `within`: for 5, 12 and 20 % the longest run of
        recorded steps over which it stays within, as (first, last), or None.

    Example:
        >>> agreement([5, 6, 7], [2.0, 1.04, 1.0], [1.0, 1.0, 1.0])["within"]["5 %"]
        (6, 7)
    """
    difference = np.abs(np.array(formula) / np.array(simulated) - 1)
    return {
        "largest": float(difference.max()),
        "at": steps[int(difference.argmax())],
        "within": {f"{share} %": _longest(steps, difference <= share / 100) for share in (5, 12, 20)},
    }


def _longest(steps: Sequence[int], good: np.ndarray) -> tuple[int, int] | None:
    borders = np.flatnonzero(np.diff([0, *good.astype(int), 0]))  # where a run begins, and one past its end
    runs = list(zip(borders[::2], borders[1::2] - 1, strict=True))
    if not runs:
        return None
    first, last = max(runs, key=lambda run: run[1] - run[0])
    return steps[first], steps[last]


def variance_chart(found: Mapping[str, Any]) -> Chart:
    """Simulated variance for each mean of the gradients with both formulas, and the formulas' error.

    Args:
        found: what `study` returns.
    """
    formulas, simulated = {"exact formula": "exact", "first order": "first_order"}, np.array(found["simulated"])
    means = [f"simulated, mean {mean:g}" for mean in found["mean"]]
    dots = _long(found["step"], dict(zip(means, simulated, strict=True)))
    lines = _long(found["step"], {name: found[key] for name, key in formulas.items()})
    errors = _long(found["step"], {name: np.array(found[key]) / simulated[0] for name, key in formulas.items()})
    x = {**number("step", **scale(found["step"], True)), "title": "step"}
    color, mark = colored([*means, *formulas], "name"), {"type": "line", "strokeWidth": 2, "clip": True}
    y, legend = number("value", **scale(dots.value, True)), {**color, "legend": {"orient": "bottom", "columns": 2}}
    ratio = number("value", scale={"domain": [0.7, 1.5]})
    panels = [
        {
            "title": f"Variance of 1 / sqrt(v̂), beta2 = {found['beta2']:g}",
            "height": 260,
            "layer": [
                layer(dots, {"type": "point", "filled": True, "size": 12, "opacity": 1}, x=x, y=y, color=legend),
                layer(lines, mark, x=x, y=y, color=legend),
            ],
        },
        {
            "title": "Formula / simulation, mean 0",
            "height": 260,
            "layer": [layer(errors, mark, x=x, y=ratio, color=color), *level("equal", 1)],
        },
    ]
    hues = {
        theme.name: {
            **dict(zip(means, shades(theme.hues["warmup"], len(means), theme), strict=True)),
            "exact formula": theme.hues["radam"], "first order": theme.hues["adam"],
        }
        for theme in (LIGHT, DARK)
    }  # fmt: skip
    title = "Variance of the adaptive learning rate: two formulas and a simulation"
    return Chart(name="variance", title=title, message=title, panels=panels, colors=hues)


def rectification_chart(betas: Sequence[float], last: int) -> Chart:
    """r_t against t for each beta2; nothing is drawn where RAdam does not rectify."""
    steps = np.unique(np.geomspace(1, last, 400).round().astype(int))
    terms = {beta2: [rectification(int(step), beta2) for step in steps] for beta2 in betas}
    named = {f"beta2 = {b:g}{'' if any(of) else ': never rectified'}": of for b, of in terms.items()}
    color = {**colored(list(named), "name"), "legend": {"orient": "bottom", "columns": 3}}
    x = {**number("step", **scale([1, last], True, most=6)), "title": "step"}
    y, mark = number("value", scale={"domain": [0, 1.02]}), {"type": "line", "strokeWidth": 2}
    panel = {"height": 260, "layer": [layer(_long(steps, named), mark, x=x, y=y, color=color)]}
    hues = {t.name: dict(zip(named, shades(t.hues["warmup"], len(named), t), strict=True)) for t in (LIGHT, DARK)}
    title = "Rectification r_t"
    return Chart(name="rectification", title=title, message=title, panels=[panel], colors=hues, columns=1)


def _long(steps: Sequence[int] | np.ndarray, columns: Mapping[str, Any]) -> pd.DataFrame:
    wide = pd.DataFrame(dict(columns), dtype=float).assign(step=steps)
    return wide.melt("step", var_name="name")


def statement(found: dict[str, Any]) -> str:
    """What was found, in Markdown."""
    rows = []
    for label, name in (("exact", "exact"), ("first order", "first_order")):
        near = found["agreement"][name]
        ranges = " | ".join("never" if run is None else "{} to {}".format(*run) for run in near["within"].values())
        rows.append(f"| {label} | {near['largest']:.0%} | {near['at']} | {ranges} |")
    less = 1 - found["agreement"]["variance_of_mean_1"]
    return f"""\
# Variance of the adaptive learning rate

| formula | largest error | at step | within 5 % | within 12 % | within 20 % |
|---|--:|--:|--:|--:|--:|
{rows[0]}
{rows[1]}

- Error: formula / simulation - 1, gradients from N(0, 1), beta2 = {found["beta2"]:g}, {found["paths"]:,} \
trajectories, steps {found["step"][0]} to {found["step"][-1]}. A range is the longest without exception.
- Where the mean of the gradients is as large as their standard deviation, the variance is {less:.0%} lower (median \
over the steps).
- {found["seconds"]} s on {found["environment"]["hardware"]}, numpy {found["environment"]["numpy"]}.

![variance](figures/variance.png)
![rectification](figures/rectification.png)
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/variance"))
    parser.add_argument("--paths", type=int, default=100_000, help="trajectories; the paper has 5,000")
    parser.add_argument("--steps", type=int, default=6_000)
    options = parser.parse_args(argv)
    if options.paths < 1 or options.steps < FIRST_STEP:
        print(f"error: --paths must be >= 1 and --steps >= {FIRST_STEP}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    found = study(last=options.steps, paths=options.paths)
    found["seconds"] = round(time.perf_counter() - started, 1)
    found["environment"] = {"numpy": np.__version__, "hardware": cpu_name()}
    folder = options.output_dir
    write_whole(folder / "variance.json", json.dumps(found) + "\n")
    for chart in (variance_chart(found), rectification_chart(BETAS, 100_000)):
        save(chart, folder / "figures")
    write_whole(folder / "table.md", statement(found))
    print(folder / "table.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
