"""Tables of runs -> numbers: mean, paired difference, best learning rate, two places of ending."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

BASELINE = "adam_warmup"
Row = pd.DataFrame  # the runs of a recipe at a learning rate, with the columns of `frames.run_rows`
# Two-sided sign-flip tests of fewer pairs cannot give p < 0.05, so that none is made.
SEEDS_FOR_SIGNIFICANCE = 6
# Of that many pairs all sign flips are enumerated, of more a sample of as many.
EXACT_PAIRS = 16


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds."""

    mean: float | None
    """None where a seed has no finite value."""
    std: float | None = None
    """Sample standard deviation; None for one seed."""
    n: int = 0
    """Number of seeds."""

    def text(self, digits: int) -> str:
        """With so many digits; the standard deviation where there is one."""
        return f"{self.mean:.{digits}f}" + ("" if self.std is None else f" ± {self.std:.{digits}f}")


def estimate(values: Sequence[float] | pd.Series) -> Estimate:
    """Mean and standard deviation of one value a seed.

    Example:
        >>> estimate([1.0, 2.0, 3.0])
        Estimate(mean=2.0, std=1.0, n=3)
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or len(finite) < len(values):
        return Estimate(mean=None, n=len(values))
    std = statistics.stdev(finite) if len(finite) > 1 else None
    return Estimate(mean=statistics.fmean(finite), std=std, n=len(finite))


def modes(values: Sequence[float], apart: float = 0.1) -> list[list[float]]:
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
    if not gaps:
        return [ordered]
    widest = max(gaps)
    rest = ordered[-1] - ordered[0] - widest
    if widest <= rest or widest <= max(apart, max(map(abs, ordered)) / 4):
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
    finite = [value for value in differences if math.isfinite(value)]
    if len(finite) < max(SEEDS_FOR_SIGNIFICANCE, len(differences)):
        return None
    from scipy import stats  # slow to import

    test = stats.permutation_test(
        (finite,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT_PAIRS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def by_rate(runs: pd.DataFrame) -> dict[tuple[str, float], pd.DataFrame]:
    """The runs of each recipe and learning rate: by rate, recipes in their first order, then by seed."""
    order = runs.sort_values("seed", kind="stable").groupby(["learning_rate", "recipe"], sort=False)
    names = list(dict.fromkeys(runs.recipe))
    found = {(name(row), rate(row)): row for _, row in order}
    return dict(sorted(found.items(), key=lambda item: (item[0][1], names.index(item[0][0]))))


def rates_differ(runs: pd.DataFrame) -> bool:
    """Whether some recipe was run at several learning rates."""
    return bool((runs.groupby("recipe").learning_rate.nunique() > 1).any())


def at_best_rate(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs of each recipe at its best learning rate: that with the best mean at the last validation.

    A rate at which a run became infinite or NaN comes after all others; of equals, the lowest rate is taken.
    """
    groups = by_rate(runs)
    return [
        min((group for key, group in groups.items() if key[0] == recipe), key=lambda group: group.validation.mean())
        for recipe in dict.fromkeys(runs.recipe)
    ]


def name(row: pd.DataFrame) -> str:
    """The recipe of some runs."""
    return str(row.recipe.iat[0])


def rate(row: pd.DataFrame) -> float:
    """The peak learning rate of some runs."""
    return float(row.learning_rate.iat[0])


def cost(row: pd.DataFrame) -> float:
    """Of the mean over seeds: the less the better, infinite where one has no finite value."""
    return float(row.cost.mean())


def middle(row: pd.DataFrame) -> float:
    """The median result; nan where that run has no finite value, which counts as worse than all others."""
    ordered = row.sort_values("cost").value
    return float((ordered.iat[(len(ordered) - 1) // 2] + ordered.iat[len(ordered) // 2]) / 2)


def pairs(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """`value` and `cost` of both (`_x` and `_y`), for each seed that both have."""
    return ours.merge(theirs, on="seed")
