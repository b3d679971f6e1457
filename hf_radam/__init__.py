"""Rectified Adam (arXiv 1908.03265) as a first-class optimizer of the Hugging Face stack."""

from typing import TYPE_CHECKING, Any

from hf_radam.baselines import Adam2k as Adam2k
from hf_radam.optimizer import RAdam as RAdam
from hf_radam.registry import OptimizerSpec as OptimizerSpec
from hf_radam.registry import get_optimizer as get_optimizer
from hf_radam.registry import list_optimizers as list_optimizers
from hf_radam.registry import register_optimizer as register_optimizer
from hf_radam.trainer import RAdamArgumentsMixin as RAdamArgumentsMixin
from hf_radam.trainer import RAdamSeq2SeqTrainer as RAdamSeq2SeqTrainer
from hf_radam.trainer import RAdamSeq2SeqTrainingArguments as RAdamSeq2SeqTrainingArguments
from hf_radam.trainer import RAdamTrainer as RAdamTrainer
from hf_radam.trainer import RAdamTrainerMixin as RAdamTrainerMixin
from hf_radam.trainer import RAdamTrainingArguments as RAdamTrainingArguments
from hf_radam.trainer import RectificationCallback as RectificationCallback

if TYPE_CHECKING:
    from hf_radam.sharding import load_optimizer as load_optimizer
    from hf_radam.sharding import save_optimizer as save_optimizer

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # On demand: torch.distributed.checkpoint is slow to import, and not in every build of PyTorch.
    if name in ("save_optimizer", "load_optimizer"):
        from hf_radam import sharding

        return getattr(sharding, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
