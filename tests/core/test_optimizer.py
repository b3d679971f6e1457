"""RAdam: properties x implementations x flags x dtypes."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import (
    CAPTURABLE_RTOL,
    FAST,
    FLAGS,
    IMPLEMENTATIONS,
    TOLERANCES,
    Gradients,
    advance,
    clones,
    flat,
    largest_difference,
    parameters,
    radam,
    through_a_file,
    train,
    with_gaps,
)
from torch import Tensor

from hf_radam import RAdam

implementations = pytest.mark.parametrize("name", IMPLEMENTATIONS)
fast = pytest.mark.parametrize("name", FAST)
flags = pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
FLOAT64 = TOLERANCES[torch.float64]


def algorithm_2(
    theta: float, grads: list[float], lr: float, beta1: float, beta2: float, eps: float, wd: float
) -> float:
    """Algorithm 2 of arXiv 1908.03265 for one number, with the authors' eps and decoupled decay."""
    m = v = 0.0
    rho_inf = 2 / (1 - beta2) - 1
    for t, g in enumerate(grads, start=1):
        v = beta2 * v + (1 - beta2) * g * g
        m = beta1 * m + (1 - beta1) * g
        m_hat = m / (1 - beta1**t)
        rho_t = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        theta -= lr * wd * theta
        if rho_t > 5:
            adaptive = math.sqrt(1 - beta2**t) / (math.sqrt(v) + eps)
            r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho_t))
            theta -= lr * r * m_hat * adaptive
        else:
            theta -= lr * m_hat
    return theta


@implementations
def test_equals_the_paper(name: str) -> None:
    grads = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    p = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    optimizer = radam(name)([p], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for grad in grads:
        p.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    assert abs(p.item() - algorithm_2(0.7, grads, 1e-2, 0.9, 0.99, 1e-8, 0.1)) < FLOAT64


@functools.cache
def by_torch(**options: Any) -> Tensor:
    return train(torch.optim.RAdam, parameters(), steps=60, weight_decay=0.1, **options)


@implementations
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.9), (0.9, 0.6)])
@pytest.mark.filterwarnings("ignore:beta2=0.6 is too small")
def test_equals_torch(name: str, decoupled: bool, maximize: bool, betas: tuple[float, float]) -> None:
    options: dict[str, Any] = {"decoupled_weight_decay": decoupled, "maximize": maximize, "betas": betas}
    ours = train(radam(name), parameters(), steps=60, weight_decay=0.1, **options)
    assert largest_difference(ours, by_torch(**options)) < FLOAT64


@functools.cache
def by_for_loop(flags: str, dtype: torch.dtype) -> Tensor:
    return train(radam("for_loop"), parameters(dtype), **FLAGS[flags])


@fast
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_implementations_agree(name: str, flags: str, dtype: torch.dtype) -> None:
    # Low precision is judged against the for-loop in float32: one in bf16 would hide its own drift.
    reference = by_for_loop(flags, max(dtype, torch.float32, key=lambda d: d.itemsize))
    assert largest_difference(train(radam(name), parameters(dtype), **FLAGS[flags]), reference) < TOLERANCES[dtype]


@flags
def test_complex_parameters_are_pairs_of_real_ones(flags: dict[str, Any]) -> None:
    for name in IMPLEMENTATIONS:
        z = torch.randn(4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)).requires_grad_()
        xy = torch.view_as_real(z.detach()).clone().requires_grad_()
        complex_optimizer, real_optimizer = (radam(name)([p], lr=1e-2, **flags) for p in (z, xy))
        gradients = Gradients()
        for _ in range(20):
            gradients.set([z])
            assert z.grad is not None
            xy.grad = torch.view_as_real(z.grad).clone()
            complex_optimizer.step()
            real_optimizer.step()
        assert complex_optimizer.state[z]["exp_avg_sq"].dtype == torch.complex128
        assert largest_difference(torch.view_as_real(z.detach()), xy.detach()) < FLOAT64


@fast
@pytest.mark.parametrize("beta2", [0.999, 0.9995, 0.9999])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore")  # torch.compile's own import and tracing warn
def test_compiled_and_capturable_follow_eager(name: str, beta2: float, compiled: bool) -> None:
    def trajectory(name: str, compiled: bool) -> Tensor:
        params = parameters(torch.float32)
        optimizer = radam(name)(params, lr=1e-2, betas=(0.9, beta2), weight_decay=0.1)
        step = torch.compile(optimizer.step) if compiled else optimizer.step
        gradients, points = Gradients(), []
        for _ in range(30):
            gradients.set(params)
            step()
            points.append(flat(params))
        return torch.stack(points)

    eager = trajectory("for_loop", compiled=False)
    error = largest_difference(trajectory(name, compiled), eager)
    assert error < CAPTURABLE_RTOL * eager.abs().max().item()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": torch.clone,
    "transposed": lambda p: p.t().contiguous().t(),
    "sliced": lambda p: torch.full((p.shape[0], 2 * p.shape[1]), 7.0, dtype=p.dtype)[:, ::2].copy_(p),
    "expanded": lambda p: p[:1].expand(p.shape),  # a gradient only: no parameter shares its memory with itself
}


@implementations
@flags
def test_memory_layout_does_not_matter(name: str, flags: dict[str, Any]) -> None:
    """All layouts of parameter, gradient and (loaded) state, side by side in one group."""
    *own, _ = LAYOUTS
    cases = list(itertools.product(own, LAYOUTS, own))
    plain = parameters(shapes=[(4, 3)] * len(cases))
    odd = [LAYOUTS[of_p](p.detach()).requires_grad_() for p, (of_p, _, _) in zip(plain, cases, strict=True)]
    reference, optimizer = RAdam(plain, lr=1e-2, foreach=False, **flags), radam(name)(odd, lr=1e-2, **flags)
    gradients = Gradients()
    for step in range(12):
        gradients.set(odd)
        for p, q, (_, of_gradient, of_state) in zip(plain, odd, cases, strict=True):
            assert q.grad is not None
            q.grad = LAYOUTS[of_gradient](q.grad)
            p.grad = q.grad.clone()
            if step == 3:
                state = optimizer.state[q]
                state.update({key: LAYOUTS[of_state](state[key]) for key in state if key != "step"})
        reference.step()
        optimizer.step()
    for p, q, case in zip(plain, odd, cases, strict=True):
        assert largest_difference(q.detach(), p.detach()) < FLOAT64, case
        if case[0] == "sliced":  # the elements between those of the slice belong to somebody else
            assert (q.detach().as_strided((4, 3), q.stride(), q.storage_offset() + 1) == 7.0).all()


@implementations
def test_missing_gradients_late_groups_with_own_options_and_unlike_step_counts(name: str) -> None:
    assert largest_difference(with_gaps(radam(name)), with_gaps(torch.optim.RAdam)) < FLOAT64


def test_state_exists_for_every_trainable_parameter_after_the_first_step() -> None:
    used, unused, frozen = parameters(shapes=[(2,), (3,), (4,)])
    optimizer = RAdam([used, unused, frozen.requires_grad_(False)])
    assert not optimizer.state
    Gradients().set([used])
    before = unused.detach().clone()
    optimizer.step()
    assert optimizer.state[used]["step"] == 1
    assert optimizer.state[unused]["step"] == 0
    assert torch.equal(unused, before)
    assert frozen not in optimizer.state


@implementations
@flags
def test_a_step_only_reads_gradients_and_keeps_the_form_of_torch(name: str, flags: dict[str, Any]) -> None:
    params = [*parameters(), *parameters(torch.bfloat16)]
    optimizer, gradients = radam(name)(params, lr=1e-2, **flags), Gradients()
    for _ in range(8):
        gradients.set(params)
        before = [(p.grad, p.grad.clone()) for p in params if p.grad is not None]
        optimizer.step()
        assert all(p.grad is grad and torch.equal(grad, copy) for p, (grad, copy) in zip(params, before, strict=True))
    assert set(optimizer.param_groups[0]) == set(torch.optim.RAdam(params).param_groups[0])
    for p in params:
        state = optimizer.state[p]
        assert list(state) == ["step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if optimizer.amsgrad else [])]
        assert (state["step"].shape, state["step"].dtype) == ((), torch.float32)
        assert all(state[key].dtype == p.dtype and state[key].shape == p.shape for key in list(state)[1:])


@implementations
@flags
def test_tensor_lr_is_a_number_in_a_tensor(name: str, flags: dict[str, Any]) -> None:
    params, reference = parameters(), parameters()
    lr = torch.tensor(1e-2, dtype=torch.float64)
    ours, theirs = radam(name)(params, lr=lr, **flags), radam(name)(reference, lr=1e-2, **flags)
    for rate, seed in ((1e-2, 1), (1e-3, 2)):
        lr.fill_(rate)
        theirs.param_groups[0]["lr"] = rate
        found, expected = advance(ours, params, 10, Gradients(seed)), advance(theirs, reference, 10, Gradients(seed))
        assert largest_difference(found, expected) < FLOAT64


@implementations
@flags
def test_at_lr_zero_nothing_moves(name: str, flags: dict[str, Any]) -> None:
    # A schedule may begin at 0, and checkpoint loaders take a step there.
    before = flat(params := parameters())
    assert torch.equal(train(radam(name), params, steps=8, lr=0.0, **flags), before)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_differentiable(amsgrad: bool) -> None:
    def end(lr: Tensor, start: Tensor) -> Tensor:
        p = start.clone()
        optimizer = RAdam([p], lr=lr, weight_decay=0.1, differentiable=True, amsgrad=amsgrad, betas=(0.9, 0.99))
        for _ in range(8):
            p.grad = p.clone() ** 3 - p  # a function of the parameter; a clone, since the step changes it in place
            optimizer.step()
        return p.sum()

    lr = torch.tensor(1e-2, dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0.5, -1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, (lr, start))


@implementations
@pytest.mark.parametrize("saved_after", [3, 12])
@flags
def test_resume_is_bitwise(name: str, saved_after: int, flags: dict[str, Any]) -> None:
    """As a training that never stopped, and so deterministic."""
    params, gradients = parameters(), Gradients()
    optimizer = radam(name)(params, lr=1e-2, **flags)
    advance(optimizer, params, saved_after, gradients)
    state, resumed = through_a_file([optimizer.state_dict(), params])
    again = radam(name)(resumed, lr=99.0, **flags)
    again.load_state_dict(state)
    straight = train(radam(name), parameters(), saved_after + 10, **flags)
    assert torch.equal(advance(again, resumed, 10, gradients), straight)


@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if name != "capturable"])  # torch's needs a GPU
@pytest.mark.parametrize("saved_after", [3, 12])
@pytest.mark.parametrize("theirs", [torch.optim.RAdam, torch.optim.AdamW])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_checkpoints_interchange_with_torch(name: str, saved_after: int, theirs: Any, direction: str) -> None:
    """Save with one class, go on with the other: as if its state had been carried over by hand."""
    options = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.99)}
    classes = {"to": (radam(name), theirs), "from": (theirs, radam(name))}[direction]
    params = parameters()
    first, second = (cls(params, **options) for cls in classes)
    advance(first, params, saved_after)
    second.load_state_dict(through_a_file(first.state_dict()))
    third = classes[1](by_hand := clones(params), **options)
    third.param_groups[0]["decoupled_weight_decay"] = second.param_groups[0]["decoupled_weight_decay"]
    for p, q in zip(params, by_hand, strict=True):
        third.state[q] = copy.deepcopy(first.state[p])
    found, expected = advance(second, params, 10, Gradients(2)), advance(third, by_hand, 10, Gradients(2))
    assert largest_difference(found, expected) < FLOAT64
    if isinstance(second, RAdam):
        assert set(second.param_groups[0]) == set(torch.optim.RAdam(parameters()).param_groups[0])


def test_old_checkpoints_are_completed() -> None:
    params = parameters()
    advance(optimizer := RAdam(params), params, 1)
    old = copy.deepcopy(optimizer.state_dict())
    for key in ("capturable", "differentiable", "decoupled_weight_decay", "foreach", "maximize"):
        del old["param_groups"][0][key]
    for state in old["state"].values():
        state["step"] = int(state["step"])
    again = RAdam(params)
    again.load_state_dict(old)
    assert set(again.param_groups[0]) == set(optimizer.param_groups[0])
    assert torch.is_tensor(again.state[params[0]]["step"])
    again.step()


def test_flags_belong_to_the_optimizer() -> None:
    with pytest.raises(ValueError, match="amsgrad belongs to the optimizer, not to a group"):
        RAdam([{"params": parameters(), "amsgrad": True}])
    groups = RAdam([{"params": parameters(), "amsgrad": True}], amsgrad=True).param_groups  # equal: merely left out
    assert set(groups[0]) == set(torch.optim.RAdam(parameters()).param_groups[0])


def test_fused_needs_a_kernel() -> None:
    (p,) = parameters(shapes=[(2,)])
    on_meta = torch.zeros(2, device="meta", requires_grad=True)
    before = p.detach().clone()
    p.grad, on_meta.grad = torch.ones_like(p), torch.ones_like(on_meta)
    with pytest.raises(ValueError, match="fused=True needs floating-point parameters on one of"):
        RAdam([p, on_meta], fused=True).step()
    assert torch.equal(p, before)


def test_capturing_a_graph_needs_capturable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_available", "is_current_stream_capturing"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    params = parameters()
    Gradients().set(params)
    with pytest.raises(RuntimeError, match="capturable=True"):
        RAdam(params).step()


def test_fused_outlives_a_checkpoint_of_foreach() -> None:
    params = parameters()
    optimizer = RAdam(params, fused=True)
    optimizer.load_state_dict(copy.deepcopy(torch.optim.RAdam(params, foreach=True).state_dict()))
    assert optimizer.param_groups[0]["foreach"]
    assert optimizer._implementation(optimizer.param_groups[0], params[0]) == "fused"


@pytest.mark.parametrize("theirs", [RAdam, torch.optim.AdamW])
def test_dropping_amsgrad_is_said(theirs: Any) -> None:
    params = parameters()
    advance(with_maxima := theirs(params, amsgrad=True), params, 3)
    without = RAdam(params)
    with pytest.warns(UserWarning, match="to keep them, build RAdam with amsgrad=True"):
        without.load_state_dict(copy.deepcopy(with_maxima.state_dict()))
    assert list(without.state[params[0]]) == ["step", "exp_avg", "exp_avg_sq"]
    kept = RAdam(params, amsgrad=True)
    kept.load_state_dict(copy.deepcopy(with_maxima.state_dict()))
    assert torch.equal(kept.state[params[0]]["max_exp_avg_sq"], with_maxima.state[params[0]]["max_exp_avg_sq"])


@pytest.mark.parametrize("beta2", [0.5, 2 / 3])
def test_beta2_that_never_rectifies_warns(beta2: float) -> None:
    with pytest.warns(UserWarning, match="RAdam stays momentum SGD") as warned:
        RAdam(parameters(), betas=(0.9, beta2))
    assert warned[0].filename == __file__
