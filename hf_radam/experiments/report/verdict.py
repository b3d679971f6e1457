"""What a comparison found, as facts and in words."""

from __future__ import annotations

from dataclasses import dataclass

from hf_radam.experiments.report.grid import grid
from hf_radam.experiments.report.grid import sentences as over_grid
from hf_radam.experiments.report.sentences import sentences, unfinished
from hf_radam.experiments.results import Results


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where the runs of a recipe ended, at its best learning rate."""

    recipe: str
    learning_rate: float
    places: tuple[tuple[int, float], ...]
    """(seeds, mean of these seeds): one place, or two where results are bimodal; none where no run is finite."""
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found."""

    judged_by: str
    """A name of `metrics.METRICS`."""
    runs: int
    missing: int
    seeds: tuple[int, ...]
    """Those that all recipes have."""
    endings: tuple[Ending, ...]
    """Best first."""
    headline: tuple[str, ...]
    """Two or three sentences, as Markdown; recipes stand in code marks."""
    text: str
    """All sentences, as Markdown."""


def judge(results: Results) -> Verdict:
    """The verdict on a comparison, as facts and as sentences."""
    paired = results.paired()
    rows = sorted(paired.best_rows(), key=paired.cost) if paired.records else []
    endings = []
    for row in rows:
        places = tuple((len(group), sum(group) / len(group)) for group in paired.places(row))
        endings.append(Ending(recipe=row.recipe, learning_rate=row.learning_rate, places=places, seeds=len(row.seeds)))
    over = grid(results.records)
    said = sentences(results) if over is None else over_grid(over)
    return Verdict(
        judged_by=results.selection,
        runs=len(results.records),
        missing=results.missing,
        seeds=tuple(paired.seeds),
        endings=tuple(endings),
        headline=tuple(said[: 3 + (0 if over else len(unfinished(results)))]),
        text=" ".join(said),
    )
