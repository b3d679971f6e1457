"""Simulated variance of Adam's adaptive learning rate, against the formulas (Figures 8 and 9 of arXiv 1908.03265)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from hf_radam.rectification import rho, variance_exact, variance_first_order

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
    draw, gradient = np.empty(_CHUNK, dtype=np.float32), np.empty_like(v)
    mean, variance = np.empty((2, len(means), len(steps)))
    for step in range(1, max(steps) + 1):
        rng.standard_normal(out=draw, dtype=np.float32)
        np.add(draw, shift, out=gradient)
        np.square(gradient, out=gradient)
        gradient *= np.float32(1 - beta2)
        v *= np.float32(beta2)
        v += gradient
        if step in steps:
            psi = np.sqrt((1 - beta2**step) / v.astype(np.float64))
            mean[:, steps.index(step)], variance[:, steps.index(step)] = psi.mean(1), psi.var(1)
    return mean, variance


def study(last: int = 6_000, beta2: float = 0.999, paths: int = 100_000, seed: int = 0) -> dict[str, Any]:
    """Simulate, and set the formulas beside it.

    Returns:
        What `model_cards/variance/variance.json` holds: the settings, `step`, `exact` and `first_order` (one number a
        step), `simulated` (a list for each mean) and `agreement`.
    """
    steps = recorded_steps(last)
    simulated = simulate(steps, MEANS, beta2, paths, seed)
    lengths = [rho(step, beta2) for step in steps]
    exact, first = [variance_exact(length) for length in lengths], [variance_first_order(length) for length in lengths]
    return {
        "beta2": beta2,
        "paths": paths,
        "seed": seed,
        "mean": list(MEANS),
        "step": steps,
        "exact": exact,
        "first_order": first,
        "simulated": simulated.tolist(),
        "agreement": {
            "exact": agreement(steps, exact, simulated[0]),
            "first_order": agreement(steps, first, simulated[0]),
            "variance_of_mean_1": float(np.median(simulated[MEANS.index(1.0)] / simulated[0])),
        },
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
