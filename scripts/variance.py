"""Simulate the variance of Adam's adaptive learning rate and compare it with the formulas; draw it, and r_t.

    python scripts/variance.py --output_dir docs/variance

Figures 8 and 9 of arXiv 1908.03265, and r_t for the betas of the annotated implementation of labml.ai.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from hf_radam.experiments.environment import cpu_name
from hf_radam.experiments.report.drawing import DARK, LIGHT, Chart, Spec, colored, layer, number, save, scale, shades
from hf_radam.files import write_whole
from hf_radam.rectification import rectification, rho


def variance_exact(rho_t: float) -> float:
    """Variance of psi = sqrt(rho / sum g^2) for gradients from N(0, 1), where rho_t > 2 (section 3.2, Theorem 1)."""
    # Log-gammas, because the gamma function overflows from a rho of about 340 on.
    squared_mean = rho_t / 2 * math.exp(2 * (math.lgamma((rho_t - 1) / 2) - math.lgamma(rho_t / 2)))
    return rho_t / (rho_t - 2) - squared_mean


def variance_first_order(rho_t: float) -> float:
    """First-order approximation of `variance_exact`, where rho_t > 4 (section 4.2)."""
    return rho_t / (2 * (rho_t - 2) * (rho_t - 4))


BETA2, BETAS = 0.999, (0.9999, 0.999, 0.99, 0.9, 0.8, 0.6, 0.5)
MEANS = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0)
# Below rho_t = 5 the variance of a simulation does not converge.
FIRST_STEP = 5
FORMULAS = {"exact": ("exact formula", variance_exact), "first_order": ("first order", variance_first_order)}
_CHUNK = 5_000  # paths that are advanced together; they fit in a core's cache


def simulate(steps: Sequence[int], means: Sequence[float] = MEANS, paths: int = 100_000) -> np.ndarray:
    """Var[psi_t] with psi_t = 1 / sqrt(v_hat_t), for gradients drawn from N(mean, 1); all means share the draws.

    Args:
        steps: t, increasing, each >= 1.
        means: mu.
        paths: independent trajectories, rounded up to a multiple of 5,000.

    Returns:
        Variances, shape (means, steps).
    """
    seeds, shift = np.random.SeedSequence(0).spawn(math.ceil(paths / _CHUNK)), np.array(means, np.float32)[:, None]
    mean, variance = np.empty((2, len(seeds), len(means), len(steps)))
    for i, seed in enumerate(tqdm(seeds, desc=f"{_CHUNK:,} paths each")):
        rng, v = np.random.default_rng(seed), np.zeros((len(means), _CHUNK), np.float32)
        for step in range(1, steps[-1] + 1):
            gradient = rng.standard_normal(_CHUNK, dtype=np.float32) + shift
            v = np.float32(BETA2) * v + np.float32(1 - BETA2) * gradient**2
            if step in steps:
                psi, at = np.sqrt((1 - BETA2**step) / v.astype(np.float64)), steps.index(step)
                mean[i, :, at], variance[i, :, at] = psi.mean(1), psi.var(1)
    return variance.mean(0) + mean.var(0)  # within the chunks and between them


def study(last: int, paths: int) -> dict[str, Any]:
    """What `docs/variance/variance.json` holds: settings, and by step the formulas' numbers and the simulated ones."""
    steps = sorted({round(step) for step in np.geomspace(FIRST_STEP, last, 120)})
    started, simulated = time.perf_counter(), simulate(steps, paths=paths)
    found = {name: [formula(rho(step, BETA2)) for step in steps] for name, (_, formula) in FORMULAS.items()}
    return {
        "beta2": BETA2, "paths": paths, "seed": 0, "mean": list(MEANS), "step": steps, **found,
        "simulated": simulated.tolist(), "seconds": round(time.perf_counter() - started, 1),
        "environment": {"numpy": np.__version__, "hardware": cpu_name()},
    }  # fmt: skip


def agree(steps: Sequence[int], formula: Sequence[float], simulated: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """The largest relative difference, its step, and the longest runs of steps within 5, 12 and 20 %, first and last.

    Example:
        >>> agree([5, 6, 7], [2.0, 1.04, 1.0], [1.0, 1.0, 1.0])["within"]["5 %"]
        (6, 7)
    """
    difference, within = np.abs(np.array(formula) / np.array(simulated) - 1), {}
    for share in (5, 12, 20):
        runs = groupby(zip(steps, difference <= share / 100, strict=True), key=itemgetter(1))
        longest = max(([step for step, _ in run] for good, run in runs if good), key=len, default=None)
        within[f"{share} %"] = longest and (longest[0], longest[-1])
    return {"largest": float(difference.max()), "at": steps[int(difference.argmax())], "within": within}


def variance_chart(found: Mapping[str, Any]) -> Chart:
    """Simulated variance for each mean of the gradients, with both formulas."""
    dots = {f"simulated, mean {mean:g}": of for mean, of in zip(found["mean"], found["simulated"], strict=True)}
    lines = {name: found[key] for key, (name, _) in FORMULAS.items()}
    y = scale([value for of in dots.values() for value in of], True)
    return _chart("variance", f"Variance of 1 / sqrt(v̂), beta2 = {found['beta2']:g}", found["step"], y, lines, dots)


def rectification_chart() -> Chart:
    """r_t against t for each beta2; nothing is drawn where RAdam does not rectify."""
    steps = sorted({round(step) for step in np.geomspace(1, 100_000, 400)})
    terms = {beta2: [rectification(step, beta2) for step in steps] for beta2 in BETAS}
    lines = {f"beta2 = {b:g}{'' if any(of) else ': never rectified'}": of for b, of in terms.items()}
    return _chart("rectification", "Rectification r_t", steps, {"scale": {"domain": [0, 1.02]}}, lines, {})


def _chart(
    name: str, title: str, steps: Sequence[int], y: Spec, lines: Mapping[str, Any], dots: Mapping[str, Any]
) -> Chart:
    """Curves over the steps: simulations as dots, in shades of one colour, and formulas as lines."""
    x = {**number("step", **scale(steps, True, most=6)), "title": "step"}
    color = {**colored([*dots, *lines], "name"), "legend": {"orient": "bottom", "columns": 3}}
    layers = []
    for curves, mark in (
        (dots, {"type": "point", "filled": True, "size": 12}),
        (lines, {"type": "line", "clip": True}),
    ):
        points = pd.DataFrame(dict(curves), dtype=float).assign(step=steps).melt("step", var_name="name")
        layers.append(layer(points, {"opacity": 1, **mark}, x=x, y=number("value", **y), color=color))
    shaded, hues = list(dots or lines), {}
    for theme in (LIGHT, DARK):
        hues[theme.name] = dict(zip(shaded, shades(theme.hues["warmup"], len(shaded), theme), strict=True))
        if dots:
            hues[theme.name] |= {"exact formula": theme.hues["radam"], "first order": theme.hues["adam"]}
    panel = {"height": 260, "layer": layers}
    return Chart(name=name, title=title, message=title, panels=[panel], colors=hues)


def statement(found: Mapping[str, Any]) -> str:
    """What was found, in Markdown."""
    rows, simulated = [], np.array(found["simulated"])
    of_mean_1 = np.median(simulated[found["mean"].index(1.0)] / simulated[0])
    for key, (name, _) in FORMULAS.items():
        near = agree(found["step"], found[key], simulated[0])
        ranges = ["never" if run is None else "{} to {}".format(*run) for run in near["within"].values()]
        rows.append(
            f"| {name.removesuffix(' formula')} | {near['largest']:.0%} | {near['at']} | {' | '.join(ranges)} |"
        )
    return f"""\
# Variance of the adaptive learning rate

| formula | largest error | at step | within 5 % | within 12 % | within 20 % |
|---|--:|--:|--:|--:|--:|
{rows[0]}
{rows[1]}

- Error: formula / simulation - 1, gradients from N(0, 1), beta2 = {found["beta2"]:g}, {found["paths"]:,} \
trajectories, steps {found["step"][0]} to {found["step"][-1]}. A range is the longest without exception.
- Where the mean of the gradients is as large as their standard deviation, the variance is \
{1 - of_mean_1:.0%} lower (median over the steps).
- {found["seconds"]} s on {found["environment"]["hardware"]}, numpy {found["environment"]["numpy"]}.

![variance](figures/variance.png)
![rectification](figures/rectification.png)
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/variance"))
    parser.add_argument("--paths", type=int, default=100_000, help="trajectories; the paper has 5,000")
    parser.add_argument("--steps", type=int, default=6_000)
    options = parser.parse_args(argv)
    if options.paths < 1 or options.steps < FIRST_STEP:
        parser.error(f"--paths must be >= 1 and --steps >= {FIRST_STEP}, got {options.paths} and {options.steps}")
    found, folder = study(options.steps, options.paths), options.output_dir
    write_whole(folder / "variance.json", json.dumps(found) + "\n")
    for chart in (variance_chart(found), rectification_chart()):
        save(chart, folder / "figures")
    write_whole(folder / "table.md", statement(found))
    print(folder / "table.md")


if __name__ == "__main__":
    main()
