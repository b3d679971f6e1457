"""A grid of beta2 and learning rate: how widely each recipe works."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from hf_radam.experiments.report.statistics import STRICT, each
from hf_radam.experiments.results import Results


def sentences(results: Results) -> list[str]:
    """Whether one recipe works most widely, how widely each does, the best setting of each, the seeds."""
    metric, found = results.metric, results.cells
    found = found.assign(settings=1, widely=found.failures == 0, strictly=found.strict_failures == 0)
    groups = found.groupby("label", sort=False)
    shares = pd.DataFrame(groups[["widely", "strictly"]].mean())
    widest = [set(shares.index[shares[kind] == shares[kind].max()]) for kind in shares]
    opening = f"{capital(min(widest[0]))} works most widely" if widest == widest[:1] * 2 and len(widest[0]) == 1 else ""
    counts = [
        f"{of.Index} in {of.widely} ({of.strictly}) of {of.settings}"
        for of in each(pd.DataFrame(groups[["widely", "strictly", "settings"]].sum()))
    ]
    best = [
        f"{of.label} {of.value:.{metric.digits}f} (lr {of.learning_rate:g}, beta2 {of.beta2:g})"
        for of in each(found.loc[groups.cost.idxmin()])
    ]
    sizes = [f"{count} settings have {n} seed{'s' * (n > 1)}" for n, count in sorted(Counter(found.seeds).items())]
    return [
        f"**{opening or 'No clear winner'}.**",
        f"All seeds end within {metric.apart:g} ({STRICT * metric.apart:g}) of the best median {metric.label} at that "
        f"learning rate: {', '.join(counts)} settings.",
        f"Best settings: {', '.join(best)}.",
        f"Of the grid, {' and '.join(filter(None, [', '.join(sizes[:-1]), sizes[-1]]))}.",
    ]


def capital(text: str) -> str:
    """The text with a capital in front."""
    return text[0].upper() + text[1:]
