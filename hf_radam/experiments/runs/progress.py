"""What a user sees of a job: one line for each finished run, and in a terminal one live bar."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record


class Progress:
    """Lines on stderr, and in a terminal a bar below them with the loss of the present runs.

    Args:
        runs: those that are still to do.
        silent: whether to show nothing, as all processes but the main one.
    """

    def __init__(self, runs: Sequence[Run], silent: bool = False) -> None:
        self.silent = silent
        self.present: dict[str, tuple[int, float]] = {}
        """Step and loss of each."""
        updates = sum(run.max_steps for run in runs)
        disable = silent or not sys.stderr.isatty()
        self.bar = tqdm(total=updates or None, unit="update", file=sys.stderr, dynamic_ncols=True, disable=disable)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if not self.silent:
            tqdm.write(line, file=sys.stderr)

    def update(self, run: Run, step: int, loss: float) -> None:
        """Move the bar to a run's step."""
        before, _ = self.present.get(str(run), (0, 0.0))
        self.present[str(run)] = (step, loss)
        self.bar.set_postfix_str("; ".join(f"{name}: {x:.3f}" for name, (_, x) in self.present.items()), refresh=False)
        self.bar.update(step - before)

    def finish(self, run: Run, record: Record) -> None:
        """Print what a run ended with."""
        before, _ = self.present.pop(str(run), (0, 0.0))
        metric, value = METRICS[record.metric], record.final[record.metric]
        result = f"{metric.label} {math.nan if value is None else value:.{metric.digits}f}"
        if record.diverged:
            result += " (diverged)"
        self.say(f"{run}: {result}, {record.seconds_per_step * record.updates:.0f} s")
        self.bar.update(record.updates - before)
