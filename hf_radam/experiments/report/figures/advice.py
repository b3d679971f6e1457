"""`hf-radam advise --png`: the learning rate that RAdam uses, beside Adam's."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from hf_radam.experiments.report.figures.style import panels, styled
from hf_radam.experiments.report.palette import LIGHT
from hf_radam.files import whole
from hf_radam.rectification import rectification
from hf_radam.training.advice import SCHEDULES, advise

POINTS = 400


def draw_advice(max_steps: int, beta2: float, schedule: str, path: Path) -> None:
    """Write a PNG with the share of the peak learning rate that each update uses.

    Args:
        max_steps: updates, at least 1.
        beta2: in [0, 1).
        schedule: a name of `SCHEDULES`.
        path: of the file.

    Raises:
        ValueError: an argument outside of its range.
    """
    message = advise(max_steps, beta2, schedule).text.split(". ")[0]
    steps = sorted({1 + (max_steps - 1) * i // POINTS for i in range(POINTS + 1)})
    adam = [SCHEDULES[schedule]((step - 1) / max_steps) for step in steps]
    radam = [rate * (rectification(step, beta2) or 0.0) for step, rate in zip(steps, adam, strict=True)]
    with styled(LIGHT):
        figure, (axes,) = panels(["share of the peak learning rate, over updates"], message, columns=1, height=3.0)
        for name, rates, hue in (("Adam", adam, "adam"), ("RAdam", radam, "radam")):
            axes.fill_between(steps, rates, color=LIGHT.hues[hue], alpha=0.1, linewidth=0)
            axes.plot(steps, rates, color=LIGHT.hues[hue], label=name)
        axes.set(ylim=(0, 1.02), xlim=(1, max(max_steps, 2)))
        axes.legend()
        with whole(path) as unfinished:
            figure.savefig(unfinished, format="png")
        plt.close(figure)
