"""Step counts: views of one vector, and still each parameter's own for whoever reads, writes, copies or loads them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from cases import Gradients, advance, clones, flat, largest_difference, parameters, train
from safetensors.torch import load, save
from torch import Tensor

from hf_radam import RAdam
from hf_radam.libraries import Kernel
from hf_radam.rectified import RectifiedMixin, rectified

CLASSES = {"RAdam": RAdam, "rectified": rectified(torch.optim.AdamW)}
STEPS = 8  # the sixth is the first rectified one


class OnRoot(RectifiedMixin, torch.optim.AdamW):
    kernel = Kernel(eps_on="sqrt(v)", forgets=("size",))


# With flags that no group knows.
FLAGS: dict[str, Any] = {"degenerated_to_sgd": False, "optimized_update": False}
FLAGGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "RAdam": (RAdam, {**FLAGS, "amsgrad": True, "absolute_weight_decay": True, "weight_decay": 1e-3}),
    "rectified": (CLASSES["rectified"], FLAGS),
    "of one's own": (OnRoot, FLAGS),
}


def state_of(optimizer: Any, suffix: str = "") -> dict[str, Tensor]:
    """The live tensors of a state dict."""
    flat = {f"{i}.{key}": value for i, of_p in optimizer.state_dict()["state"].items() for key, value in of_p.items()}
    return {name: value for name, value in flat.items() if name.endswith(suffix)}


def with_state(optimizer: Any, state: dict[str, Tensor]) -> Any:
    """A copy that has loaded this state."""
    content, other = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer)
    for name, value in state.items():
        index, key = name.split(".")
        content["state"][int(index)][key] = value
    other.state.clear()
    other.load_state_dict(content)
    return other


def through_dcp(optimizer: Any, folder: Path) -> Any:
    dcp.save(state := state_of(optimizer), checkpoint_id=folder)
    loaded = {key: torch.full_like(value, 7.0) for key, value in state.items()}
    dcp.load(loaded, checkpoint_id=folder)
    return with_state(optimizer, loaded)


def through_safetensors(optimizer: Any, _: Path) -> Any:
    return with_state(optimizer, load(save({key: value.clone() for key, value in state_of(optimizer).items()})))


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "deepcopy": lambda optimizer, _: copy.deepcopy(optimizer),
    "pickle": lambda optimizer, _: pickle.loads(pickle.dumps(optimizer)),
    "the live state dict": lambda optimizer, _: with_state(optimizer, state_of(optimizer, ".step")),
    "distributed checkpoint": through_dcp,
    "safetensors": through_safetensors,
}


# PyTorch's classes go on counting in a live state dict that another has loaded, and so does what is made of them.
@pytest.mark.parametrize(
    ("cls", "way"),
    [(cls, way) for cls in FLAGGED for way in WAYS if cls == "RAdam" or way != "the live state dict"],
)
@pytest.mark.filterwarnings("ignore:torch.distributed is|TypedStorage is")  # the latter: torch 2.7 itself uses it
def test_a_copy_counts_for_itself(cls: str, way: str, tmp_path: Path) -> None:
    """With counts of its own, though state dicts hand the same tensors on; both go on as one would have."""
    params, (made_of, options) = parameters(), FLAGGED[cls]
    advance(optimizer := made_of(params, lr=1e-2, eps=1.0, **options), params, 3)  # in start-up; 3 more end it
    other = WAYS[way](optimizer, tmp_path)
    others = other.param_groups[0]["params"]
    expected = advance(optimizer, params, 3, Gradients(2))
    assert {other.state[p]["step"].item() for p in others} == {3}
    assert torch.equal(advance(other, others, 3, Gradients(2)), expected)
    assert {optimizer.state[p]["step"].item() for p in params} == {6}
    assert type(other) is made_of
    assert other.state[others[0]].keys() == optimizer.state[params[0]].keys()


def test_two_optimizers_exchange_their_state() -> None:
    """torch's class takes our live state dict and we its, step by step; as if one class had done it all."""
    params, reference = parameters(), parameters()
    options: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    pair, gradients = [torch.optim.RAdam(params, **options), RAdam(params)], Gradients()
    for step in range(12):
        advance(pair[step % 2], params, 1, gradients)
        pair[(step + 1) % 2].load_state_dict(pair[step % 2].state_dict())
    assert largest_difference(flat(params), train(torch.optim.RAdam, reference, 12, **options)) < 1e-12


RESETS: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda step: step.zero_(),
    "through .data": lambda step: step.data.zero_(),
    "through numpy": lambda step: step.numpy().fill(0),
    "by other memory": lambda step: setattr(step, "data", torch.zeros(())),
}


@pytest.mark.parametrize("way", RESETS)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_count_that_is_written_is_read(cls: str, way: str) -> None:
    params = parameters()
    optimizer = CLASSES[cls](params, lr=1e-2)
    advance(optimizer, params, STEPS)
    for p in params:
        RESETS[way](optimizer.state[p]["step"])
        for key in ("exp_avg", "exp_avg_sq"):
            optimizer.state[p][key].zero_()
    expected = train(CLASSES[cls], clones(params), STEPS, Gradients(2))
    assert torch.equal(advance(optimizer, params, STEPS, Gradients(2)), expected)


@pytest.mark.parametrize("inside", [range(STEPS), range(3), range(3, 6)], ids=["all", "first", "some"])
@pytest.mark.parametrize("cls", CLASSES)
def test_steps_in_inference_mode_are_steps(cls: str, inside: range) -> None:
    if cls == "rectified" and 0 in inside and len(inside) < STEPS:
        pytest.skip("torch.optim.AdamW itself makes state in inference mode that no later step may change")
    params, reference = parameters(), parameters()
    optimizer, gradients = CLASSES[cls](params, lr=1e-2), Gradients()
    for step in range(STEPS):
        gradients.set(params)
        with torch.inference_mode(step in inside):
            optimizer.step()
    assert torch.equal(flat(params), train(CLASSES[cls], reference, STEPS))


@pytest.mark.parametrize("cls", CLASSES)
def test_parameters_that_step_one_by_one(cls: str) -> None:
    """As under DeepSpeed's ZeRO-3, which gives a group one parameter for a step and leaves the others empty."""
    params, gradients = parameters(), Gradients()
    optimizer = CLASSES[cls]([{"params": params[:1]}, {"params": params[1:]}], lr=1e-2)
    for _ in range(STEPS):
        gradients.set(params)
        for p in params:
            first, second = optimizer.param_groups
            first["params"], second["params"] = ([p], []) if p is params[0] else ([], [p])
            optimizer.step()
    assert torch.equal(flat(params), train(CLASSES[cls], parameters(), STEPS))
