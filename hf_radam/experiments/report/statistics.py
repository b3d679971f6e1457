"""Records -> numbers: mean, paired difference, best learning rate, steps to target, failed k of n."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record

BASELINE = "adam_warmup"
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """One recipe at one learning rate."""

    recipe: str
    learning_rate: float
    seeds: tuple[int, ...]
    loss: Estimate
    """Final evaluation loss, without label smoothing; `Record.loss_unit` says in what."""
    metrics: dict[str, Estimate]
    """Other final numbers, such as token_accuracy and bleu."""
    difference: Estimate | None
    """Headline minus that of adam_warmup, seed by seed; None without such runs."""
    p_value: float | None
    """Of the hypothesis that the differences are symmetric about 0: two-sided, by sign flips; None below six pairs."""
    steps_to_target: Estimate | None
    """Updates until the evaluation loss first reached the target, over the seeds that did; None without a target."""
    failed: int | None
    """Runs whose metric is not better than that of the majority class; None for tasks without one."""
    diverged: int
    """Runs whose loss became infinite or NaN, or ended above that of the untrained model."""
    seconds_per_step: float
    """Median over the runs."""
    peak_memory: int
    """Largest of the runs, bytes."""

    def estimate(self, name: str) -> Estimate | None:
        """The final loss or metric of that name; None if the runs have none."""
        return self.loss if name == "loss" else self.metrics.get(name)


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean and standard deviation of one value a seed.

    Example:
        >>> estimate([1.0, 2.0, 3.0])
        Estimate(mean=2.0, std=1.0, n=3)
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
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


def sign_flip_p(differences: Sequence[float | None]) -> float | None:
    """Two-sided p-value of paired differences: how often flipping their signs gives a mean as far from 0.

    Returns:
        None below six pairs, or where one is not finite; exact up to 16 pairs.

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == 2 / 2**6
        True
    """
    finite = [value for value in differences if value is not None and math.isfinite(value)]
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


def headline(records: Sequence[Record]) -> str:
    """What recipes are judged by: the task's metric where evaluations hold it, else the evaluation loss."""
    return records[0].metric if all(r.metric in r.evaluations for r in records) else "loss"


def by_rate(records: Sequence[Record]) -> dict[tuple[str, float], list[Record]]:
    """The runs of each recipe and learning rate: by rate, recipes in their first order, then by seed."""
    groups: dict[tuple[str, float], list[Record]] = {}
    names = [record.recipe for record in records]
    for record in sorted(records, key=lambda r: (r.learning_rate, names.index(r.recipe), r.seed)):
        groups.setdefault((record.recipe, record.learning_rate), []).append(record)
    return groups


def same_start(records: Sequence[Record]) -> bool:
    """Whether all runs of a seed have the same loss at the first update, which is that of the initial weights."""
    losses: dict[int, list[float]] = {}
    for record in records:
        if record.curves["step"][:1] == [1] and (loss := record.curves["loss"][0]) is not None:
            losses.setdefault(record.seed, []).append(loss)
    # On an accelerator sums may be rounded otherwise.
    return bool(losses) and all(math.isclose(min(found), max(found), rel_tol=1e-4) for found in losses.values())


def rates_differ(records: Sequence[Record]) -> bool:
    """Whether some recipe was run at several learning rates."""
    groups = by_rate(records)
    return len({recipe for recipe, _ in groups}) < len(groups)


def at_best_rate(records: Sequence[Record]) -> list[Record]:
    """The runs of each recipe at its best learning rate: that with the best mean headline at the last validation.

    A rate at which a run became infinite or NaN comes after all others; of equals, the lowest rate is taken.
    """
    name = headline(records)
    sign = -1 if METRICS[name].higher_is_better else 1

    def cost(group: Sequence[Record]) -> float:
        # A run that broke has stopped before its next evaluation: the last one may still be finite.
        last = [None if record.final[name] is None else record.evaluations[name][-1] for record in group]
        mean = estimate(last).mean
        return math.inf if mean is None else sign * mean

    best: dict[str, list[Record]] = {}
    for (recipe, _), group in by_rate(records).items():
        if recipe not in best or cost(group) < cost(best[recipe]):
            best[recipe] = group
    return [record for recipe in dict.fromkeys(r.recipe for r in records) for record in best[recipe]]


def summarise(records: Sequence[Record], target_loss: float | None) -> list[Row]:
    """One row for each recipe and learning rate.

    They are compared with adam_warmup at the same learning rate; at whatever rate it has, if it has only one.
    """
    groups = by_rate(records)
    name = headline(records)
    baselines = {rate: group for (recipe, rate), group in groups.items() if recipe == BASELINE}
    only = next(iter(baselines.values())) if len(baselines) == 1 else []
    return [_row(group, baselines.get(rate, only), name, target_loss) for (_, rate), group in groups.items()]


def _row(records: list[Record], baseline: list[Record], name: str, target_loss: float | None) -> Row:
    by_seed = {record.seed: record.final[name] for record in baseline}
    pairs = [(record.final[name], by_seed[record.seed]) for record in records if record.seed in by_seed]
    differences = [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]
    compared = bool(pairs) and records[0].recipe != BASELINE
    reached = [step for step in (steps_to(record, target_loss) for record in records) if step is not None]
    failures = [has_failed(record) for record in records]
    return Row(
        recipe=records[0].recipe,
        learning_rate=records[0].learning_rate,
        seeds=tuple(record.seed for record in records),
        loss=estimate([record.final["loss"] for record in records]),
        metrics={
            key: estimate([record.final.get(key) for record in records]) for key in records[0].final if key != "loss"
        },
        difference=estimate(differences) if compared else None,
        p_value=sign_flip_p(differences) if compared else None,
        steps_to_target=None if target_loss is None else estimate(reached),
        failed=None if None in failures else sum(map(bool, failures)),
        diverged=sum(record.diverged for record in records),
        seconds_per_step=statistics.median(record.seconds_per_step for record in records),
        peak_memory=max(record.peak_memory for record in records),
    )


def has_failed(record: Record) -> bool | None:
    """Whether a run's metric is not better than that of always predicting the majority class; None without one."""
    if "majority_class" not in record.facts:
        return None
    reached, majority = record.final[record.metric], record.facts["majority_class"]
    if reached is None:
        return True
    return reached <= majority if METRICS[record.metric].higher_is_better else reached >= majority


def steps_to(record: Record, target_loss: float | None) -> float | None:
    """The first evaluated update whose loss is at or below the target; None if there is none."""
    for step, loss in zip(record.evaluations["step"], record.evaluations["loss"], strict=True):
        if target_loss is not None and loss is not None and loss <= target_loss:
            return step
    return None
