"""class RAdam: state and parameter groups; the maths is in `rectification.py` and `update.py`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from hf_radam import rectification
from hf_radam.fit import check_fit, check_loaded, fits, local, name_of
from hf_radam.option_checks import check_flags, check_options, warn_of_no_rectification
from hf_radam.step_counts import CountVector
from hf_radam.update import UPDATES, Bucket, Implementation, Update

# Devices for which PyTorch ships a fused AdamW kernel.
FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})

# Flags that torch.optim.RAdam does not have. They stay out of the parameter groups, because the groups' keys are part
# of the format of (sharded) checkpoints, and checkpoints of the two classes interchange.
_FLAGS = ("absolute_weight_decay", "degenerated_to_sgd", "optimized_update", "amsgrad", "fused")
_is_sparse = attrgetter("is_sparse")


class RAdam(Optimizer):
    r"""Rectified Adam (Liu et al., arXiv 1908.03265, Algorithm 2).

    With moments :math:`m_t, v_t` as in Adam and :math:`\rho_t`, which exceeds 5 from step 6 on (for beta2 >= 0.9),

    .. math::
        \theta_t &= (1 - \alpha \lambda)\, \theta_{t-1} - \alpha u_t \\
        u_t &= \frac{r_t\, \hat m_t \sqrt{1 - \beta_2^t}}{\sqrt{v_t} + \epsilon} \text{ if } \rho_t > 5 \\
        u_t &= \hat m_t \text{ otherwise}

    Usually set `lr`, `weight_decay` and, for short runs, `betas`. The signature extends that of `torch.optim.RAdam`;
    one default differs: decay is decoupled, as in the paper's experiments. Checkpoints interchange with both
    `torch.optim.RAdam` and `torch.optim.AdamW`.

    Args:
        params: parameters, named parameters, or parameter groups (dicts).
        lr: learning rate, >= 0; a float or a 1-element tensor. Reading a tensor on an accelerator waits for the
            device, unless the step is capturable.
        betas: decays of the first and the second moment, each in [0, 1). With beta2 <= 2/3 RAdam never rectifies.
        eps: added to the denominator, >= 0.
        weight_decay: coefficient of the decay, >= 0.
        decoupled_weight_decay: `p *= 1 - lr * weight_decay` if True, else L2: `g += weight_decay * p`.
        absolute_weight_decay: `p *= 1 - weight_decay`, whatever the learning rate (no decay at lr = 0); overrides
            `decoupled_weight_decay`.
        degenerated_to_sgd: take momentum SGD steps while rho_t <= 5; if False, those steps only fill the moments.
        optimized_update: add eps to sqrt(v), as the authors' code does; if False, to sqrt(v_hat).
        amsgrad: divide by the running maximum of v.
        foreach: True for multi-tensor operations, False for the for-loop (unless `fused` is True).
        fused: True for PyTorch's fused AdamW kernel, False for foreach. With both None, RAdam uses the fused kernel
            if it supports the parameter's device and dtype, else foreach.
        maximize: ascend instead of descend.
        capturable: keep step counts on the device, so that a CUDA graph can capture the step. It launches about ten
            small kernels for each parameter; without a graph the fused step is many times faster.
        differentiable: let autograd see the step (for-loop).

    Raises:
        ValueError: an argument is out of range, or two implementations are chosen at once.
        TypeError: an argument has the wrong type; at `step()`, a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = RAdam(model.parameters(), lr=1e-3, weight_decay=0.01)
        >>> model(torch.ones(2, 4)).sum().backward()
        >>> optimizer.step()
        >>> RAdam.calc_rectification_term(beta2=0.999, step=1) is None
        True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        *,
        absolute_weight_decay: bool = False,
        degenerated_to_sgd: bool = True,
        optimized_update: bool = True,
        amsgrad: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        self.absolute_weight_decay = absolute_weight_decay
        self.degenerated_to_sgd = degenerated_to_sgd
        self.optimized_update = optimized_update
        self.amsgrad = amsgrad
        self.fused = fused
        self._counts: dict[int, CountVector] = {}
        defaults: dict[str, Any] = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        check_flags({flag: getattr(self, flag) for flag in _FLAGS})
        check_options(defaults, fused)
        super().__init__(params, defaults)

    @staticmethod
    def calc_rectification_term(beta2: float, step: int) -> float | None:
        """r_t after `step` steps (counted from 1), or None in start-up; see `hf_radam.rectification.rectification`."""
        return rectification.rectification(step, beta2)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Args:
            param_group: `params` and options; the constructor's arguments fill in missing options.

        Raises:
            ValueError: an option is out of range, or a flag differs from the optimizer's.
        """
        for flag in _FLAGS:
            if param_group.get(flag, getattr(self, flag)) != getattr(self, flag):
                raise ValueError(f"{flag} belongs to the optimizer, not to a group; pass it to the constructor")
        param_group = {key: value for key, value in param_group.items() if key not in _FLAGS}
        options = {**self.defaults, **param_group}
        check_options(options, self.fused)
        warn_of_no_rectification(options["betas"][1])
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **{flag: getattr(self, flag) for flag in _FLAGS}}  # for pickle and deepcopy

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_loaded(state["state"], state["param_groups"], ("exp_avg", "exp_avg_sq"))
        defaults = state.get("defaults") or self.defaults
        for group in state["param_groups"]:
            check_options({**defaults, **group}, None)  # the optimizer's `fused` wins over the checkpoint's foreach
            warn_of_no_rectification(group["betas"][1])
        super().__setstate__(state)
        self._counts = {}
        for group in self.param_groups:
            for key in ("amsgrad", "fused"):  # AdamW's; for `fused`, torch would move the step counts to the GPU
                group.pop(key, None)
            for key, value in self.defaults.items():
                group.setdefault(key, value)
            for p in group["params"]:
                p_state = self.state.get(p)
                if not p_state:
                    continue
                device = p.device if group["capturable"] else "cpu"
                step = torch.as_tensor(p_state["step"], dtype=torch.float32).reshape(()).to(device)
                p_state["step"] = step.clone()  # the optimizer that this state dict comes from keeps its own tensor
                if not self.amsgrad and p_state.pop("max_exp_avg_sq", None) is not None:
                    warnings.warn(
                        "the loaded state has the maxima of amsgrad=True, which are dropped; to keep them, build RAdam "
                        "with amsgrad=True",
                        UserWarning,
                        stacklevel=3,
                    )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; an error leaves parameters and state as they were.

        Args:
            closure: evaluates the model once more and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: a gradient is sparse.
            ValueError: a gradient or a state differs from its parameter in shape, dtype or device; an option is out of
                range; fused=True and no kernel takes a parameter.
            RuntimeError: a CUDA graph is being captured without capturable=True.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    # torch.compile would gain nothing over the fused kernel, and recompile at every change of lr.
    @torch._disable_dynamo
    def _update(self) -> None:
        capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        if capturing and not all(group["capturable"] for group in self.param_groups):
            raise RuntimeError(
                "a CUDA graph would freeze this step's scalars; set capturable=True, and after loading a checkpoint "
                "set it again in every group"
            )
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            # All buckets first: an error must leave every parameter as it was.
            gathered = [self._gather(i, group) for i, group in enumerate(self.param_groups)]
            for group, (counts, buckets) in zip(self.param_groups, gathered, strict=True):
                if counts:
                    torch._foreach_add_(counts, 1)
                for bucket, update in buckets:
                    self._update_bucket(group, bucket, UPDATES[update])

    def _gather(self, index: int, group: dict[str, Any]) -> tuple[list[Tensor], list[tuple[Bucket, Implementation]]]:
        """The step counts to raise, and buckets of the parameters that share step count, dtype and device."""
        check_options(group, self.fused, running=True)
        params: list[Tensor] = group["params"]
        grads: list[Any] = [p.grad for p in params]
        states: list[Any] = list(map(self.state.get, params))
        if not all(states) or type(None) in map(type, grads) or self.amsgrad:
            for p in params:  # also without a gradient: ranks and checkpoints must agree about which have state
                if p.requires_grad or p.grad is not None:
                    self._init_state(p, group["capturable"])
            params = [p for p in params if p.grad is not None]
            grads, states = [p.grad for p in params], [self.state[p] for p in params]
        if not params:  # DeepSpeed's ZeRO-3 steps one group at a time and empties the others
            return [], []
        columns: list[Any] = [params, grads]
        columns += [[state.get(key) for state in states] for key in self._moments()]
        kinds = {kind for column in columns for kind in set(map(type, column))}
        if any(map(_is_sparse, grads)) or not all(issubclass(kind, Tensor) for kind in kinds):
            self._refuse(index, group)
        if not kinds <= {Tensor, Parameter}:
            columns = [params, [local(grad, of=p) for p, grad in zip(params, grads, strict=True)], *columns[2:]]
            columns = [list(map(local, column)) for column in columns]
        try:
            if group["capturable"]:  # counts on the device are not read: that would wait for the device
                for state, p in zip(states, columns[0], strict=True):
                    state["step"] = state.get("step").to(p.device)
                counts = steps = [state["step"] for state in states]
                numbers = [0.0 if step.numel() == 1 else -1.0 for step in steps]
            else:
                steps = (count := self._counts.setdefault(index, CountVector())).follow(states)
                counts, numbers = [count.vector], count.vector.tolist()
        except (AttributeError, RuntimeError, TypeError):  # a step is not a number
            self._refuse(index, group)
        if not all(0 <= number < 2**53 and number.is_integer() for number in set(numbers)):
            self._refuse(index, group)
        buckets = []
        for bucket in Bucket(*columns, *([] if self.amsgrad else [[]]), steps=steps).split(numbers):
            update = self._implementation(group, bucket.params[0])
            # Start-up goes through foreach, which wants equal shapes.
            by_size = update == "fused" and self.calc_rectification_term(group["betas"][1], int(bucket.steps[0]) + 1)
            if not fits(*filter(None, bucket[:5]), by_size=bool(by_size)):
                self._refuse(index, group)
            buckets.append((bucket, update))
        return counts, buckets

    def _refuse(self, index: int, group: dict[str, Any]) -> NoReturn:
        """Raise the error that says which parameter has a gradient or a state that does not fit."""
        for position, p in enumerate(group["params"]):
            grad = None if p.grad is None else p.grad if p.grad.is_sparse else local(p.grad, of=p)
            state = {k: local(value) if isinstance(value, Tensor) else value for k, value in self.state[p].items()}
            check_fit(name_of(group, index, position), local(p), grad, state, self._moments())
        raise AssertionError("a gradient or a state does not fit its parameter, but check_fit finds no fault")

    def _moments(self) -> list[str]:
        return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.amsgrad else [])]

    def _init_state(self, p: Tensor, capturable: bool) -> None:
        """Make the state of a parameter that has none, or its maxima alone."""
        state = self.state[p]
        missing = [] if state else ["exp_avg", "exp_avg_sq"]
        if self.amsgrad and "max_exp_avg_sq" not in state:
            missing.append("max_exp_avg_sq")
        if not missing:
            return
        with torch.inference_mode(False):  # normal tensors, which outlive the mode
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device if capturable else "cpu")
            for key in missing:
                state[key] = torch.zeros_like(p, memory_format=torch.preserve_format)

    def _update_bucket(self, group: dict[str, Any], bucket: Bucket, update: Update) -> None:
        if bucket.params[0].is_complex():
            bucket = Bucket(*([torch.view_as_real(t) for t in column] for column in bucket[:5]), steps=bucket.steps)
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        if group["capturable"]:  # what stays on the device is not read
            number, lr = torch.stack(bucket.steps).double(), lr.double() if isinstance(lr, Tensor) else lr
        else:
            number, lr = int(bucket.steps[0].item()), lr if group["differentiable"] else float(lr)
        decay = "absolute" if self.absolute_weight_decay else "decoupled" if group["decoupled_weight_decay"] else "l2"
        scalars = rectification.step_scalars(
            number,
            lr=lr,
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decay=decay,
            degenerated_to_sgd=self.degenerated_to_sgd,
            optimized_update=self.optimized_update,
            maximize=group["maximize"],
        )
        update(bucket, scalars)

    def _implementation(self, group: dict[str, Any], p: Tensor) -> Implementation:
        if group["capturable"]:
            return "capturable"
        if group["differentiable"] or (group["foreach"] is False and not self.fused):
            return "for_loop"
        if (group["foreach"] and not self.fused) or self.fused is False:
            return "foreach"
        # A complex parameter is updated as the pairs of real numbers that it is.
        supported = p.device.type in FUSED_DEVICES and (p.is_floating_point() or p.is_complex())
        if self.fused and not supported:
            raise ValueError(
                f"fused=True needs floating-point parameters on one of {sorted(FUSED_DEVICES)}, got {p.dtype} on "
                f"{p.device.type}; leave fused at None"
            )
        return "fused" if supported else "foreach"
