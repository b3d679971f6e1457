"""Adam-2k and Adam-eps, and RAdam with a stretch of Adam."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from cases import TOLERANCES, Gradients, advance, clones, flat, largest_difference, parameters, train

from hf_radam import Adam2k, get_optimizer

FLOAT64 = TOLERANCES[torch.float64]


def test_freeze_touches_only_the_second_moment() -> None:
    params, gradients = parameters(), Gradients()
    before = flat(params)
    optimizer = Adam2k(params, weight_decay=0.1, betas=(0.9, 0.99), freeze_steps=7)
    expected = [torch.zeros_like(p) for p in params]
    for _ in range(7):
        gradients.set(params)
        for v, p in zip(expected, params, strict=True):
            assert p.grad is not None
            v.mul_(0.99).add_(0.01 * p.grad.square())
        optimizer.step()
    assert torch.equal(flat(params), before)
    for v, p in zip(expected, params, strict=True):
        assert not optimizer.state[p]["exp_avg"].any()
        assert optimizer.state[p]["step"] == 7
        assert largest_difference(optimizer.state[p]["exp_avg_sq"], v) < FLOAT64


@pytest.mark.parametrize("freeze_steps", [0, 5])
def test_after_the_freeze_it_is_adamw_with_that_state(freeze_steps: int) -> None:
    params = parameters()
    options = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 0.0}  # eps stands elsewhere
    advance(optimizer := Adam2k(params, freeze_steps=freeze_steps, **options), params, freeze_steps)
    adamw = torch.optim.AdamW(copies := clones(params), **options)
    adamw.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found, expected = advance(optimizer, params, 10, Gradients(2)), advance(adamw, copies, 10, Gradients(2))
    assert largest_difference(found, expected) < FLOAT64


def test_adam_eps_against_a_hand_written_loop() -> None:
    """eps is added to sqrt(v) before the correction of its bias, by each parameter's own count of steps."""
    lr, (beta1, beta2), eps, decay = 1e-2, (0.9, 0.999), 1e-2, 0.1
    params, gradients = parameters(), Gradients()
    expected = [p.detach().clone() for p in params]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]
    counts = [0] * len(params)
    optimizer = get_optimizer("adam_eps")(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    for step in range(20):
        gradients.set(params)
        if step < 5:
            params[0].grad = None
        optimizer.step()
        for i, (p, q, (m, v)) in enumerate(zip(params, expected, moments, strict=True)):
            if p.grad is None:
                continue
            counts[i] += 1
            m.mul_(beta1).add_((1 - beta1) * p.grad)
            v.mul_(beta2).add_((1 - beta2) * p.grad.square())
            q.mul_(1 - lr * decay)
            q.sub_(lr * m / (1 - beta1 ** counts[i]) * (1 - beta2 ** counts[i]) ** 0.5 / (v.sqrt() + eps))
    assert largest_difference(flat(params), flat(expected)) < FLOAT64
    assert get_optimizer("adam_eps")(params).param_groups[0]["eps"] == 1e-4


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
