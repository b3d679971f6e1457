"""Records -> figures, each as PNG and SVG; this package is the only importer of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_radam.experiments.records import Record
from hf_radam.experiments.report.figures import curves, gradients, sweeps
from hf_radam.experiments.report.figures.style import save, styled
from hf_radam.experiments.report.statistics import by_rate, rates_differ


@styled
def draw_all(records: Sequence[Record], folder: Path, target_loss: float | None) -> list[str]:
    """Draw everything that the records hold; returns the names of the figures, without ending.

    Args:
        records: in the order in which the recipes shall appear.
        folder: where `NAME.png` and `NAME.svg` are written.
        target_loss: drawn as a line in the evaluation figure.
    """
    figures = sweeps.draw(records)
    several = rates_differ(records)
    for rate in sorted({rate for _, rate in by_rate(records)}) if several else [None]:
        of_rate = [record for record in records if rate in (None, record.learning_rate)]
        suffix = "" if rate is None else f"_lr{rate:g}"
        figures[f"training_loss{suffix}"] = curves.training_loss(of_rate)
        figures[f"evaluation{suffix}"] = curves.evaluation(of_rate, target_loss)
        figures[f"effective_learning_rate{suffix}"] = curves.effective_learning_rate(of_rate)
        if all(record.gradients for record in of_rate):
            figures[f"gradient_histograms{suffix}"] = gradients.gradient_histograms(of_rate)
    return [save(figure, folder, name) for name, figure in figures.items()]
