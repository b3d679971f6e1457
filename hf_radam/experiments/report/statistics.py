"""Rows of runs -> numbers: mean and spread, paired differences, two places of ending."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

BASELINE = "adam_warmup"
Row = pd.DataFrame  # the runs of a recipe at a learning rate, with the columns of `Results.runs`
# What is claimed of a grid holds at `Metric.apart` and at this share of it.
STRICT = 0.3
# Two-sided sign-flip tests of fewer pairs cannot give p < 0.05, so that none is made.
SEEDS_FOR_SIGNIFICANCE = 6


def name(row: Row) -> str:
    """The recipe of some runs."""
    return str(row.recipe.iat[0])


def rate(row: Row) -> float:
    """The peak learning rate of some runs."""
    return float(row.learning_rate.iat[0])


def cost(row: Row) -> float:
    """Of the mean over seeds: the less the better, infinite where one has no finite value."""
    return float(row.cost.mean())


def each(table: pd.DataFrame) -> Iterable[Any]:
    """Rows, whose columns are attributes."""
    return table.itertuples()


def middle(values: pd.Series, *, higher_is_better: bool) -> float:
    """The median, where nan counts as worse than all others; nan where the median is that."""
    median = values.fillna(-math.inf if higher_is_better else math.inf).median()
    return float(median) if math.isfinite(median) else math.nan


def capital(text: str) -> str:
    """The text with a capital in front."""
    return text[0].upper() + text[1:]


def crosses(failed: int, runs: int) -> str:
    """How many of some runs fail: ✗ 2/3, or ✗ where there is one run; empty where none does."""
    return "" if not failed else "✗" if runs == 1 else f"✗ {failed}/{runs}"


def modes(values: Sequence[float] | pd.Series, apart: float = 0.1) -> list[list[float]]:
    """One group of values, or two where they end in two places: a mean between them would be no run's result.

    They do where the widest gap between neighbours is wider than the rest of the range, than a quarter of the greatest
    value, and than `apart`.

    Example:
        >>> modes([0.12, 0.81, 0.13])
        [[0.12, 0.13], [0.81]]
        >>> modes([0.12, 0.14, 0.13])
        [[0.12, 0.13, 0.14]]
    """
    ordered = sorted(values)
    gaps = [b - a for a, b in itertools.pairwise(ordered)]
    widest = max(gaps, default=0.0)
    if widest <= max(sum(gaps) - widest, apart, max(map(abs, ordered)) / 4):
        return [ordered]
    cut = gaps.index(widest) + 1
    return [ordered[:cut], ordered[cut:]]


def sign_flip_p(differences: Sequence[float] | pd.Series) -> float | None:
    """Two-sided p-value of paired differences: how often flipping their signs gives a mean as far from 0.

    Returns:
        None below six pairs, or where one is not finite; exact up to 16 pairs.

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == 2 / 2**6
        True
    """
    found = np.array(differences, dtype=float)
    if len(found) < SEEDS_FOR_SIGNIFICANCE or not np.isfinite(found).all():
        return None
    from scipy.stats import permutation_test  # slow to import

    # All sign flips of up to 16 pairs are enumerated, of more pairs a sample of as many.
    options: dict[str, Any] = {"permutation_type": "samples", "n_resamples": 2**16, "rng": np.random.default_rng(0)}
    return float(permutation_test((found,), np.mean, **options).pvalue)
