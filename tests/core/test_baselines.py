"""Adam-2k and Adam-eps."""

from __future__ import annotations

import pickle

import pytest
import torch
from cases import TOLERANCES, Gradients, flat, largest_difference, parameters, train

from hf_radam import Adam2k

FLOAT64 = TOLERANCES[torch.float64]


@pytest.mark.parametrize(("freeze_steps", "eps"), [(20, 1e-8), (7, 1e-8), (5, 0.0), (0, 1e-2)])
def test_against_a_hand_written_loop(freeze_steps: int, eps: float) -> None:
    """In the freeze only v moves; then AdamW, whose corrections of bias count from the first step of all.

    eps is added to sqrt(v) before the correction of its bias. Each parameter has its own count of steps.
    """
    lr, (beta1, beta2), decay = 1e-2, (0.8, 0.99), 0.1
    params, gradients = parameters(), Gradients()
    expected = [p.detach().clone() for p in params]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
    counts = [0] * len(params)
    optimizer = Adam2k(params, lr, (beta1, beta2), eps, decay, freeze_steps=freeze_steps)
    for step in range(20):
        gradients.set(params)
        if step < 3:
            params[0].grad = None
        optimizer.step()
        for i, (p, q, (m, v)) in enumerate(zip(params, expected, moments, strict=True)):
            if p.grad is None:
                continue
            counts[i] += 1
            v.mul_(beta2).add_((1 - beta2) * p.grad.square())
            if counts[i] > freeze_steps:
                m.mul_(beta1).add_((1 - beta1) * p.grad)
                q.mul_(1 - lr * decay)
                q.sub_(lr * m / (1 - beta1 ** counts[i]) * (1 - beta2 ** counts[i]) ** 0.5 / (v.sqrt() + eps))
    assert largest_difference(flat(params), flat(expected)) < FLOAT64
    for p, count, of_p in zip(params, counts, moments, strict=True):
        state = optimizer.state[p]
        assert state["step"] == count
        for key, moment in zip(("exp_avg", "exp_avg_sq"), of_p, strict=True):
            assert largest_difference(state[key], moment) < FLOAT64


def test_bad_freeze_and_copies() -> None:
    with pytest.raises(ValueError, match="freeze_steps must be a whole number >= 0, got -1"):
        Adam2k(parameters(), freeze_steps=-1)
    assert pickle.loads(pickle.dumps(Adam2k(parameters(), freeze_steps=3))).freeze_steps == 3


def test_tensor_lr_complex_and_sparse() -> None:
    by_tensor = train(Adam2k, parameters(), 6, lr=torch.tensor(1e-2), freeze_steps=2)
    assert torch.equal(by_tensor, train(Adam2k, parameters(), 6, lr=torch.tensor(1e-2).item(), freeze_steps=2))
    with pytest.raises(ValueError, match="takes real parameters"):
        Adam2k([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
    (p,) = parameters(shapes=[(2, 2)])
    p.grad = torch.eye(2, dtype=torch.float64).to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        Adam2k([p]).step()
