"""What the start-up costs, from floats alone."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from hf_radam import rectification
from hf_radam.cli import main
from hf_radam.training.advice import SCHEDULES, advise, share_of_adam


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("max_steps", "beta2"), [(1, 0.999), (5, 0.9), (250, 0.999), (3000, 0.98), (100, 0.5)])
def test_share(max_steps: int, beta2: float, schedule: str) -> None:
    factors = [SCHEDULES[schedule](i / max_steps) for i in range(max_steps)]
    used = [f * (rectification.rectification(i, beta2) or 0) for i, f in enumerate(factors, start=1)]
    assert advise(max_steps, beta2, factors.__getitem__).share == pytest.approx(sum(used) / sum(factors), abs=1e-12)


def test_a_long_training_is_sampled() -> None:
    exact = sum((rectification.rectification(t, 0.999) or 0) for t in range(1, 200_001)) / 200_000
    assert share_of_adam(200_000, 0.999, lambda _: 1.0) == pytest.approx(exact, abs=1e-4)
    assert share_of_adam(10, 0.999, lambda _: 0.0) == 1.0


# max_steps and beta2; the text
TEXTS = {
    (250, 0.999): r"18% of .* 250 updates; beta2=0.98 would use 67%. Consider a smaller beta2, a higher .*",
    (3000, 0.999): r"58% of .* 3,000 updates; beta2=0.995 would use 87%",
    (3000, 0.98): r"96% of .* 3,000 updates",
    (10, 0.5): r"0% of .* 10 updates, because it never rectifies. Take a beta2 above 2/3",
    (10, 0.9): r"9% of .* 10 updates. Consider a higher learning rate, more updates, .*",
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text(case: tuple[int, float]) -> None:
    found = advise(*case, lambda update: 1 - update / case[0])
    assert re.fullmatch(f"RAdam with beta2={case[1]} uses {TEXTS[case]}", found.text), found.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.9), "max_steps must be at least 1, got 0"),
        ((9, 1.0), "beta2 must lie in"),
        ((9, math.nan), "beta2 must lie in"),
    ],
)
def test_bad_arguments(arguments: tuple[int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        advise(*arguments, lambda _: 1.0)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--max_steps", "250", "--adam_beta2", "0.999", "--lr_scheduler_type", "cosine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("RAdam with beta2=0.999 uses 17% of the learning rate")
    assert len(lines) == 3 + 9
    assert max(map(len, lines[2:])) <= 65


def test_it_is_light() -> None:
    code = "import sys, hf_radam.training.advice; print({'torch', 'transformers'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
