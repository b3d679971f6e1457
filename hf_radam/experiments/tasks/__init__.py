"""The tasks by name, and what the comparison asks of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:  # a comparison is read without torch
    from torch import Tensor

    from hf_radam.experiments.comparison import Comparison

# Module and class, imported when asked for.
TASKS: Mapping[str, str] = {
    "translation": "translation:TranslationTask",
    "classification": "classification:ClassificationTask",
    "language_modeling": "language_modeling:LanguageModelingTask",
    "script": "script:ScriptTask",
}


class Task(Protocol):
    """Data, model and metrics of one comparison; built from it without the network's or the tokenizer's work.

    Raises:
        UserError: at construction and in `prepare`: bad options; data that are missing, unreadable or of another form.
    """

    Data: ClassVar[type]
    """Dataclass of the options under `data` (int, float or str): a flag of `hf-radam compare`, or `--set data.X`."""

    metric: str
    """The task's own number at the end of a run, a key of `metrics.METRICS`."""
    positive_label: str | None = None
    """Of two labels the one whose F1 is the metric."""
    loss_unit: str
    """What the loss is counted in: "nats a token", "nats an example" or "squared error"."""
    fingerprint: str
    """Digest of the data, and of a local checkpoint; results of another fingerprint are another comparison's."""
    facts: Mapping[str, float]
    """Numbers about the data, all optional: `unigram_entropy`, the loss of always predicting the token frequencies;
    `majority_class`, the metric of always predicting the most frequent label. Known after `prepare`."""
    train_dataset: Any
    """Examples with `labels`, in which -100 is ignored; has a length. Known after `prepare`, like the next three."""
    eval_dataset: Any
    """Likewise, for the evaluations."""
    lengths: Sequence[int] | None = None
    """Tokens of each training example, by which `tokens_per_batch` counts; None where that is not offered."""
    tokenizer: Any
    """Saved beside the model."""

    def __init__(self, comparison: Comparison) -> None: ...

    def prepare(self, cache_dir: Path) -> None:
        """Make the tokenizer and the datasets; what takes long may be kept in `cache_dir`."""
        ...

    def model(self, options: Mapping[str, Any]) -> Any:
        """A new model, initialised from the global random state; `options` are those of the comparison."""
        ...

    def collator(self, model: Any) -> Any:
        """Makes a batch of examples."""
        ...

    def loss(self, outputs: Any, labels: Tensor, label_smoothing: float) -> Tensor:
        """Mean over the labels that are not -100, with gradient; a batch is weighted by their number."""
        ...

    def preprocess_logits_for_metrics(self, logits: Any, labels: Tensor) -> Tensor:
        """What `compute_metrics` needs of each example; one row an example."""
        ...

    def compute_metrics(self, prediction: Any) -> dict[str, float]:
        """`nll`, the evaluation loss without label smoothing, and further keys of `metrics.METRICS`."""
        ...

    def test(self, model: Any, batch_size: int) -> dict[str, float]:
        """What is only measured at the end; called on all processes with the whole model. By default nothing."""
        return {}


def task_class(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        KeyError: no such task.
    """
    module, _, cls = TASKS[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), cls)
