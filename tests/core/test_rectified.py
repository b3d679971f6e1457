"""RAdam from the AdamW of any library: the same step as class RAdam's, as exactly as the library's own AdamW."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adamw_kernels import KERNELS, TORCH, kernels
from cases import FLAGS, Gradients, advance, flat, largest_difference, parameters, through_a_file, train, with_gaps
from torch import Tensor

from hf_radam import RAdam
from hf_radam.libraries import Kernel
from hf_radam.rectified import RectifiedMixin, rectified

SHAPES = ((64, 64), (128, 32), (7,))  # the first two are large enough for state in 8 bits
OPTIONS: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}
# Libraries that round to float32 differ by some roundings in the last place.
SLACK = 1.1


def make(name: str) -> Callable[..., Any]:
    kernel = KERNELS[name]
    return lambda params, **options: rectified(kernel.load())(params, **{**kernel.options, **options})


def distances(make: Callable[..., Any], dtype: torch.dtype, reference: dict[int, Tensor] | None = None) -> Any:
    """How far parameters have moved after 5, 6 and 60 steps; with a reference, the distance relative to that."""
    params = parameters(dtype, SHAPES)
    start, optimizer, gradients = flat(params), make(params, **OPTIONS), Gradients()
    moved = {}
    for until, steps in ((5, 5), (6, 1), (60, 54)):
        moved[until] = advance(optimizer, params, steps, gradients) - start
    if reference is None:
        return moved
    return [((moved[t] - reference[t]).norm() / reference[t].norm()).item() for t in moved]


@functools.cache
def _references() -> tuple[dict[int, Tensor], dict[int, Tensor], list[float]]:
    radam = distances(functools.partial(torch.optim.RAdam, decoupled_weight_decay=True), torch.float64)
    adamw = distances(torch.optim.AdamW, torch.float64)
    return radam, adamw, distances(RAdam, torch.float32, radam)


@pytest.mark.parametrize("name", kernels())
def test_step_is_as_near_to_radam_as_the_librarys_adamw_is_to_adamw(name: str) -> None:
    radam, adamw, rounding = _references()
    plain = distances(lambda params, **options: KERNELS[name].load()(params, **KERNELS[name].options, **options),
                      torch.float32, adamw)  # fmt: skip
    ours = distances(make(name), torch.float32, radam)
    limits = [SLACK * max(pair) for pair in zip(plain, rounding, strict=True)]
    assert all(a <= b for a, b in zip(ours, limits, strict=True)), (ours, limits)


@pytest.mark.parametrize("flags", [name for name in FLAGS if name != "absolute"])
@pytest.mark.parametrize("name", TORCH)
def test_options_mean_what_they_mean_in_class_radam(name: str, flags: str) -> None:
    options = dict(FLAGS[flags])
    expected = train(RAdam, parameters(), **options)
    decoupled = options.pop("decoupled_weight_decay", True)
    cls = rectified(torch.optim.AdamW if decoupled else torch.optim.Adam)
    found = train(cls, parameters(), **KERNELS[name].options, **{"weight_decay": 0.0, **options})
    assert largest_difference(found, expected) < 1e-12


@pytest.mark.parametrize("name", kernels())
def test_each_step_count_gets_its_own_scalars(name: str) -> None:
    """Without decay, which GaLore and APOLLO take after the step instead of before it."""
    double = KERNELS[name].target.startswith("torch.")
    dtype, tolerance = (torch.float64, 1e-12) if double else (torch.float32, 1e-6)
    shapes = ((8, 4), (6,), (5,))
    assert largest_difference(with_gaps(make(name), dtype, shapes), with_gaps(RAdam, dtype, shapes)) < tolerance


@pytest.mark.parametrize("name", kernels())
def test_a_rate_of_zero_moves_no_weight(name: str) -> None:
    before = flat(params := parameters(torch.float32))
    assert torch.equal(train(make(name), params, steps=8, lr=0.0, weight_decay=0.1), before)


@pytest.mark.parametrize("name", kernels())
def test_groups_and_state_are_the_parents(name: str) -> None:
    params = [parameters(torch.float32), parameters(torch.float32)]
    plain = KERNELS[name].load()(params[0], **KERNELS[name].options, **OPTIONS)
    ours = make(name)(params[1], **OPTIONS)
    rates = [group["lr"] for group in ours.param_groups]
    for optimizer, of_one in zip((plain, ours), params, strict=True):
        advance(optimizer, of_one, 7)
    assert [group["lr"] is lr for group, lr in zip(ours.param_groups, rates, strict=True)] == [True]
    groups = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (plain, ours)]
    assert groups[0] == groups[1]
    assert [set(state) for state in plain.state.values()] == [set(state) for state in ours.state.values()]


@pytest.mark.parametrize("saved_after", [3, 8])
@pytest.mark.parametrize("name", kernels())
def test_resume_is_bitwise(name: str, saved_after: int) -> None:
    params = parameters(torch.float32, SHAPES)
    advance(optimizer := make(name)(params, **OPTIONS), params, saved_after)
    saved, weights = through_a_file([optimizer.state_dict(), params], KERNELS[name].weights_only)
    resumed = make(name)(weights, **OPTIONS)
    resumed.load_state_dict(saved)
    expected = advance(optimizer, params, 5, Gradients(2))
    assert torch.equal(advance(resumed, weights, 5, Gradients(2)), expected)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("cls", [RAdam, rectified(torch.optim.AdamW)])
def test_schedulers_hooks_and_closures_see_one_step(cls: Any, scheduled: bool) -> None:
    torch.optim.AdamW(parameters())  # from here on torch's own step runs the hooks as well
    params, calls = parameters(), []
    optimizer = cls(params, lr=1e-2)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step) if scheduled else None
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()

    def closure() -> float:
        calls.append("loss")
        torch.stack([p.sum() for p in params]).sum().backward()  # with gradients, which a step has not
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert calls == ["before", "after", "before", "loss", "after"]
    if scheduler is not None:
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == (5e-3 if scheduled else 1e-2)


def test_numbers_come_back_when_the_step_raises() -> None:
    class Breaks(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError("broken")

    params = parameters()
    with pytest.raises(ValueError, match=r"cannot step on small test parameters .*broken.*RectifiedMixin, Breaks"):
        rectified(Breaks)(params)
    cls = type("MyRAdam", (RectifiedMixin, Breaks), {"kernel": Kernel()})
    optimizer: Any = cls(params, lr=1e-2, eps=1e-6, weight_decay=0.1)
    Gradients().set(params)
    params[0].requires_grad_(False).grad = None
    grads = [p.grad for p in params]
    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step()
    assert [optimizer.param_groups[0][key] for key in ("lr", "eps", "weight_decay")] == [1e-2, 1e-6, 0.1]
    assert [p.grad is grad for p, grad in zip(params, grads, strict=True)] == [True] * len(params)


def test_a_group_that_is_refused_is_not_added() -> None:
    optimizer = rectified(torch.optim.AdamW)((params := parameters())[:1])
    with pytest.raises(ValueError, match="lr must be a number >= 0, got nan"):
        optimizer.add_param_group({"params": params[1:], "lr": float("nan")})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("config", [{"weight_decay": 0.1}, {"lr": 1e-5, "betas": (0.9, 0.98)}, {"optim_bits": 32}])
@pytest.mark.parametrize("name", kernels("bitsandbytes 8"))
def test_numbers_of_one_parameter_are_refused(name: str, config: dict[str, Any]) -> None:
    """bitsandbytes would put its manager's weight decay beside RAdam's rate: infinities in start-up."""
    layer = torch.nn.Linear(64, 64)
    optimizer = make(name)(layer.parameters())
    optimizer.mng.register_module_override(layer, "weight", config)
    Gradients().set(list(layer.parameters()))
    try:
        if "optim_bits" in config:
            optimizer.step()
            return
        with pytest.raises(ValueError, match=f"{' and '.join(sorted(config))} of parameter 0 of group 0"):
            optimizer.step()
    finally:
        optimizer.mng.initialize()  # it is one for all optimizers


def test_plain_adamw_goes_on_as_radam_at_its_count() -> None:
    def end(cls: Any) -> Tensor:
        params = parameters()
        advance(plain := torch.optim.AdamW(params, lr=1e-2), params, 10)
        optimizer = cls(params, lr=1e-2)
        optimizer.load_state_dict(plain.state_dict())
        return advance(optimizer, params, 5, Gradients(2))

    assert largest_difference(end(rectified(torch.optim.AdamW)), end(RAdam)) < 1e-12


def own(
    name: str,
    *,
    direction: Callable[..., Any] = lambda m, v, bc1, bc2, eps: m / bc1 / ((v / bc2).sqrt() + eps),
    second: Callable[..., Any] = lambda g, m: g,
    l2: bool = False,
    decay: Callable[..., Any] = lambda lr, weight_decay: lr * weight_decay,
    after: bool = False,
    key: str = "step",
) -> Any:
    """A text-book Adam, and what others make of it."""

    class Own(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 1e-3, eps: float = 1e-3, weight_decay: float = 0.1) -> None:
            options = {"lr": lr, "betas": (0.9, 0.999), "eps": eps, "weight_decay": weight_decay}
            super().__init__(params, options)

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                (beta1, beta2), lr, eps = group["betas"], group["lr"], group["eps"]
                for p in group["params"]:
                    state, g = self.state[p], p.grad.add(p, alpha=group["weight_decay"] * l2)
                    if not state:
                        state.update({key: 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)})
                    state[key] += 1
                    state["m"].lerp_(g, 1 - beta1)
                    state["v"].lerp_(second(g, state["m"]) ** 2, 1 - beta2)
                    left = 1 if l2 else 1 - decay(lr, group["weight_decay"])
                    move = lr * direction(state["m"], state["v"], 1 - beta1 ** state[key], 1 - beta2 ** state[key], eps)
                    p.copy_((p - move) * left if after else p * left - move)

    Own.__name__ = Own.__qualname__ = name
    return Own


def on_root(m: Tensor, v: Tensor, bc1: float, bc2: float, eps: float) -> Tensor:
    return m / bc1 * bc2**0.5 / (v.sqrt() + eps)


OWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "text-book": (own("Mine"), {}),
    "eps on sqrt(v)": (own("Mine", direction=on_root), {}),
    "l2": (own("Mine", l2=True), {"decoupled_weight_decay": False}),
    "l2, eps on sqrt(v)": (own("Mine", l2=True, direction=on_root), {"decoupled_weight_decay": False}),
}
NO_ADAMW: dict[str, tuple[Any, str]] = {
    "NAdam": (torch.optim.NAdam, r"NAdam is not an Adam or AdamW: .* by up to 0\.32\d"),
    "Adamax": (torch.optim.Adamax, "Adamax is not an Adam or AdamW"),
    "AdaBelief": (own("AdaBelief", second=lambda g, m: g - m), "AdaBelief is not an Adam or AdamW"),
    "a sign": (own("Lion", direction=lambda m, *_: m.sign()), "Lion is not an Adam or AdamW"),
    "no bias correction": (
        own("Raw", direction=lambda m, v, bc1, bc2, eps: m / (v.sqrt() + eps)), "Raw is not an Adam or AdamW"
    ),
    "trust ratio": (
        own("Lamb", direction=lambda m, v, bc1, bc2, eps: (u := m / (v.sqrt() + eps)) / u.norm()),
        "Lamb is not an Adam or AdamW",
    ),
    "eps under the root": (
        own("Under", direction=lambda m, v, bc1, bc2, eps: m / bc1 / (v / bc2 + eps).sqrt()),
        r"Under adds eps neither to sqrt\(v_hat\) nor to sqrt\(v\)",
    ),
    "square of lr": (
        own("Square", decay=lambda lr, weight_decay: lr**2 * weight_decay), "Square has a decay that is neither"
    ),
    "without lr": (own("Bare", decay=lambda lr, weight_decay: weight_decay), "Bare has a decay that is neither"),
    "bounded step": (
        own("Clips", direction=lambda m, v, bc1, bc2, eps: m / bc1 / ((v / bc2).sqrt() + min(eps, 1e3))),
        "Clips limits lr, eps or the step",
    ),
    "no count": (own("Counts", key="t"), "Counts keeps no 'step' in its state"),
}  # fmt: skip


@pytest.mark.parametrize("flags", ["plain", "no_sgd", "eps_of_v_hat"])
@pytest.mark.parametrize("name", OWN)
def test_an_adamw_of_ones_own_is_found_out(name: str, flags: str) -> None:
    (cls, decay), options = OWN[name], {"eps": 1e-3, "weight_decay": 0.1, **FLAGS[flags]}
    before = torch.random.get_rng_state()
    found = train(rectified(cls), parameters(), **options)
    assert largest_difference(found, train(RAdam, parameters(), **options, **decay)) < 1e-12
    assert torch.equal(torch.random.get_rng_state(), before)


def test_decay_after_the_step_is_an_adamws() -> None:
    optimizer = rectified(own("Mine", after=True))(parameters())
    assert (optimizer.kernel.eps_on, optimizer.kernel.decoupled) == ("sqrt(v_hat)", None)


class Wrapped(torch.optim.Adam):
    """Steps as its parent does, which nobody can know without a look."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def test_the_flags_of_groups_still_say_how_they_decay() -> None:
    params = [parameters(), parameters()]
    ours, theirs = rectified(Wrapped), rectified(torch.optim.Adam)
    for cls, of in zip((ours, theirs), params, strict=True):
        optimizer = cls([{"params": of[:2], "decoupled_weight_decay": True}, {"params": of[2:]}], weight_decay=0.1)
        advance(optimizer, of, 8)
    assert torch.equal(flat(params[0]), flat(params[1]))


def test_looking_leaves_nothing_behind() -> None:
    """No hooks on PyTorch's own step, and no memory for parameters that have none yet."""
    calls: list[int] = []
    rectified(own("Mine"))([torch.nn.Parameter(torch.empty(4, device="meta"))])
    plain = Wrapped(params := parameters())
    plain.register_step_pre_hook(lambda *_: calls.append(1))
    advance(plain, params, 3)
    assert len(calls) == 3


@pytest.mark.parametrize("name", NO_ADAMW)
def test_what_is_no_adamw_is_refused_with_what_differs(name: str) -> None:
    cls, message = NO_ADAMW[name]
    before = flat(params := parameters())
    with pytest.raises(ValueError, match=message):
        rectified(cls)(params)
    assert torch.equal(flat(params), before)


@pytest.mark.parametrize("cls", [torch.optim.AdamW, type("Mine", (torch.optim.AdamW,), {}), own("Mine"),
                                 *kernels("galore", "apollo")])  # fmt: skip
def test_float16_is_refused_where_it_overflows(cls: Any) -> None:
    found = make(cls) if isinstance(cls, str) else rectified(cls)
    of_torch = not isinstance(cls, str) and issubclass(cls, torch.optim.AdamW)
    remedy = "pass fused=True, or use" if of_torch else "use"
    with pytest.raises(ValueError, match=rf"float16 parameters overflow in the start-up of .*; {remedy} hf_radam"):
        found(parameters(torch.float16))


@pytest.mark.parametrize("name", kernels("galore"))
def test_low_rank_steps_in_start_up_are_sgd(name: str) -> None:
    """In a full basis the projection and its way back cancel, as long as the step is linear."""

    def run(make: Callable[..., Any], **low_rank: Any) -> Tensor:
        params = parameters(torch.float32, ((8, 4),))
        return advance(make([{"params": params, **low_rank}], lr=1e-2), params, 5)

    low_rank = {"rank": 4, "update_proj_gap": 200, "scale": 1.0, "proj_type": "std"}
    assert largest_difference(run(make(name), **low_rank), run(RAdam)) < 1e-6


@pytest.mark.parametrize("name", kernels("apollo"))
def test_growth_limiter_forgets_start_up(name: str) -> None:
    """APOLLO limits a step by the norm of the last one before lr, which in start-up is 2**-40 of what it should be."""

    def run(disable_nl: bool) -> Tensor:
        params = parameters(torch.float32, ((8, 4),))
        low_rank = {"rank": 2, "update_proj_gap": 200, "scale": 1.0, "proj_type": "std"}
        group = {"params": params, "proj": "random", "scale_type": "channel", **low_rank}
        return advance(make(name)([group], lr=1e-2, disable_nl=disable_nl), params, 6)

    assert torch.equal(run(disable_nl=False), run(disable_nl=True))


ADAMW: Any = rectified(torch.optim.AdamW)
FLAG: dict[str, Any] = {"degenerated_to_sgd": "no"}
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no class": (lambda: rectified(torch.nn.Linear), TypeError, "takes an optimizer class, got <class"),  # pyright: ignore
    "twice": (lambda: rectified(ADAMW), TypeError, "is rectified already"),
    "of class RAdam": (lambda: rectified(torch.optim.RAdam), TypeError, "RAdam is rectified already"),
    "flag": (lambda: rectified(torch.optim.AdamW, **FLAG), TypeError, "degenerated_to_sgd must be True or False, got"),
    "flag of the new class": (lambda: ADAMW(parameters(), **FLAG), TypeError, "degenerated_to_sgd must be True or F"),
    "no betas": (lambda: rectified(torch.optim.SGD)(parameters()), ValueError, "have no betas and no eps"),
    "unknown option": (lambda: ADAMW(parameters(), warmup=3), TypeError, "warmup"),
    "captured": (lambda: ADAMW(parameters(), capturable=True), ValueError, "use hf_radam.RAdam"),
    "beta2": (lambda: ADAMW(parameters(), betas=(0.9, 0.6)), UserWarning, "stays momentum SGD"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_the_remedy(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("written_by", "read_by"),
    [
        pytest.param(a.values[0], b.values[0], marks=[*a.marks, *b.marks])
        for a, b in itertools.permutations(kernels("torch fused", "bitsandbytes 8", "torchao 8"), 2)
    ],
)
def test_state_of_another_library_is_refused(written_by: str, read_by: str) -> None:
    params = parameters(torch.float32, SHAPES)
    writer, reader = (make(name)(params, **OPTIONS) for name in (written_by, read_by))
    advance(writer, params, 1)
    names = [name.split()[0] for name in (written_by, read_by)]
    with pytest.raises(ValueError, match="state is of {}, .* only state of {}; ".format(*names)):
        reader.load_state_dict(writer.state_dict())


@pytest.mark.parametrize("name", kernels("torch fused", "bitsandbytes 8", "torchao 8", "deepspeed"))
def test_state_of_no_adam_is_refused(name: str) -> None:
    writer = torch.optim.SGD(params := parameters(torch.float32), momentum=0.9)
    advance(writer, params, 1)
    with pytest.raises(ValueError, match=r"no moments of Adam, only momentum_buffer, but .* reads only state of"):
        make(name)(params).load_state_dict(writer.state_dict())


@pytest.mark.parametrize("name", kernels("bitsandbytes 8"))
def test_transformers_recognises_the_class_of_bitsandbytes(name: str) -> None:
    assert str(cls := rectified(KERNELS[name].load())) == "<class 'bitsandbytes.optim.adamw.RAdam'>"
    assert cls.__name__ == "AdamW"  # PEFT goes by the name
    assert repr(cls(parameters(torch.float32))).startswith("RAdam (")


@pytest.mark.parametrize("name", kernels("torchao 8"))
def test_nothing_recompiles_after_the_first_step(name: str) -> None:
    params, gradients = parameters(torch.float32, SHAPES), Gradients()
    optimizer = make(name)(params, **OPTIONS)
    advance(optimizer, params, 1, gradients)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    for _ in range(8):
        advance(optimizer, params, 1, gradients)
        scheduler.step()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
