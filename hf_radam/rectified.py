"""RAdam from any AdamW class: each step of RAdam is a step of AdamW with another lr, eps and weight decay.

`rectification.StepScalars.adamw` is the rule for the three numbers; this file sets them for one step, calls the class's
own step, and puts them back. So the RAdam of an 8-bit, paged, offloaded or low-rank AdamW is 8-bit, paged, offloaded or
low-rank, and keeps that optimizer's state and checkpoints.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from hf_radam.arguments import check_flags
from hf_radam.libraries import EpsOn, Kernel, check_group, check_library, check_overrides, full_name, kernel_of
from hf_radam.low_bit import without_zero
from hf_radam.rectification import Hyperparameters, rectification, step_scalars

if TYPE_CHECKING:  # the mixin goes on top of any AdamW
    _Optimizer = Optimizer
else:
    _Optimizer = object

NUMBERS = ("lr", "eps", "weight_decay")
T = TypeVar("T", bound=Optimizer)
_NOTHING: tuple[list[Tensor], list[int], list[int]] = ([], [], [])
_dtype, _version = attrgetter("dtype"), attrgetter("_version")


def rectified(
    cls: type[T],
    *,
    degenerated_to_sgd: bool = True,
    optimized_update: bool = True,
    eps_on: EpsOn | None = None,
) -> type[T]:
    """The RAdam of an AdamW class: a subclass with the same arguments, state and parameter groups.

    Args:
        cls: a class whose step is that of Adam or AdamW (decoupled or L2 decay, amsgrad or not) and whose groups hold
            `lr`, `betas`, `eps` and `weight_decay`.
        degenerated_to_sgd: take steps of momentum SGD in start-up; if False, those steps only fill the moments. Also
            an argument of the new class.
        optimized_update: add eps to sqrt(v), as in the authors' code; if False, to sqrt(v_hat). Also an argument.
        eps_on: what the kernel of `cls` adds its eps to, the one fact that must be known of it. By default that of the
            library where it is in `libraries.KERNELS`, else sqrt(v_hat), as in PyTorch.

    Raises:
        TypeError: `cls` is no optimizer class, or is rectified already; a flag is no bool.
        ValueError: `eps_on` is neither of the two.

    Example:
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = rectified(torch.optim.AdamW)(model.parameters(), lr=1e-3, weight_decay=0.01)
        >>> model(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> type(optimizer).__name__, optimizer.param_groups[0]["lr"]
        ('RAdam', 0.001)
    """
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)):
        raise TypeError(f"rectified() takes a class of optimizers, got {cls!r}")
    if "RAdam" in cls.__name__ or issubclass(cls, RectifiedMixin):
        raise TypeError(f"{cls.__name__} is rectified already; a second time would rectify the rectified rate")
    if eps_on not in (None, *get_args(EpsOn)):
        raise ValueError(f"eps_on must be {' or '.join(map(repr, get_args(EpsOn)))}, got {eps_on!r}")
    check_flags({"degenerated_to_sgd": degenerated_to_sgd, "optimized_update": optimized_update})
    return _rectified(cls, degenerated_to_sgd, optimized_update, eps_on or kernel_of(cls).eps_on)


@functools.cache
def _rectified(cls: Any, degenerated_to_sgd: bool, optimized_update: bool, eps_on: EpsOn) -> Any:
    # Named as if it stood beside its parent: Transformers recognises bitsandbytes' classes by their module.
    return type(
        re.sub("AdamW?", "RAdam", cls.__name__),
        (*without_zero(cls), RectifiedMixin, cls),
        {
            "__module__": cls.__module__,
            "__doc__": f"RAdam with the kernel and the state of {full_name(cls)}.",
            "degenerated_to_sgd": degenerated_to_sgd,
            "optimized_update": optimized_update,
            "kernel": kernel_of(cls)._replace(eps_on=eps_on),
            "_made_of": (cls, degenerated_to_sgd, optimized_update, eps_on),
        },
    )


class RectifiedMixin(_Optimizer):
    """Makes the AdamW that it is put before a RAdam; `rectified` does that, with what it knows of the class.

    For an AdamW that adds its eps to sqrt(v):

        class MyRAdam(RectifiedMixin, MyAdamW):
            kernel = Kernel(eps_on="sqrt(v)")

    Raises:
        ValueError: groups without `lr`, `betas`, `eps` or `weight_decay`; an AdamW without bias correction, with a
            step that is captured or differentiated, or with a float16 denominator, where the rule does not hold.
    """

    degenerated_to_sgd: bool = True
    optimized_update: bool = True
    kernel: Kernel = Kernel()
    _known: tuple[list[Tensor], list[int], list[int]] = _NOTHING
    """Step counts that are tensors, with the versions and numbers that our last step left."""

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
        super().__init__(params, *args, **kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in the parent, after a check that the group can be rectified."""
        super().add_param_group(param_group)  # which fills in the defaults
        group = self.param_groups.pop()
        check_group(group, self._parent())
        self.param_groups.append(group)

    def __reduce__(self) -> Any:
        made_of = vars(type(self)).get("_made_of")  # such a class has no name that pickle could import
        new = (_new, made_of) if made_of else (copyreg.__newobj__, (type(self),))  # pyright: ignore
        return *new, self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        flags = {"degenerated_to_sgd": self.degenerated_to_sgd, "optimized_update": self.optimized_update}
        return {**super().__getstate__(), **flags}

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """As in the parent; the state of its plain AdamW goes on as RAdam at its step count.

        Raises:
            ValueError: the state is that of another library.
        """
        check_library(state_dict, type(self))
        super().load_state_dict(state_dict, *args, **kwargs)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of RAdam: the parent's own, once for each step count among the parameters.

        Args:
            closure: evaluates the model once more and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: the parent keeps no `step` in its state, or bitsandbytes' manager sets numbers of its own.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Where an instance has been made of the parent, its step runs the hooks too; ours has run them.
        check_overrides(self)
        parent_step = inspect.unwrap(super().step.__func__, stop=lambda f: not getattr(f, "hooked", False))  # pyright: ignore
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        steps = self._steps(params)
        counts = self._counts(steps)
        buckets = _buckets(params, counts)
        if not buckets:
            parent_step(self)
        for bucket in buckets:
            others = [p for other in buckets if other is not bucket for p in other.params]
            with _without_gradients(others), self._numbers_of_radam(bucket):
                parent_step(self)
        self._remember(params, steps, counts)
        return loss

    def _steps(self, params: list[Tensor]) -> list[Any]:
        """What the state holds as step counts, None where it has none."""
        return [state.get("step") if state else None for state in map(self.state.get, params)]

    def _counts(self, steps: list[Any]) -> list[int]:
        """Steps that each parameter has taken. On an accelerator, to read them is to wait: not if nothing but our last
        step has written there."""
        known, versions, counts = self._known
        if len(known) == len(steps) and all(map(is_, steps, known)) and versions == [*map(_version, steps)]:
            return counts
        return [0 if step is None else int(step) for step in steps]

    def _remember(self, params: list[Tensor], steps: list[Any], counts: list[int]) -> None:
        types = set(map(type, steps))
        if type(None) in types:  # some have taken their first
            steps = self._steps(params)
            types = set(map(type, steps))
        if type(None) in types:  # every step would be taken for the first
            raise ValueError(
                f"RAdam goes by the steps that each parameter has taken, but the state of {full_name(self._parent())} "
                "has no 'step'; rectify a class that counts there"
            )
        # A GradScaler leaves it to a fused kernel whether it steps, and only the accelerator knows.
        sure = types == {Tensor} and getattr(self, "found_inf", None) is None
        self._known = (steps, [*map(_version, steps)], [count + 1 for count in counts]) if sure else _NOTHING

    @contextmanager
    def _numbers_of_radam(self, bucket: Bucket) -> Iterator[None]:
        """The three numbers of one step, in every group; what was there comes back, the same objects."""
        saved = [{key: group[key] for key in NUMBERS} for group in self.param_groups]
        try:
            for group in self.param_groups:
                group.update(self._numbers(group, bucket))
            if self.kernel.forgets and self._ends_start_up(bucket):
                for p in bucket.params:
                    for key in self.kernel.forgets:
                        self.state[p].pop(key, None)
            yield
        finally:
            for group, values in zip(self.param_groups, saved, strict=True):
                group.update(values)

    def _numbers(self, group: dict[str, Any], bucket: Bucket) -> dict[str, Any]:
        scalars = step_scalars(
            bucket.step,
            Hyperparameters(
                lr=group["lr"],
                betas=tuple(group["betas"]),
                eps=float(group["eps"]),
                weight_decay=float(group["weight_decay"]),
                decay="decoupled" if self._decoupled(group) else "l2",
                degenerated_to_sgd=self.degenerated_to_sgd,
                optimized_update=self.optimized_update,
            ),
        )
        numbers = scalars.adamw(eps_on=self.kernel.eps_on, k=2.0**100 if bucket.double else 2.0**40)._asdict()
        if self.kernel.tensors:
            numbers.update({key: torch.tensor(numbers[key], dtype=torch.float32) for key in ("eps", "weight_decay")})
        return numbers

    def _ends_start_up(self, bucket: Bucket) -> bool:
        beta2 = self.param_groups[0]["betas"][1]
        waited = bucket.step > 1 and rectification(bucket.step - 1, beta2) is None
        return waited and rectification(bucket.step, beta2) is not None

    def _decoupled(self, group: dict[str, Any]) -> bool:
        """False for an L2 decay, by the flags of torch, DeepSpeed and torchao; bitsandbytes' are all decoupled."""
        by_optimizer = getattr(self, "adam_w_mode", getattr(self, "is_adamw", True))
        return bool(group.get("decoupled_weight_decay", by_optimizer))

    def _parent(self) -> type[Optimizer]:
        mro = type(self).__mro__
        return mro[mro.index(RectifiedMixin) + 1]


class Bucket(NamedTuple):
    """Parameters whose next step has one number; a float64 kernel takes a larger K."""

    step: int
    double: bool
    params: list[Tensor]


def _buckets(params: list[Tensor], counts: list[int]) -> list[Bucket]:
    """Parameters by their step count: the scalars belong to a count."""
    if len(set(counts)) == len(set(map(_dtype, params))) == 1:
        return [Bucket(counts[0] + 1, params[0].dtype == torch.float64, params)]
    buckets: dict[tuple[int, bool], list[Tensor]] = {}
    for p, count in zip(params, counts, strict=True):
        buckets.setdefault((count + 1, p.dtype == torch.float64), []).append(p)
    return [Bucket(*key, of_key) for key, of_key in buckets.items()]


def _new(*made_of: Any) -> Any:
    cls = _rectified(*made_of)
    return cls.__new__(cls)


@contextmanager
def _without_gradients(params: list[Tensor]) -> Iterator[None]:
    grads = [p.grad for p in params]
    try:
        for p in params:
            p.grad = None
        yield
    finally:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
