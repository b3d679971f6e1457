"""What does not fit is refused before anything moves: gradients, state and options x implementations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import IMPLEMENTATIONS, Gradients, advance, flat, parameters, radam
from torch import Tensor

from hf_radam import RAdam


def larger(t: Tensor) -> Tensor:
    return torch.zeros(1000, *t.shape[1:], dtype=t.dtype)


def smaller(t: Tensor) -> Tensor:
    return t[:1].clone()


def other_shape(t: Tensor) -> Tensor:
    """As many elements."""
    return t.reshape(-1, t.shape[0]).contiguous()


def single(t: Tensor) -> Tensor:
    return t.to(torch.float32)


def without_memory(t: Tensor) -> Tensor:
    return t.to("meta")


SHAPES: tuple[Callable[[Tensor], Tensor], ...] = (larger, smaller, other_shape)
KINDS: tuple[Callable[[Tensor], Tensor], ...] = (single, without_memory)


def set_data(change: Callable[[Tensor], Tensor]) -> Callable[[RAdam, Tensor], None]:
    def act(optimizer: RAdam, p: Tensor) -> None:
        p.data = change(p.data)

    return act


def set_gradient(change: Callable[[Tensor], Tensor]) -> Callable[[RAdam, Tensor], None]:
    def act(optimizer: RAdam, p: Tensor) -> None:
        assert p.grad is not None
        p.grad.data = change(p.grad.data)

    return act


def set_state(key: str, value: Any) -> Callable[[RAdam, Tensor], None]:
    """Replace an entry of the state; a function changes it."""

    def act(optimizer: RAdam, p: Tensor) -> None:
        state = optimizer.state[p]
        state[key] = value(state[key]) if callable(value) else value

    return act


def drop_state(key: str) -> Callable[[RAdam, Tensor], None]:
    def act(optimizer: RAdam, p: Tensor) -> None:
        del optimizer.state[p][key]

    return act


def of_state(key: str) -> dict[str, tuple[Callable[[RAdam, Tensor], None], str]]:
    cases = {f"{key}_{change.__name__}": (set_state(key, change), rf"{key} of .*, but the param") for change in SHAPES}
    cases |= {f"{key}_{change.__name__}": (set_state(key, change), rf"{key} of .* is .* on ") for change in KINDS}
    return {**cases, f"no_{key}": (drop_state(key), rf"the state of .* has no {key}, only .*step.*")}


MISFITS: dict[str, tuple[Callable[[RAdam, Tensor], None], str]] = {
    **{f"data_{by.__name__}": (set_data(by), r"gradient of .* has the shape \(5, 3\), but") for by in SHAPES},
    **{f"grad_{by.__name__}": (set_gradient(by), r"gradient of .* but the parameter has \(5, 3\)") for by in SHAPES},
    "grad_single": (set_gradient(single), "gradient of .* is torch.float32 on cpu, but the parameter is torch.float64"),
    **of_state("exp_avg"),
    **of_state("exp_avg_sq"),
    "no_step": (drop_state("step"), "the state of .* has no step, only exp_avg, exp_avg_sq"),
    **{
        f"step_{value}": (set_state("step", torch.tensor(value)), "the step in the state of .* must be a whole number")
        for value in (float("nan"), float("inf"), -3.0, 2.5)
    },
    "step_vector": (set_state("step", torch.ones(2)), "the step in the state of .* must be a whole number"),
    "step_text": (set_state("step", "7"), "the step in the state of .* must be a whole number >= 0, got '7'"),
}  # fmt: skip


UNREAD = {"step_nan", "step_inf", "step_-3.0", "step_2.5"}  # a step count on a device is not read


@pytest.mark.parametrize("steps", [1, 8])  # in start-up, and rectified
@pytest.mark.parametrize(
    ("name", "misfit"),
    [(name, of) for name in IMPLEMENTATIONS for of in MISFITS if name != "capturable" or of not in UNREAD],
)
def test_what_does_not_fit_is_refused_before_anything_moves(name: str, steps: int, misfit: str) -> None:
    params = parameters(shapes=[(4,), (5, 3), (2,)])
    optimizer = radam(name)([{"params": params[:1]}, {"params": params[1:]}], lr=1e-2)
    advance(optimizer, params, steps, Gradients())
    act, message = MISFITS[misfit]
    act(optimizer, params[1])
    if misfit.endswith("other_shape") and name in ("fused", "default") and steps == 8:
        optimizer.step()  # the kernel walks over memory: what has as many elements is read rightly
        return
    others = [params[0], params[2]]
    before, states = flat(others), copy.deepcopy([optimizer.state[p] for p in others])
    with pytest.raises(ValueError, match=message) as refused:
        optimizer.step()
    assert "parameter 0 of group 1" in str(refused.value)
    assert torch.equal(flat(others), before)
    for p, state in zip(others, states, strict=True):
        assert all(torch.equal(optimizer.state[p][key], value) for key, value in state.items())


def test_a_parameter_with_a_name_is_called_by_it() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = RAdam(layer.named_parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.state[layer.bias]["exp_avg"] = torch.zeros(3)
    message = (
        r"^exp_avg of parameter 'bias' has the shape \(3,\), but the parameter has \(2,\); drop the state "
        r"\(optimizer.state.pop\(p\)\) after changing a parameter, or load that of the same model$"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()


def test_the_remedies_work() -> None:
    params = parameters(shapes=[(5, 3)])
    optimizer = RAdam(params, lr=1e-2)
    advance(optimizer, params, 8, Gradients())
    params[0].data = params[0].data.to(torch.float32)
    params[0].grad = None
    with pytest.raises(ValueError, match=r"optimizer\.load_state_dict"):
        advance(optimizer, params, 1, Gradients())
    optimizer.load_state_dict(optimizer.state_dict())
    advance(optimizer, params, 1, Gradients())
    params[0].data = larger(params[0].data)
    optimizer.zero_grad()
    with pytest.raises(ValueError, match=r"optimizer\.state\.pop"):
        advance(optimizer, params, 1, Gradients())
    optimizer.state.pop(params[0])
    advance(optimizer, params, 1, Gradients())
    assert optimizer.state[params[0]]["step"] == 1


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("steps", [1, 8])
def test_the_maxima_must_fit(amsgrad: bool, steps: int) -> None:
    params = parameters(shapes=[(5, 3)])
    optimizer = RAdam(params, amsgrad=amsgrad)
    advance(optimizer, params, steps, Gradients())
    optimizer.state[params[0]]["max_exp_avg_sq"] = torch.zeros(1)
    if not amsgrad:  # then nobody asks them
        advance(optimizer, params, 1, Gradients())
        return
    with pytest.raises(ValueError, match="max_exp_avg_sq of parameter 0 of group 0 has the shape"):
        optimizer.step()


def saved(embeddings: int = 100, **state: Any) -> dict[str, Any]:
    layer = torch.nn.Embedding(embeddings, 4)
    optimizer = RAdam(layer.parameters())
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    content = copy.deepcopy(optimizer.state_dict())
    content["state"][0].update(state)
    content["state"][0] = {key: value for key, value in content["state"][0].items() if value is not None}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(100), r"exp_avg of parameter 0 of group 0 has the shape \(100, 4\), but the parameter has \(200, 4\)"),
        (saved(200, exp_avg_sq=torch.zeros(4, 200)), r"exp_avg_sq of .* has the shape \(4, 200\)"),
        (saved(200, max_exp_avg_sq=torch.zeros(4)), r"max_exp_avg_sq of .* has the shape \(4,\)"),
        (saved(200, exp_avg=None), "has no exp_avg, only step, exp_avg_sq"),
        (
            saved(200, step=None),
            "has no step, only exp_avg, exp_avg_sq; .* if its group counts, give each state a step",
        ),
        (saved(200, step=float("nan")), "the step in the state of .* must be a whole number >= 0, got nan"),
        (saved(200, step=torch.tensor(-1.0)), "whole number >= 0, got -1.0"),
        (saved(200, step=torch.tensor([1.0, 2.0])), "whole number >= 0, got tensor"),
        (saved(200, step="five"), "the step in the state of .* must be a whole number"),
    ],
)
def test_a_state_that_cannot_fit_is_not_loaded(content: dict[str, Any], message: str) -> None:
    layer = torch.nn.Embedding(200, 4)
    optimizer = RAdam(layer.parameters(), lr=0.25)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(content)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(torch.equal(after["state"][0][key], value) for key, value in before["state"][0].items())
    optimizer.step()


def test_the_state_of_another_optimizer_is_not_loaded() -> None:
    params = parameters()
    sgd = torch.optim.SGD(params, momentum=0.9)
    advance(sgd, params, 1, Gradients())
    with pytest.raises(ValueError, match="group 0 has no betas and no eps; load that of an Adam, AdamW or RAdam"):
        RAdam(params).load_state_dict(sgd.state_dict())


def test_the_stand_ins_of_a_sharding_parameter_may_be_loaded() -> None:
    """Accelerate loads the optimizer's own state dict while each parameter is `torch.empty(1)`."""
    params = parameters()
    optimizer = RAdam(params)
    advance(optimizer, params, 1, Gradients())
    content = copy.deepcopy(optimizer.state_dict())
    RAdam([torch.empty(1, dtype=torch.float64, requires_grad=True) for _ in params]).load_state_dict(content)


OPTIONS: dict[str, tuple[str, Any, type[Exception], str]] = {
    "lr_nan": ("lr", float("nan"), ValueError, "lr must be a number >= 0, got nan"),
    "lr_inf": ("lr", float("inf"), ValueError, "lr must be a number >= 0, got inf"),
    "lr_text": ("lr", "1e-3", TypeError, "lr must be a number, got '1e-3'"),
    "lr_tensor_nan": ("lr", torch.tensor(float("nan")), ValueError, "lr must be a number >= 0, got nan"),
    "lr_tensor_of_2": ("lr", torch.ones(2), ValueError, "a tensor lr must have 1 element, got 2"),
    "eps_negative": ("eps", -1.0, ValueError, "eps must be a number >= 0, got -1.0"),
    "eps_tensor": ("eps", torch.tensor(1e-8), TypeError, "eps must be a number, got tensor"),
    "decay_none": ("weight_decay", None, TypeError, "weight_decay must be a number, got None"),
    "decay_true": ("weight_decay", True, TypeError, "weight_decay must be a number, got True"),
    "betas_tensors": ("betas", (torch.tensor(0.9), torch.tensor(0.9)), ValueError, r"betas must be two numbers in \[0"),
    "betas_text": ("betas", "0.9", ValueError, "betas must be two numbers in .*, got '0.9'"),
    "betas_texts": ("betas", ("0.9", "0.99"), ValueError, "betas must be two numbers"),
    "betas_number": ("betas", 0.9, ValueError, "betas must be two numbers"),
    "betas_one": ("betas", (0.9, 1.0), ValueError, "betas must be two numbers"),
    "betas_nan": ("betas", (0.9, float("nan")), ValueError, "betas must be two numbers"),
    "maximize_text": ("maximize", "no", TypeError, "maximize must be True or False, got 'no'"),
    "decoupled_text": ("decoupled_weight_decay", "false", TypeError, "decoupled_weight_decay must be True or False"),
    "capturable_none": ("capturable", None, TypeError, "capturable must be True or False, got None"),
    "foreach_text": ("foreach", "yes", TypeError, "foreach must be True, False or None, got 'yes'"),
    "both": ("differentiable", True, ValueError, "differentiable and capturable exclude each other"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options_are_refused_whenever_they_are_given(case: str) -> None:
    key, value, error, message = OPTIONS[case]
    further = {"capturable": True} if case == "both" else {}
    with pytest.raises(error, match=message):  # before the parameters are looked at
        RAdam(None, **{key: value, **further})  # pyright: ignore[reportArgumentType]
    params = parameters()
    with pytest.raises(error, match=message):
        RAdam([{"params": params, key: value, **further}])
    optimizer = RAdam([{"params": params[:1]}, {"params": params[1:]}])
    advance(optimizer, params, 3, Gradients())
    before = flat(params)
    optimizer.param_groups[1].update({key: value, **further})
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(flat(params), before)
    assert {state["step"].item() for state in optimizer.state.values()} == {3.0}


@pytest.mark.parametrize(
    "flag", ["absolute_weight_decay", "degenerated_to_sgd", "optimized_update", "amsgrad", "fused"]
)
def test_flags_are_bools(flag: str) -> None:
    options: Any = {flag: "no"}
    with pytest.raises(TypeError, match=f"{flag} must be True or False|{flag} must be True, False or None"):
        RAdam(parameters(), **options)


def test_a_schedule_may_round_to_less_than_zero() -> None:
    params = parameters()
    optimizer = RAdam(params)
    optimizer.param_groups[0]["lr"] = -1e-20
    advance(optimizer, params, 8, Gradients())
