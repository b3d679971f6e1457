"""A RAdam for each AdamW of the installed Transformers: `radam` replaces `adamw` in its name.

Transformers provides the names, classes, options and parameter groups; we replace the class by its rectified subclass.
Three further kernels have no name in Transformers.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.optim import Optimizer

from hf_radam.rectified import rectified
from hf_radam.spec import PAPER, OptimizerSpec

# Part of a name (the first that fits) -> the package to import, how to install it, and what it does.
LIBRARIES = {
    "galore": ("galore_torch", "hf_radam[galore]", "low-rank gradients"),
    "apollo": ("apollo_torch", "apollo-torch", "low-rank scaling of gradients"),
    "anyprecision": ("torchdistx", "git+https://github.com/pytorch/torchdistx", "state in chosen precisions"),
    "xla": ("torch_xla", "torch_xla", "on TPUs"),
    "npu": ("torch_npu", "torch_npu", "fused, on Ascend NPUs"),
    "torch_8bit": ("torchao", "hf_radam[torchao]", "state in 8 bits; takes the shards of FSDP2"),
    "torch_4bit": ("torchao", "hf_radam[torchao]", "state in 4 bits; takes the shards of FSDP2"),
    "torch_fp8": ("torchao", "hf_radam[torchao]", "state in float8; takes the shards of FSDP2"),
    "paged_adamw_32bit": ("bitsandbytes", "hf_radam[bnb]", "state that leaves the GPU where it is full"),
    "paged_adamw_8bit": ("bitsandbytes", "hf_radam[bnb]", "state in 8 bits that leaves the GPU where it is full"),
    "8bit": ("bitsandbytes", "hf_radam[bnb]", "state in 8 bits"),
    "kahan": ("optimi", "hf_radam[kahan]", "torch-optimi's RAdam; Kahan sums move bf16 weights"),
    "deepspeed": ("deepspeed", "deepspeed", "on the host, for ZeRO-Offload"),
    "torch": ("torch", "torch", "PyTorch's own AdamW, rectified"),
}
# Names of AdamWs whose step is not AdamW's, and what to use instead.
OTHERS = {"stable_adamw": "radam_kahan", "grokadamw": "radam"}


@dataclass(frozen=True, kw_only=True)
class Rectified(OptimizerSpec):
    """The rectified class of an AdamW that has no name in Transformers."""

    def load(self) -> type[Optimizer]:
        """Import `target`, and rectify it."""
        return rectified(super().load())


@dataclass(frozen=True, kw_only=True)
class LikeTransformers(OptimizerSpec):
    """What Transformers builds for the name `like`, with the class rectified."""

    def load(self) -> Any:
        """`rectified`; an ImportError that names what to install if the library is missing."""
        if not installed(self.library):
            raise ImportError(f"optimizer {self.name!r} needs {self.library!r}: pip install '{self.extra}'")
        return rectified

    def __call__(self, params: Any, **options: Any) -> Optimizer:
        """Build the optimizer outside of a Trainer; low-rank ones need groups with a rank."""
        known, rectify = self.options(), self.load()
        cls, of_transformers = ask_transformers(self.like)
        flags = {key: value for key, value in options.items() if key in known}
        rest = {key: value for key, value in options.items() if key not in known}
        return rectify(cls, **flags)(params, **{**of_transformers, **rest})


def ask_transformers(name: str) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class that Transformers has for one of its names, and the options that make it what the name says."""
    from transformers.trainer import Trainer
    from transformers.training_args import OptimizerNames

    settings: Any = SimpleNamespace(
        optim=OptimizerNames(name),
        optim_args=None,
        optim_target_modules="all-linear",
        learning_rate=1e-3,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
    )
    cls, options = Trainer.get_optimizer_cls_and_kwargs(settings, torch.nn.Sequential(torch.nn.Linear(1, 1)))  # pyright: ignore[reportArgumentType]
    return cls, {key: value for key, value in options.items() if key != "params"}


@functools.cache
def derived() -> dict[str, OptimizerSpec]:
    """The specifications by name. This imports neither Transformers nor the libraries."""
    by_rule = [
        LikeTransformers(name=name, target=rectified, like=like, **_told(like))  # pyright: ignore[reportArgumentType]
        for name, like in _names().items()
        if not refusal(name)
    ]
    named = [
        Rectified(name="radam_torch_fp8", target="torchao.optim:AdamWFp8", **_told("torch_fp8")),
        OptimizerSpec(name="radam_kahan", target="optimi:RAdam", defaults={"decouple_wd": True}, **_told("kahan")),
        Rectified(name="radam_deepspeed_cpu", target="deepspeed.ops.adam:DeepSpeedCPUAdam", **_told("deepspeed")),
    ]
    return {spec.name: spec for spec in (*by_rule, *named)}


def refusal(name: str) -> str | None:
    """Why a name has no RAdam although it follows the rule; None for any other name."""
    like = _names().get(name)
    if like in OTHERS:
        return f"there is no {name!r}: the step of {like} is not AdamW's; use {OTHERS[like]!r}"
    if like is None or not name.endswith("_layerwise"):
        return None
    shorter = name.removesuffix("_layerwise")
    return f"there is no {name!r}: for {like} Transformers builds an optimizer per parameter; use {shorter!r}"


def installed(library: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(library) is not None


def library_of(name: str) -> tuple[str, str, str]:
    """The row of `LIBRARIES` for a name; PyTorch's for any other AdamW."""
    return next((told for part, told in LIBRARIES.items() if part in name), LIBRARIES["torch"])


@functools.cache
def _names() -> dict[str, str]:
    """Transformers' names of AdamWs, by the name of the RAdam; without names that Transformers itself has."""
    names = _of_transformers()
    by_rule = {name.replace("adamw", "radam"): name for name in names if "adamw" in name}
    return {name: like for name, like in by_rule.items() if name not in names and name != "radam_torch"}


def _of_transformers() -> list[str]:
    """The values of Transformers' `OptimizerNames`, read from its source, because the import takes seconds."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return []
    module = ast.parse(Path(spec.origin).with_name("training_args.py").read_text(encoding="utf-8"))
    return [
        ast.literal_eval(member.value)
        for statement in module.body
        if isinstance(statement, ast.ClassDef) and statement.name == "OptimizerNames"
        for member in statement.body
        if isinstance(member, ast.Assign)
    ]


def _told(name: str) -> dict[str, Any]:
    library, install, does = library_of(name)
    return {"description": does, "library": library, "extra": install, "warmup_free": True, "reference": PAPER}
