"""The metrics of all tasks: what tables call them, and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Ends the names of metrics that are not ours where less is better, so that a record says so by itself.
LOWER = "_lower_is_better"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a task reports at the end of a run."""

    label: str
    """In tables and figures."""
    digits: int = 3
    """After the point."""
    higher_is_better: bool = True
    apart: float = 0.1
    """Runs that end nearer to each other than this did not end in two places."""

    def cost(self, value: float | None) -> float:
        """The less the better; infinite where there is no finite value."""
        if value is None or not math.isfinite(value):
            return math.inf
        return -value if self.higher_is_better else value


# Ours; a training script of the user's own reports others.
METRICS = {
    "loss": Metric(label="eval loss", higher_is_better=False),
    "bleu": Metric(label="BLEU", digits=1, apart=10.0),
    "token_accuracy": Metric(label="token accuracy"),
    "perplexity": Metric(label="perplexity", digits=2, apart=1.0, higher_is_better=False),
    "accuracy": Metric(label="accuracy"),
    "f1": Metric(label="F1"),
    "matthews_correlation": Metric(label="Matthews correlation"),
    "pearson": Metric(label="Pearson correlation"),
    "spearman": Metric(label="Spearman correlation"),
}


def metric_named(name: str) -> Metric:
    """One of ours, or what the name of another metric says about it.

    Example:
        >>> metric_named("largest_error_lower_is_better").label
        'largest error'
    """
    label = name.removesuffix(LOWER).replace("_", " ")
    return METRICS.get(name) or Metric(label=label, higher_is_better=not name.endswith((LOWER, "loss")))
