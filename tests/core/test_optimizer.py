"""RAdam: properties x implementations x flags x dtypes."""

from __future__ import annotations

import copy
import io
import math
import pickle
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
    flat,
    largest_difference,
    parameters,
    radam,
    train,
)
from torch import Tensor

from hf_radam import RAdam
from hf_radam.training.callbacks import rectification_progress

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


@implementations
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.9), (0.9, 0.6)])
@pytest.mark.filterwarnings("ignore:with beta2 = 0.6")
def test_equals_torch(name: str, decoupled: bool, maximize: bool, betas: tuple[float, float]) -> None:
    options = {"weight_decay": 0.1, "decoupled_weight_decay": decoupled, "maximize": maximize, "betas": betas}
    theirs = train(torch.optim.RAdam, parameters(), steps=200, **options)
    ours = train(radam(name), parameters(), steps=200, **options)
    assert largest_difference(ours, theirs) < FLOAT64


@implementations
@pytest.mark.parametrize(
    ("weight_decay", "expected"),
    [
        (0.0, ([0.985769, 1.985269], [2.986119, 3.986068])),
        (0.01, ([0.984775, 1.983276], [2.983125, 3.982076])),
    ],
)
def test_golden_numbers_of_tensorflow_addons(name: str, weight_decay: float, expected: Any) -> None:
    params = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)]
    optimizer = radam(name)(params, lr=1e-3, weight_decay=weight_decay, eps=1e-7)
    for _ in range(100):
        for p, grad in zip(params, ([0.1, 0.2], [0.03, 0.04]), strict=True):
            p.grad = torch.tensor(grad)
        optimizer.step()
    for p, values in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach(), torch.tensor(values), atol=1e-5, rtol=0)


@fast
@flags
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_implementations_agree(name: str, flags: dict[str, Any], dtype: torch.dtype) -> None:
    # Low precision is judged against the for-loop in float32: one in bf16 would hide its own drift.
    reference = train(radam("for_loop"), parameters(max(dtype, torch.float32, key=lambda d: d.itemsize)), **flags)
    assert largest_difference(train(radam(name), parameters(dtype), **flags), reference) < TOLERANCES[dtype]


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


def transposed(p: Tensor) -> Tensor:
    return p.t().contiguous().t()


def sliced(p: Tensor) -> Tensor:
    return torch.full((p.shape[0], 2 * p.shape[1]), 7.0, dtype=p.dtype)[:, ::2].copy_(p)


def expanded(p: Tensor) -> Tensor:
    return p[:1].expand(p.shape)


@implementations
@flags
@pytest.mark.parametrize("of_parameter", [torch.clone, transposed, sliced])
@pytest.mark.parametrize("of_gradient", [torch.clone, transposed, sliced, expanded])
def test_memory_layout_does_not_matter(name: str, flags: dict[str, Any], of_parameter: Any, of_gradient: Any) -> None:
    start = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, odd = start.clone().requires_grad_(), of_parameter(start).detach().requires_grad_()
    reference, optimizer = RAdam([plain], lr=1e-2, foreach=False, **flags), radam(name)([odd], lr=1e-2, **flags)
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        grad = of_gradient(torch.randn(4, 3, dtype=torch.float64, generator=generator))
        plain.grad, odd.grad = grad.clone(), grad
        reference.step()
        optimizer.step()
    assert largest_difference(odd.detach(), plain.detach()) < FLOAT64
    if of_parameter is sliced:  # the elements between those of the slice belong to somebody else
        base = odd.as_strided((4, 3), odd.stride(), odd.storage_offset() + 1)
        assert (base == 7.0).all()


@implementations
def test_a_loaded_state_of_another_layout_is_used_rightly(name: str) -> None:
    params, odd = parameters(shapes=[(4, 3)]), [transposed(parameters(shapes=[(4, 3)])[0].detach()).requires_grad_()]
    gradients, optimizer, other = Gradients(), RAdam(params, lr=1e-2), radam(name)(odd, lr=1e-2)
    advance(optimizer, params, 8, gradients)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.param_groups[0].update(IMPLEMENTATIONS[name])  # loading sets the saved options
    other.__setstate__(other.__getstate__())
    odd[0].data.copy_(params[0].data)
    later = copy.deepcopy(gradients.generator.get_state())
    advance(optimizer, params, 8, gradients)
    gradients.generator.set_state(later)
    advance(other, odd, 8, gradients)
    assert largest_difference(odd[0].detach(), params[0].detach()) < FLOAT64


@implementations
def test_groups_have_their_own_options(name: str) -> None:
    a, b = parameters(shapes=[(3, 2), (3, 2)])
    options = ({"lr": 1e-2, "weight_decay": 0.1}, {"lr": 1e-3, "betas": (0.8, 0.95), "eps": 1e-4})
    together = radam(name)([{"params": [p], **o} for p, o in zip((a, b), options, strict=True)])
    gradients = Gradients()
    advance(together, [a, b], 20, gradients)

    alone = parameters(shapes=[(3, 2), (3, 2)])
    optimizers = [radam(name)([p], **o) for p, o in zip(alone, options, strict=True)]
    gradients = Gradients()
    for _ in range(20):
        gradients.set(alone)
        for optimizer in optimizers:
            optimizer.step()
    assert largest_difference(flat([a, b]), flat(alone)) == 0.0


@implementations
def test_missing_gradients_and_unlike_step_counts(name: str) -> None:
    params, reference = parameters(), parameters()
    ours, theirs = radam(name)(params, lr=1e-2), torch.optim.RAdam(reference, lr=1e-2)
    gradients = Gradients()
    for step in range(30):
        gradients.set(params)
        for i, (p, q) in enumerate(zip(params, reference, strict=True)):
            if step < 5 * i or step % (i + 2) == 1:  # the later parameters join later, and all miss some steps
                p.grad = None
            q.grad = None if p.grad is None else p.grad.clone()
        ours.step()
        theirs.step()
    assert largest_difference(flat(params), flat(reference)) < FLOAT64
    assert len({ours.state[p]["step"].item() for p in params}) > 2


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
def test_state_has_the_form_of_torch(name: str, flags: dict[str, Any]) -> None:
    params = parameters(torch.bfloat16)
    optimizer = radam(name)(params, lr=1e-2, **flags)
    Gradients().set(params)
    optimizer.step()
    theirs = torch.optim.RAdam(parameters(torch.bfloat16))
    assert set(optimizer.param_groups[0]) == set(theirs.param_groups[0])
    for p in params:
        state = optimizer.state[p]
        assert list(state) == ["step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if optimizer.amsgrad else [])]
        assert state["step"].shape == ()
        assert state["step"].dtype == torch.float32
        assert all(state[key].dtype == p.dtype and state[key].shape == p.shape for key in list(state)[1:])


@implementations
@flags
def test_gradients_are_only_read(name: str, flags: dict[str, Any]) -> None:
    params = parameters()
    optimizer, gradients = radam(name)(params, lr=1e-2, **flags), Gradients()
    for _ in range(8):
        gradients.set(params)
        before = [(p.grad, p.grad.clone()) for p in params if p.grad is not None]
        optimizer.step()
        assert all(p.grad is grad and torch.equal(grad, copy) for p, (grad, copy) in zip(params, before, strict=True))


@implementations
@flags
def test_deterministic(name: str, flags: dict[str, Any]) -> None:
    assert torch.equal(train(radam(name), parameters(), **flags), train(radam(name), parameters(), **flags))


@implementations
@flags
def test_tensor_lr_is_a_number_in_a_tensor(name: str, flags: dict[str, Any]) -> None:
    params, reference = parameters(), parameters()
    lr = torch.tensor(1e-2, dtype=torch.float64)
    ours, theirs = radam(name)(params, lr=lr, **flags), radam(name)(reference, lr=1e-2, **flags)
    gradients, same_gradients = Gradients(), Gradients()
    advance(ours, params, 10, gradients)
    advance(theirs, reference, 10, same_gradients)
    lr.fill_(1e-3)
    theirs.param_groups[0]["lr"] = 1e-3
    advance(ours, params, 10, gradients)
    advance(theirs, reference, 10, same_gradients)
    assert largest_difference(flat(params), flat(reference)) < FLOAT64


@implementations
@flags
def test_at_lr_zero_nothing_moves(name: str, flags: dict[str, Any]) -> None:
    # Checkpoint loaders take a step with lr = 0 and zero gradients; a schedule may begin at 0.
    params = parameters()
    optimizer = radam(name)(params, lr=0.0, **flags)
    before = flat(params)
    for _ in range(8):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert torch.equal(flat(params), before)


@implementations
def test_converges(name: str) -> None:
    target = torch.tensor([1.0, -2.0, 3.0])
    p = torch.zeros(3, requires_grad=True)
    optimizer = radam(name)([p], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p - target).square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(300)]
    assert losses[0] == pytest.approx(14.0)
    assert losses[-1] < 1e-3


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
    params, gradients = parameters(), Gradients()
    optimizer = radam(name)(params, lr=1e-2, **flags)
    advance(optimizer, params, saved_after, gradients)
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), [p.detach() for p in params], gradients.generator.get_state()], file)
    straight = advance(optimizer, params, 10, gradients)

    file.seek(0)
    state, values, generator = torch.load(file, weights_only=True)
    resumed = [p.requires_grad_() for p in values]
    again = radam(name)(resumed, lr=99.0, **flags)
    again.load_state_dict(state)
    gradients.generator.set_state(generator)
    assert torch.equal(advance(again, resumed, 10, gradients), straight)


@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if name != "capturable"])  # torch's needs a GPU
@pytest.mark.parametrize("saved_after", [3, 12])
@pytest.mark.parametrize("theirs", [torch.optim.RAdam, torch.optim.AdamW])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_checkpoints_interchange_with_torch(name: str, saved_after: int, theirs: Any, direction: str) -> None:
    """Save with one class, go on with the other: as if its state had been carried over by hand."""
    options = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.99)}
    classes = {"to": (radam(name), theirs), "from": (theirs, radam(name))}[direction]
    params, gradients = parameters(), Gradients()
    first = classes[0](params, **options)
    advance(first, params, saved_after, gradients)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = classes[1](params, **options)
    second.load_state_dict(torch.load(file, weights_only=True))
    moments = [{key: value.clone() for key, value in first.state[p].items()} for p in params]
    by_hand = [p.detach().clone().requires_grad_() for p in params]
    third = classes[1](by_hand, **options)
    third.param_groups[0]["decoupled_weight_decay"] = second.param_groups[0]["decoupled_weight_decay"]
    for p, state in zip(by_hand, moments, strict=True):
        third.state[p] = state
    later = gradients.generator.get_state()
    went_on = advance(second, params, 10, gradients)
    gradients.generator.set_state(later)
    assert largest_difference(went_on, advance(third, by_hand, 10, gradients)) < FLOAT64
    if isinstance(second, RAdam):
        assert set(second.param_groups[0]) == set(torch.optim.RAdam(parameters()).param_groups[0])


def test_continuing_torch_radam_is_as_if_it_had_never_stopped() -> None:
    params, reference = parameters(), parameters()
    gradients, same_gradients = Gradients(), Gradients()
    theirs, straight = (torch.optim.RAdam(ps, lr=1e-2, weight_decay=0.1) for ps in (params, reference))
    advance(theirs, params, 4, gradients)
    ours = RAdam(params)
    ours.load_state_dict(theirs.state_dict())
    advance(ours, params, 20, gradients)
    advance(straight, reference, 24, same_gradients)
    assert largest_difference(flat(params), flat(reference)) < FLOAT64


def test_old_checkpoints_are_completed() -> None:
    params = parameters()
    optimizer = RAdam(params)
    Gradients().set(params)
    optimizer.step()
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


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])
def test_copies_keep_flags(duplicate: Any) -> None:
    given: dict[str, Any] = {
        "degenerated_to_sgd": False,
        "amsgrad": True,
        "optimized_update": False,
        "absolute_weight_decay": True,
    }
    again = duplicate(RAdam(parameters(), foreach=False, **given))
    assert {key: getattr(again, key) for key in given} == given


def test_grad_scaler_skips_a_step_whole() -> None:
    params = parameters(torch.float32, shapes=[(3,)])
    optimizer, scaler = RAdam(params, lr=1e-2), torch.amp.GradScaler("cpu", init_scale=4.0)
    for grad, steps in ((1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, 2)):
        before = params[0].detach().clone()
        scaler.scale(params[0].sum()).backward()
        params[0].grad = torch.full((3,), grad)
        scaler.step(optimizer)
        scaler.update()
        assert optimizer.state[params[0]]["step"] == steps
        assert torch.equal(params[0], before) != math.isfinite(grad)
        optimizer.zero_grad()


def test_torch_learning_rate_scheduler() -> None:
    params = parameters()
    optimizer = RAdam(params, lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    Gradients().set(params)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be a number >= 0, got -1.0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": torch.ones(2)}, "1 element, got 2"),
        ({"betas": (1.0, 0.999)}, r"betas must be two numbers in \[0, 1\), got \(1.0, 0.999\)"),
        ({"betas": (0.9,)}, "betas must be"),
        ({"eps": -1e-8}, "eps must be"),
        ({"weight_decay": -0.1}, "weight_decay must be"),
        ({"foreach": True, "fused": True}, "foreach and fused exclude each other"),
        ({"fused": True, "differentiable": True}, "differentiable and fused exclude each other"),
        ({"capturable": True, "differentiable": True}, "differentiable and capturable exclude each other"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RAdam(parameters(), **options)
    with pytest.raises(ValueError, match=message):
        RAdam([{"params": parameters(), **options}], fused=options.get("fused"))


@pytest.mark.parametrize(("name", "value"), [("lr", "1e-3"), ("eps", None), ("weight_decay", "0.1")])
def test_wrong_types_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a number, got {value!r}"):
        RAdam(parameters(), **{name: value})


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


def test_progress_is_known_where_groups_are_empty_between_steps() -> None:
    """As under ZeRO-3."""
    params = parameters()
    optimizer = RAdam(params, betas=(0.9, 0.99))
    advance(optimizer, params, 7, Gradients())
    optimizer.param_groups[0]["params"] = []
    assert rectification_progress(optimizer) == (7, 0.99)


@pytest.mark.parametrize("theirs", [RAdam, torch.optim.AdamW])
def test_dropping_amsgrad_is_said(theirs: Any) -> None:
    params = parameters()
    with_maxima = theirs(params, amsgrad=True)
    advance(with_maxima, params, 3, Gradients())
    without = RAdam(params)
    with pytest.warns(UserWarning, match="pass amsgrad=True to keep them"):
        without.load_state_dict(copy.deepcopy(with_maxima.state_dict()))
    assert list(without.state[params[0]]) == ["step", "exp_avg", "exp_avg_sq"]
    kept = RAdam(params, amsgrad=True)
    kept.load_state_dict(copy.deepcopy(with_maxima.state_dict()))
    assert torch.equal(kept.state[params[0]]["max_exp_avg_sq"], with_maxima.state[params[0]]["max_exp_avg_sq"])


def test_sparse_gradients_are_refused_before_anything_moves() -> None:
    dense, sparse = parameters(shapes=[(2, 2), (2, 2)])
    optimizer = RAdam([dense, sparse])
    Gradients().set([dense])
    sparse.grad = torch.eye(2, dtype=torch.float64).to_sparse()
    before = flat([dense, sparse])
    with pytest.raises(TypeError, match=r"sparse=False"):
        optimizer.step()
    assert torch.equal(flat([dense, sparse]), before)
    assert optimizer.state[dense]["step"] == 0


@pytest.mark.parametrize("beta2", [0.5, 2 / 3])
def test_beta2_that_never_rectifies_warns(beta2: float) -> None:
    with pytest.warns(UserWarning, match="RAdam stays momentum SGD") as warned:
        RAdam(parameters(), betas=(0.9, beta2))
    assert warned[0].filename == __file__


def test_calc_rectification_term() -> None:
    assert RAdam.calc_rectification_term(0.999, 5) is None
    assert RAdam.calc_rectification_term(0.999, 6) == pytest.approx(0.0258, abs=5e-5)
