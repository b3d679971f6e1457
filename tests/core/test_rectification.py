"""The scalars."""

from __future__ import annotations

import itertools
import math

import pytest

from hf_radam import RAdam
from hf_radam import rectification as r


@pytest.mark.parametrize(
    ("beta2", "first"), [(0.9, 6), (0.98, 6), (0.99, 6), (0.999, 6), (0.9995, 6), (0.9999, 6), (0.8, 7), (2 / 3, None)]
)
def test_first_rectified_step(beta2: float, first: int | None) -> None:
    rectified = [step for step in range(1, 2000) if r.rectification(step, beta2) is not None]
    assert (rectified[0] if rectified else None) == first
    assert not rectified or rectified == list(range(rectified[0], 2000))


def test_published_values() -> None:
    assert RAdam.calc_rectification_term(0.999, 5) is None
    assert RAdam.calc_rectification_term(0.999, 6) == pytest.approx(0.0258, abs=5e-5)
    assert math.sqrt(r.variance_ratio(r.rho(5, 0.999), r.rho_inf(0.999))) == pytest.approx(0.0173, abs=5e-5)
    # Sum of 1 - r_t: "about 1033 steps" of warmup, against 1000 of untuned linear (Ma & Yarats, arXiv 1910.04209).
    assert sum(1 - (r.rectification(step, 0.999) or 0.0) for step in range(1, 40_000)) == pytest.approx(1033, abs=1)
    assert sum(1 - r.untuned_linear(step, 0.999) for step in range(1, 40_000)) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999, 0.9999])
def test_rectification_rises_to_one(beta2: float) -> None:
    terms = [r.rectification(step, beta2) for step in range(6, 200_000, 97)]
    numbers = [term for term in terms if term is not None]
    assert len(numbers) == len(terms)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(numbers))
    assert numbers[-1] == pytest.approx(1.0, abs=1e-4)


def test_untuned_warmup() -> None:
    assert r.untuned_linear(1, 0.999) == pytest.approx(5e-4)
    assert r.untuned_linear(2000, 0.999) == 1.0
    assert r.untuned_exponential(1000, 0.999) == pytest.approx(1 - math.exp(-1))


@pytest.mark.parametrize(
    ("step", "beta2", "message"), [(0, 0.999, "counted from 1"), (1, 1.0, r"beta2 must lie in \[0, 1\), got 1.0")]
)
def test_bad_arguments(step: int, beta2: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        r.rectification(step, beta2)
