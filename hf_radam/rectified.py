"""RAdam from any AdamW class: each step of RAdam is a step of AdamW with another lr, eps and weight decay.

`rectification.StepScalars.adamw` computes these three numbers. This file sets them for one step, calls the class's own
step, and puts the old ones back. So the RAdam of an 8-bit, paged, offloaded or low-rank AdamW keeps that optimizer's
state, kernels and checkpoints.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from hf_radam.fit import check_loaded
from hf_radam.libraries import Kernel, check_group, check_library, check_overrides, full_name, kernel_of
from hf_radam.low_bit import without_zero
from hf_radam.option_checks import check_flags
from hf_radam.probe import find_out, uncounted, unhooked
from hf_radam.rectification import rectification, step_scalars
from hf_radam.step_counts import CountMemory

NUMBERS = ("lr", "eps", "weight_decay")
T = TypeVar("T", bound=Optimizer)


def rectified(cls: type[T], *, degenerated_to_sgd: bool = True, optimized_update: bool = True) -> type[T]:
    """The RAdam of an AdamW class: a subclass with the same arguments, state and parameter groups.

    When an optimizer of an unknown class is built, the class first takes a few steps on small test parameters.

    Args:
        cls: a class whose step is that of Adam or AdamW (decoupled or L2 decay, amsgrad or not) and whose groups hold
            `lr`, `betas`, `eps` and `weight_decay`.
        degenerated_to_sgd: take momentum SGD steps in start-up; if False, those steps only fill the moments. Also an
            argument of the new class.
        optimized_update: add eps to sqrt(v), as in the authors' code; if False, to sqrt(v_hat). Also an argument.

    Raises:
        TypeError: `cls` is not an optimizer class, or is rectified already; a flag is not a bool.
        ValueError: when an optimizer is built, see `RectifiedMixin`.

    Example:
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = rectified(torch.optim.AdamW)(model.parameters(), lr=1e-3, weight_decay=0.01)
        >>> model(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> type(optimizer).__qualname__, optimizer.param_groups[0]["lr"]
        ('RAdam', 0.001)
    """
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise TypeError(f"rectified() takes an optimizer class, got {cls!r}")
    if "RAdam" in cls.__name__ or issubclass(cls, RectifiedMixin):
        raise TypeError(f"{cls.__qualname__} is rectified already; use it as it is")
    check_flags({"degenerated_to_sgd": degenerated_to_sgd, "optimized_update": optimized_update})
    return _rectified(cls, degenerated_to_sgd, optimized_update)


@functools.cache
def _rectified(cls: Any, degenerated_to_sgd: bool, optimized_update: bool) -> Any:
    # Transformers and PEFT recognise bitsandbytes' class by its module and name, so both stay. People see
    # `__qualname__`, which says RAdam.
    return type(
        cls.__name__,
        (*without_zero(cls), RectifiedMixin, cls),
        {
            "__module__": cls.__module__,
            "__qualname__": re.sub("AdamW?", "RAdam", cls.__name__),
            "__doc__": f"RAdam with the kernel and the state of {full_name(cls)}.",
            "degenerated_to_sgd": degenerated_to_sgd,
            "optimized_update": optimized_update,
            "_made_of": (cls, degenerated_to_sgd, optimized_update),
        },
    )


class RectifiedMixin(Optimizer):
    """Turns the AdamW after it into RAdam; `rectified` makes such classes.

    Some AdamWs cannot be tested on small parameters: they project gradients, or their step needs the model. Declare
    what such a step does, and the test is skipped:

        class MyRAdam(RectifiedMixin, MyAdamW):
            kernel = Kernel(eps_on="sqrt(v)", decoupled=True)

    Raises:
        ValueError: a group has no `lr`, `betas`, `eps` or `weight_decay`; the step is not Adam's or cannot be tested;
            the AdamW has no bias correction, a captured or differentiated step, or a float16 denominator.
            `load_state_dict` refuses the same.
    """

    degenerated_to_sgd: bool = True
    optimized_update: bool = True
    kernel: Kernel
    """What is known about the parent's step; tested if the class does not declare it."""

    def __init__(
        self,
        params: Any,
        *args: Any,
        degenerated_to_sgd: bool | None = None,
        optimized_update: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if degenerated_to_sgd is not None:
            self.degenerated_to_sgd = degenerated_to_sgd
        if optimized_update is not None:
            self.optimized_update = optimized_update
        check_flags({"degenerated_to_sgd": self.degenerated_to_sgd, "optimized_update": self.optimized_update})
        self._memory = CountMemory()
        parent: Any = self._parent()
        known = hasattr(self, "kernel")
        if not known:
            self.kernel, known = kernel_of(parent)
        super().__init__(params, *args, **kwargs)
        if not known:
            groups = self.param_groups
            eps_on, decoupled = find_out(lambda tests: parent(tests, *args, **kwargs), groups, full_name(parent))
            if {self._decoupled(group) for group in groups} == {decoupled}:
                decoupled = None  # the groups' flags are right, also for later groups
            self.kernel = self.kernel._replace(eps_on=eps_on, decoupled=decoupled)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as the parent does, after a check that it can be rectified."""
        super().add_param_group(param_group)  # fills in the defaults
        group = self.param_groups.pop()
        check_group(group, self._parent(), self.kernel)
        self.param_groups.append(group)

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, type(self).__qualname__, 1)

    def __reduce__(self) -> Any:
        # pickle cannot import a class that `rectified` has made
        return _new, vars(type(self)).get("_made_of", (type(self),)), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("degenerated_to_sgd", "optimized_update", "kernel")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kernel = state.get("kernel") or self.kernel
        check_loaded(state["state"], state["param_groups"], kernel.moments)
        for group in state["param_groups"]:
            check_group(group, self._parent(), kernel)
        super().__setstate__(state)
        self._memory = CountMemory()

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Load state as the parent does; the state of the plain AdamW continues as RAdam at its step count.

        Raises:
            ValueError: another library or another optimizer wrote the state, or a group is refused.
        """
        check_library(state_dict.get("state", {}), type(self))
        super().load_state_dict(state_dict, *args, **kwargs)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of RAdam: the parent's step, once for each step count among the parameters.

        Args:
            closure: evaluates the model once more and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: the parent keeps no `step` in its state, or bitsandbytes' manager overrides RAdam's numbers.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        check_overrides(self)
        # The parent's step would run the hooks once more if the parent has made an instance.
        parent_step = unhooked(super().step.__func__)  # pyright: ignore[reportAttributeAccessIssue]
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        steps = self._steps(params)
        counts = self._memory.read(steps)
        buckets = self._buckets(params, counts)
        if not buckets:
            parent_step(self)
        for step, of_step in buckets:
            with self._only(step, of_step, [p for _, others in buckets if others is not of_step for p in others]):
                parent_step(self)
        self._remember(params, steps, counts)
        return loss

    def forget_counts(self) -> None:
        """Make the next step read the step counts from the device again.

        Call it after a collective or `.data` wrote counts on an accelerator. On a CPU every step reads them.
        """
        self._memory.forget()

    def _steps(self, params: list[Tensor]) -> list[Any]:
        """The step counts in the state; None for a parameter without one."""
        return [self.state.get(p, {}).get("step") for p in params]

    def _remember(self, params: list[Tensor], steps: list[Any], counts: list[float]) -> None:
        if any(step is None for step in steps):  # some have just taken their first step
            steps = self._steps(params)
            if any(step is None for step in steps):  # without counts every step would seem to be the first
                raise ValueError(uncounted(full_name(self._parent())))
        self._memory.remember(steps, counts)
        if getattr(self, "found_inf", None) is not None:  # the fused kernel may have skipped the step
            self._memory.forget()

    @contextmanager
    def _only(self, step: int, params: list[Tensor], others: list[Tensor]) -> Iterator[None]:
        """Hide the others' gradients and put RAdam's numbers in every group; afterwards restore the old objects."""
        saved, grads = [{key: group[key] for key in NUMBERS} for group in self.param_groups], [p.grad for p in others]
        try:
            for p in others:
                p.grad = None
            for group in self.param_groups:
                group.update(self._numbers(group, step, k=_k(params[0])))
            if self.kernel.forgets and step > 1 and self._starts_up(step - 1) and not self._starts_up(step):
                for p in params:
                    for key in self.kernel.forgets:
                        self.state[p].pop(key, None)
            yield
        finally:
            for group, values in zip(self.param_groups, saved, strict=True):
                group.update(values)
            for p, grad in zip(others, grads, strict=True):
                p.grad = grad

    def _numbers(self, group: dict[str, Any], step: int, k: float) -> dict[str, Any]:
        scalars = step_scalars(
            step,
            lr=group["lr"],
            betas=tuple(group["betas"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            decay="decoupled" if self._decoupled(group) else "l2",
            degenerated_to_sgd=self.degenerated_to_sgd,
            optimized_update=self.optimized_update,
        )
        numbers = scalars.adamw(eps_on=self.kernel.eps_on, k=k)._asdict()
        if self.kernel.tensors:
            numbers.update({key: torch.tensor(numbers[key], dtype=torch.float32) for key in ("eps", "weight_decay")})
        return numbers

    def _buckets(self, params: list[Tensor], counts: list[float]) -> list[tuple[int, list[Tensor]]]:
        """The parameters by the number of their next step, which sets the scalars; in start-up also by K."""
        if len(set(counts)) == 1 and not self._starts_up(int(counts[0]) + 1):
            return [(int(counts[0]) + 1, params)]
        buckets: dict[tuple[int, float], list[Tensor]] = {}
        for p, count in zip(params, counts, strict=True):
            buckets.setdefault((int(count) + 1, _k(p)), []).append(p)
        return [(step, of_step) for (step, _), of_step in buckets.items()]

    def _starts_up(self, step: int) -> bool:
        return any(rectification(step, group["betas"][1]) is None for group in self.param_groups)

    def _decoupled(self, group: dict[str, Any]) -> bool:
        """False for L2 decay: the flags of torch, DeepSpeed and torchao say it; bitsandbytes' is always decoupled."""
        decoupled = self.kernel.decoupled
        if decoupled is not None:
            return decoupled
        by_optimizer = getattr(self, "adam_w_mode", getattr(self, "is_adamw", True))
        return bool(group.get("decoupled_weight_decay", by_optimizer))

    def _parent(self) -> type[Optimizer]:
        mro = type(self).__mro__
        return mro[mro.index(RectifiedMixin) + 1]


def _k(p: Tensor) -> float:
    """The K of `StepScalars.adamw` that is exact in the arithmetic of a parameter's kernel."""
    return 2.0**100 if p.dtype == torch.float64 else 2.0**40


def _new(cls: Any, *flags: bool) -> Any:
    cls = _rectified(cls, *flags) if flags else cls
    return cls.__new__(cls)
