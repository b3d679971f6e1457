"""Rectified Adam (arXiv 1908.03265) as a first-class optimizer of the Hugging Face stack."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_radam.checkpoints import load_optimizer, save_optimizer
    from hf_radam.experiments.baselines import Adam2k
    from hf_radam.optimizer import RAdam
    from hf_radam.registry import get_optimizer, list_optimizers, register_optimizer
    from hf_radam.spec import OptimizerSpec
    from hf_radam.training.arguments import RAdamArgumentsMixin
    from hf_radam.training.callbacks import RectificationCallback
    from hf_radam.training.launch import enable
    from hf_radam.training.mixin import RAdamTrainerMixin
    from hf_radam.training.trainer import (
        RAdamSeq2SeqTrainer,
        RAdamSeq2SeqTrainingArguments,
        RAdamTrainer,
        RAdamTrainingArguments,
    )

__version__ = "0.1.0"
__all__ = ["Adam2k", "OptimizerSpec", "RAdam", "get_optimizer", "list_optimizers", "register_optimizer"]
__all__ += ["RAdamArgumentsMixin", "RAdamTrainerMixin", "RectificationCallback", "enable"]
__all__ += ["RAdamSeq2SeqTrainer", "RAdamSeq2SeqTrainingArguments", "RAdamTrainer", "RAdamTrainingArguments"]
__all__ += ["load_optimizer", "save_optimizer"]

# Imported when asked for: `from hf_radam import RAdam` must cost what torch costs, and no Transformers.
_HOMES = {
    "checkpoints": ("load_optimizer", "save_optimizer"),
    "experiments.baselines": ("Adam2k",),
    "optimizer": ("RAdam",),
    "registry": ("get_optimizer", "list_optimizers", "register_optimizer"),
    "spec": ("OptimizerSpec",),
    "training.callbacks": ("RectificationCallback",),
    "training.launch": ("enable",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "training.trainer")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
