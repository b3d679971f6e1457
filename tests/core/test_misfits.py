"""What does not fit is refused before anything moves: gradients, state and options x implementations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from cases import IMPLEMENTATIONS, advance, flat, parameters, radam
from torch import Tensor

from hf_radam import RAdam
from hf_radam.rectified import rectified

SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "larger": lambda t: torch.zeros(1000, *t.shape[1:], dtype=t.dtype),
    "smaller": lambda t: t[:1].clone(),
    "other_shape": lambda t: t.reshape(-1, t.shape[0]).contiguous(),  # as many elements
}
KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "single": lambda t: t.to(torch.float32),
    "without_memory": lambda t: t.to("meta"),
}


def spoil(optimizer: RAdam, p: Tensor, what: str, change: Any) -> None:
    """Replace data, gradient or an entry of the state; a function makes another of it, None drops it."""
    state = optimizer.state[p]
    if what == "data":
        p.data = change(p.data)
    elif what == "grad":
        assert p.grad is not None
        p.grad.data = change(p.grad.data)
    elif what == "sparse":
        p.grad = torch.eye(5, 3, dtype=p.dtype).to_sparse()
    elif change is None:
        del state[what]
    else:
        state[what] = change(state[what]) if callable(change) else change


COUNT = "the step in the state of .* must be a whole number >= 0, got "
# What is spoilt, how, and the error.
MISFITS: dict[str, tuple[str, Any, str]] = {
    **{f"data_{to}": ("data", by, r"gradient of .* has the shape \(5, 3\), but") for to, by in SHAPES.items()},
    **{f"grad_{to}": ("grad", by, r"gradient of .* but the parameter has \(5, 3\)") for to, by in SHAPES.items()},
    "grad_single": (
        "grad",
        KINDS["single"],
        "gradient of .* is torch.float32 on cpu, but the parameter is torch.float64",
    ),
    "sparse": ("sparse", None, "has a sparse one; build its embedding with sparse=False"),
    "no_step": ("step", None, "the state of .* has no step, only exp_avg, exp_avg_sq"),
    **{f"step_{n}": ("step", torch.tensor(n), COUNT) for n in (float("nan"), float("inf"), -3.0, 2.5)},
    "step_vector": ("step", torch.ones(2), COUNT),
    "step_text": ("step", "7", COUNT + "'7'"),
}
for moment in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
    MISFITS |= {f"{moment}_{to}": (moment, by, f"{moment} of .*, but the param") for to, by in SHAPES.items()}
    MISFITS |= {f"{moment}_{to}": (moment, by, f"{moment} of .* is .* on ") for to, by in KINDS.items()}
    if moment != "max_exp_avg_sq":  # missing maxima begin at zero
        MISFITS[f"no_{moment}"] = (moment, None, f"the state of .* has no {moment}, only .*step.*")


UNREAD = {"step_nan", "step_inf", "step_-3.0", "step_2.5"}  # a step count on a device is not read


@pytest.mark.parametrize("steps", [1, 8])  # in start-up, and rectified
@pytest.mark.parametrize(
    ("name", "misfit"),
    [(name, of) for name in IMPLEMENTATIONS for of in MISFITS if name != "capturable" or of not in UNREAD],
)
def test_what_does_not_fit_is_refused_before_anything_moves(name: str, steps: int, misfit: str) -> None:
    params = parameters(shapes=[(4,), (5, 3), (2,)])
    optimizer = radam(name)([{"params": params[:1]}, {"params": params[1:]}], lr=1e-2, amsgrad="max" in misfit)
    advance(optimizer, params, steps)
    what, change, message = MISFITS[misfit]
    spoil(optimizer, params[1], what, change)
    if misfit.endswith("other_shape") and name in ("fused", "default") and steps == 8:
        optimizer.step()  # the kernel walks over memory: what has as many elements is read rightly
        return
    others = [params[0], params[2]]
    before, states = flat(others), copy.deepcopy([optimizer.state[p] for p in others])
    with pytest.raises(TypeError if misfit == "sparse" else ValueError, match=message) as refused:
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
        r"^exp_avg of parameter 'bias' has the shape \(3,\), but the parameter has \(2,\); after changing a parameter, "
        r"drop its state \(optimizer.state.pop\(p\)\) or load the state of the same model$"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()


def test_the_remedies_work() -> None:
    params = parameters(shapes=[(5, 3)])
    advance(optimizer := RAdam(params, lr=1e-2), params, 8)
    params[0].data = params[0].data.to(torch.float32)
    params[0].grad = None
    with pytest.raises(ValueError, match=r"optimizer\.load_state_dict"):
        advance(optimizer, params, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    advance(optimizer, params, 1)
    params[0].data = SHAPES["larger"](params[0].data)
    optimizer.zero_grad()
    with pytest.raises(ValueError, match=r"optimizer\.state\.pop"):
        advance(optimizer, params, 1)
    optimizer.state.pop(params[0])
    advance(optimizer, params, 1)
    assert optimizer.state[params[0]]["step"] == 1


def test_maxima_that_nobody_asks_for_need_not_fit() -> None:
    params = parameters(shapes=[(5, 3)])
    advance(optimizer := RAdam(params), params, 1)
    optimizer.state[params[0]]["max_exp_avg_sq"] = torch.zeros(1)
    advance(optimizer, params, 1)


def change(part: str, *dropped: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Replaces and drops entries of the first group or state."""

    def act(content: dict[str, Any]) -> None:
        content[part][0].update(values)
        for key in dropped:
            del content[part][0][key]

    return act


group, state = (partial(change, part) for part in ("param_groups", "state"))
# What is done to a state dict, and the error of loading it.
LOADED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "eps": (group(eps=-1.0), "eps must be a number >= 0"),
    "beta2": (group(betas=(0.9, 0.6)), "stays momentum SGD"),
    "both": (group(differentiable=True, foreach=True), "exclude each other"),
    "of SGD": (group("betas", "eps"), "group 0 has no betas and no eps; load the state of an Adam, AdamW or RAdam"),
    "no exp_avg": (state("exp_avg"), "has no exp_avg, only step, exp_avg_sq"),
    "no step": (state("step"), "no step, only exp_avg, exp_avg_sq; .* if its group has the step, set torch"),
    "transposed": (state(exp_avg_sq=torch.zeros(3, 5)), r"exp_avg_sq of .* has the shape \(3, 5\), but .* \(5, 3\)"),
    "maxima": (state(max_exp_avg_sq=torch.zeros(4)), r"max_exp_avg_sq of .* has the shape \(4,\)"),
    **{f"step {step}": (state(step=step), COUNT) for step in (float("nan"), "five", torch.tensor([1.0, 2.0]))},
    **{f"step {n}, a tensor": (state(step=torch.tensor(n)), COUNT + str(n)) for n in (-1.0, float("inf"), 1.5)},
}  # fmt: skip


@pytest.mark.parametrize("cls", [RAdam, rectified(torch.optim.AdamW)])
@pytest.mark.parametrize("case", LOADED)
def test_what_construction_or_a_step_refuses_loading_refuses(cls: Any, case: str) -> None:
    params = parameters()
    advance(optimizer := cls(params, lr=1e-2), params, 1)
    content, before = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer.state_dict())
    act, message = LOADED[case]
    act(content)
    with pytest.raises(UserWarning if case == "beta2" else ValueError, match=message):
        optimizer.load_state_dict(content)
    assert str(optimizer.state_dict()) == str(before)
    optimizer.step()


def test_the_stand_ins_of_a_sharding_parameter_may_be_loaded() -> None:
    """Accelerate loads the optimizer's own state dict while each parameter is `torch.empty(1)`."""
    params = parameters()
    advance(optimizer := RAdam(params), params, 1)
    content = copy.deepcopy(optimizer.state_dict())
    RAdam([torch.empty(1, dtype=torch.float64, requires_grad=True) for _ in params]).load_state_dict(content)


OPTIONS: dict[str, tuple[str, Any, type[Exception], str]] = {
    "lr_inf": ("lr", float("inf"), ValueError, "lr must be a number >= 0, got inf"),
    "lr_text": ("lr", "1e-3", TypeError, "lr must be a number, got '1e-3'"),
    "lr_tensor_nan": ("lr", torch.tensor(float("nan")), ValueError, "lr must be a number >= 0, got nan"),
    "lr_tensor_of_2": ("lr", torch.ones(2), ValueError, "a tensor lr must have 1 element, got 2"),
    "eps_negative": ("eps", -1.0, ValueError, "eps must be a number >= 0, got -1.0"),
    "eps_tensor": ("eps", torch.tensor(1e-8), TypeError, "eps must be a number, got tensor"),
    "decay_true": ("weight_decay", True, TypeError, "weight_decay must be a number, got True"),
    "betas_tensors": ("betas", (torch.tensor(0.9), torch.tensor(0.9)), ValueError, r"betas must be two numbers in \[0"),
    "betas_text": ("betas", "0.9", ValueError, "betas must be two numbers in .*, got '0.9'"),
    "betas_one": ("betas", (0.9, 1.0), ValueError, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
    "betas_alone": ("betas", (0.9,), ValueError, "betas must be two numbers"),
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
    advance(optimizer, params, 3)
    before = flat(params)
    optimizer.param_groups[1].update({key: value, **further})
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(flat(params), before)
    assert {state["step"].item() for state in optimizer.state.values()} == {3.0}


@pytest.mark.parametrize(
    "flag", ["absolute_weight_decay", "degenerated_to_sgd", "optimized_update", "amsgrad", "fused"]
)
def test_flags_of_the_optimizer_are_bools(flag: str) -> None:
    options: dict[str, Any] = {flag: "no"}
    with pytest.raises(TypeError, match=f"{flag} must be True"):
        RAdam(parameters(), **options)


@pytest.mark.parametrize("other", ["foreach", "differentiable"])
def test_fused_stands_alone(other: str) -> None:
    option: dict[str, Any] = {other: True}
    with pytest.raises(ValueError, match=f"{other} and fused exclude each other"):
        RAdam(parameters(), fused=True, **option)
    with pytest.raises(ValueError, match=f"{other} and fused exclude each other"):
        RAdam([{"params": parameters(), **option}], fused=True)


def test_only_a_schedule_may_round_to_less_than_zero() -> None:
    params, lr = parameters(), -1e-20
    for given, options in (([{"params": params, "lr": lr}], {}), (params, {"lr": lr})):
        with pytest.raises(ValueError, match="lr must be a number >= 0, got -1e-20"):
            RAdam(given, **options)  # pyright: ignore[reportArgumentType]
    optimizer = RAdam(params)
    optimizer.param_groups[0]["lr"] = lr
    advance(optimizer, params, 8)
