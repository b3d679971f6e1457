"""What a trained model makes of the first evaluation text, for the card that shows how to run it."""

from __future__ import annotations

import os
from typing import Any

import torch

from hf_radam.experiments.comparison import Run
from hf_radam.experiments.tasks import Task

# As in the code that cards show (`publishing.card.RUN`), which a test runs beside this.
NEW_TOKENS = 64


@torch.no_grad()
def example(run: Run, task: Task, model: Any) -> dict[str, str] | None:
    """A text and the model's answer.

    None for text of local files, which may be nobody else's business, and for answers that are no short text.

    Args:
        run: whose comparison says what is trained on which text.
        task: its data and tokenizer.
        model: trained; called on all processes.
    """
    kind, data = run.comparison.task, run.comparison.data
    local = any(value for key, value in data.items() if key.endswith(("_prefix", "_file")))
    local = local or os.path.isdir(data.get("dataset_name") or "")
    if local or kind not in ("translation", "classification") or model.config.num_labels == 1:
        return None
    model.eval()
    text = task.tokenizer.decode(task.eval_dataset[0]["input_ids"], skip_special_tokens=True)
    batch = task.tokenizer(text, return_tensors="pt").to(model.device)
    if kind == "classification":
        answer = model.config.id2label[int(model(**batch).logits.argmax())]
    else:
        tokens = model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)
        answer = task.tokenizer.decode(tokens[0], skip_special_tokens=True)
    return {"input": text, "output": str(answer)}
