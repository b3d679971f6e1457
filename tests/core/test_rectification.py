"""The scalars."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hf_radam import rectification as r


@pytest.mark.parametrize(
    ("beta2", "first"), [(0.9, 6), (0.98, 6), (0.99, 6), (0.999, 6), (0.9995, 6), (0.9999, 6), (0.8, 7), (2 / 3, None)]
)
def test_first_rectified_step(beta2: float, first: int | None) -> None:
    rectified = [step for step in range(1, 2000) if r.rectification(step, beta2) is not None]
    assert (rectified[0] if rectified else None) == first
    assert not rectified or rectified == list(range(rectified[0], 2000))


def test_published_values() -> None:
    assert r.rectification(6, 0.999) == pytest.approx(0.0258, abs=5e-5)
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


def test_exact_variance_is_that_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    for degrees in (6, 10, 30):
        gradients = torch.randn(50_000, degrees, generator=generator, dtype=torch.float64)
        psi = (degrees / gradients.square().sum(1)).sqrt()
        assert psi.var().item() == pytest.approx(r.variance_exact(degrees), rel=0.1)
    assert r.variance_exact(10, sigma=2.0) == pytest.approx(r.variance_exact(10) / 4)


def test_first_order_variance() -> None:
    # Facts about both formulas, from the figures of section 4.2: close from 16 steps on, far apart at 5.
    assert r.variance_first_order(1999) == pytest.approx(r.variance_exact(1999), rel=0.01)
    assert r.variance_first_order(16) == pytest.approx(r.variance_exact(16), rel=0.25)
    assert r.variance_first_order(5) > 2 * r.variance_exact(5)
    # r_t is the square root of the ratio of two first-order variances.
    rho_t, limit = r.rho(100, 0.999), r.rho_inf(0.999)
    ratio = r.variance_first_order(limit) / r.variance_first_order(rho_t)
    assert r.variance_ratio(rho_t, limit) == pytest.approx(ratio, rel=1e-12)


def test_untuned_warmup() -> None:
    assert r.untuned_linear(1, 0.999) == pytest.approx(5e-4)
    assert r.untuned_linear(2000, 0.999) == 1.0
    assert r.untuned_exponential(1000, 0.999) == pytest.approx(1 - math.exp(-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: r.rectification(0, 0.999), "counted from 1"),
        (lambda: r.rectification(1, 1.0), r"beta2 must lie in \[0, 1\), got 1.0"),
        (lambda: r.variance_exact(2), "rho_t > 2, got 2"),
        (lambda: r.variance_first_order(4), "rho_t > 4, got 4"),
        (lambda: r.variance_exact(5, sigma=0), "sigma must be > 0, got 0"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
