"""The metrics of all tasks: what tables call them, and which way is better."""

from __future__ import annotations

import math
import re
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


class _Metrics(dict[str, Metric]):
    """Ours, and by their names those that a training script of the user's own reports."""

    def __missing__(self, name: str) -> Metric:
        label = name.removesuffix(LOWER).replace("_", " ")
        return Metric(label=label, higher_is_better=not name.endswith((LOWER, "loss")))


def is_metric(name: str) -> bool:
    """Whether a record may hold a number of this name: letters, digits and underscores, which no page can misread.

    Example:
        >>> is_metric("mean_token_accuracy"), is_metric("<b>")
        (True, False)
    """
    return bool(re.fullmatch(r"[A-Za-z0-9_]{1,64}", name))


METRICS: dict[str, Metric] = _Metrics(
    {
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
)
