"""Rectified Adam (arXiv 1908.03265) as a first-class optimizer of the Hugging Face stack."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_radam.checkpoints import load_optimizer as load_optimizer
    from hf_radam.checkpoints import save_optimizer as save_optimizer
    from hf_radam.experiments.baselines import Adam2k as Adam2k
    from hf_radam.optimizer import RAdam as RAdam
    from hf_radam.registry import get_optimizer as get_optimizer
    from hf_radam.registry import list_optimizers as list_optimizers
    from hf_radam.registry import register_optimizer as register_optimizer
    from hf_radam.spec import OptimizerSpec as OptimizerSpec
    from hf_radam.training.arguments import RAdamArgumentsMixin as RAdamArgumentsMixin
    from hf_radam.training.callbacks import RectificationCallback as RectificationCallback
    from hf_radam.training.launch import enable as enable
    from hf_radam.training.mixin import RAdamTrainerMixin as RAdamTrainerMixin
    from hf_radam.training.trainer import RAdamSeq2SeqTrainer as RAdamSeq2SeqTrainer
    from hf_radam.training.trainer import RAdamSeq2SeqTrainingArguments as RAdamSeq2SeqTrainingArguments
    from hf_radam.training.trainer import RAdamTrainer as RAdamTrainer
    from hf_radam.training.trainer import RAdamTrainingArguments as RAdamTrainingArguments

__version__ = "0.1.0"

# Imported when asked for: `from hf_radam import RAdam` must cost what torch costs, and no Transformers.
_HOMES = {
    "RAdam": "optimizer",
    "OptimizerSpec": "spec",
    "get_optimizer": "registry",
    "list_optimizers": "registry",
    "register_optimizer": "registry",
    "RAdamArgumentsMixin": "training.arguments",
    "RAdamSeq2SeqTrainer": "training.trainer",
    "RAdamSeq2SeqTrainingArguments": "training.trainer",
    "RAdamTrainer": "training.trainer",
    "RAdamTrainerMixin": "training.mixin",
    "RAdamTrainingArguments": "training.trainer",
    "RectificationCallback": "training.callbacks",
    "enable": "training.launch",
    "load_optimizer": "checkpoints",
    "save_optimizer": "checkpoints",
    "Adam2k": "experiments.baselines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
