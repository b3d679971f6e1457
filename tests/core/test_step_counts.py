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
from cases import Gradients, advance, largest_difference, parameters, train
from safetensors.torch import load, save
from torch import Tensor

from hf_radam import RAdam
from hf_radam.rectified import rectified

CLASSES = {"RAdam": RAdam, "rectified": rectified(torch.optim.AdamW)}
STEPS = 8  # the sixth is the first rectified one


def through_dcp(optimizer: Any, folder: Path) -> Any:
    state = {f"{i}.{key}": value for i, of_p in optimizer.state_dict()["state"].items() for key, value in of_p.items()}
    dcp.save(state, checkpoint_id=folder)
    loaded = {key: torch.full_like(value, 7.0) for key, value in state.items()}
    dcp.load(loaded, checkpoint_id=folder)
    return with_state(optimizer, loaded)


def through_safetensors(optimizer: Any, folder: Path) -> Any:
    state = {f"{i}.{key}": value for i, of_p in optimizer.state_dict()["state"].items() for key, value in of_p.items()}
    return with_state(optimizer, load(save({key: value.clone() for key, value in state.items()})))


def with_state(optimizer: Any, flat_state: dict[str, Tensor]) -> Any:
    content = copy.deepcopy(optimizer.state_dict())
    for name, value in flat_state.items():
        index, key = name.split(".")
        content["state"][int(index)][key] = value
    return through_load(optimizer, content)


def through_load(optimizer: Any, content: dict[str, Any]) -> Any:
    params = [p.detach().clone().requires_grad_() for p in optimizer.param_groups[0]["params"]]
    other = type(optimizer)(params, lr=99.0)
    other.load_state_dict(content)
    return other


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "deepcopy": lambda optimizer, _: copy.deepcopy(optimizer),
    "pickle": lambda optimizer, _: pickle.loads(pickle.dumps(optimizer)),
    "the live state dict": lambda optimizer, _: through_load(
        optimizer, {**optimizer.state_dict(), "state": {i: {**s, "exp_avg": s["exp_avg"].clone(),
        "exp_avg_sq": s["exp_avg_sq"].clone()} for i, s in optimizer.state_dict()["state"].items()}}
    ),
    "distributed checkpoint": through_dcp,
    "safetensors": through_safetensors,
}  # fmt: skip


# PyTorch's classes go on counting in a live state dict that another has loaded, and so does what is made of them.
@pytest.mark.parametrize(
    ("cls", "way"),
    [(cls, way) for cls in CLASSES for way in WAYS if (cls, way) != ("rectified", "the live state dict")],
)
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_copy_counts_for_itself(cls: str, way: str, tmp_path: Path) -> None:
    """With counts of its own, though state dicts hand the same tensors on; both go on as one would have."""
    params = parameters()
    optimizer = CLASSES[cls](params, lr=1e-2)
    advance(optimizer, params, STEPS, Gradients())
    other = WAYS[way](optimizer, tmp_path)
    others = other.param_groups[0]["params"]
    advance(optimizer, params, 3, Gradients(2))
    assert {other.state[p]["step"].item() for p in others} == {STEPS}
    assert torch.equal(advance(other, others, 3, Gradients(2)), torch.cat([p.detach().reshape(-1) for p in params]))
    assert {optimizer.state[p]["step"].item() for p in params} == {STEPS + 3}


@pytest.mark.parametrize("theirs", [torch.optim.RAdam, torch.optim.AdamW])
def test_two_optimizers_exchange_their_state(theirs: Any) -> None:
    """torch's class takes our live state dict and we its, step by step; as if one class had done it all."""
    params, reference = parameters(), parameters()
    options: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99)}
    pair, gradients = [RAdam(params, **options), torch.optim.RAdam(params, **options)], Gradients()
    straight = torch.optim.RAdam(reference, **options)
    for step in range(12):
        advance(pair[step % 2], params, 1, gradients)
        pair[(step + 1) % 2].load_state_dict(pair[step % 2].state_dict())
        if theirs is torch.optim.AdamW:  # on the way, which must change nothing
            theirs(params).load_state_dict(pair[step % 2].state_dict())
    expected = advance(straight, reference, 12, Gradients())
    assert largest_difference(torch.cat([p.detach().reshape(-1) for p in params]), expected) < 1e-12


RESETS: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda step: step.zero_(),
    "through .data": lambda step: step.data.zero_(),
    "through numpy": lambda step: step.numpy().fill(0),
    "by a copy": lambda step: step.copy_(torch.zeros(())),
    "by other memory": lambda step: setattr(step, "data", torch.zeros(())),
}


@pytest.mark.parametrize("way", RESETS)
@pytest.mark.parametrize("cls", CLASSES)
def test_a_count_that_is_written_is_read(cls: str, way: str) -> None:
    params = parameters()
    optimizer = CLASSES[cls](params, lr=1e-2)
    advance(optimizer, params, STEPS, Gradients())
    for p in params:
        RESETS[way](optimizer.state[p]["step"])
        for key in ("exp_avg", "exp_avg_sq"):
            optimizer.state[p][key].zero_()
    anew = [p.detach().clone().requires_grad_() for p in params]
    expected = advance(CLASSES[cls](anew, lr=1e-2), anew, STEPS, Gradients(2))
    assert torch.equal(advance(optimizer, params, STEPS, Gradients(2)), expected)


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_join_late(cls: str) -> None:
    params = parameters()
    optimizer, gradients = CLASSES[cls](params[:2], lr=1e-2), Gradients()
    advance(optimizer, params[:2], STEPS, gradients)
    optimizer.add_param_group({"params": params[2:]})
    advance(optimizer, params, STEPS, gradients)
    counts = [optimizer.state[p]["step"].item() for p in params]
    assert counts == [2 * STEPS, 2 * STEPS, STEPS, STEPS]


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
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in params]), train(CLASSES[cls], reference, STEPS))
