"""What a user writes: a script with RAdamTrainer, launched on any number of processes under any engine.

    accelerate launch --config_file CONFIG train.py CASES.json OUT.pt

Runs all cases one after the other, and saves for each where its parameters were after every step.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import on_cpu
import torch
from accelerate import Accelerator, PartialState
from models import LAYERS, MODELS, Examples
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback, set_seed

from hf_radam import RAdamTrainer, RAdamTrainingArguments, get_optimizer

BATCH = 8  # examples of one update, over all processes and accumulation steps


class Trajectory(TrainerCallback):
    """All parameters after every step, whole."""

    def __init__(self) -> None:
        self.points: list[Tensor] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.points.append(torch.cat([whole(p).flatten() for p in model.parameters() if p.requires_grad]))


def engine(accelerator: Accelerator) -> dict[str, Any]:
    """What really runs."""
    return {
        "is_fsdp2": accelerator.is_fsdp2,
        "distributed_type": str(accelerator.distributed_type.value),
        "world_size": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
    }


def innermost(optimizer: Any) -> Any:
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def whole(p: Any) -> Tensor:
    if hasattr(p, "full_tensor"):
        return p.detach().full_tensor().float().cpu().clone()
    gathered = contextlib.nullcontext()
    if hasattr(p, "ds_id"):  # ZeRO-3
        import deepspeed  # pyright: ignore[reportMissingImports]

        gathered = deepspeed.zero.GatheredParameters([p])
    with gathered:
        return p.detach().float().cpu().clone()


def run(case: dict[str, Any], processes: int) -> dict[str, Any]:
    """Train one case; returns the trajectory and under what it ran."""
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = LAYERS.get(case["model"], "LlamaDecoderLayer")
    accumulation = case.get("accumulation", 1)
    args = RAdamTrainingArguments(
        **{
            "output_dir": case["output_dir"],
            "optim": case.get("optim", "radam"),
            "per_device_train_batch_size": BATCH // processes // accumulation,
            "gradient_accumulation_steps": accumulation,
            "max_steps": 8,
            "learning_rate": 0.05,
            "weight_decay": 0.1,
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": not torch.accelerator.is_available(),
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            **case.get("arguments", {}),
        }
    )
    set_seed(0)
    trajectory = Trajectory()
    trainer = RAdamTrainer(
        MODELS[case["model"]](),
        args,
        train_dataset=Examples(case["model"]),
        callbacks=[trajectory],
    )
    if case.get("scaler"):  # what fp16 adds, which Accelerate refuses on a CPU
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer.train(resume_from_checkpoint=case.get("resume"))
    found = {
        "warnings": [str(warning.message) for warning in warned],
        "optimizer": type(innermost(trainer.optimizer)).__qualname__,
        "deepspeed": trainer.is_deepspeed_enabled and trainer.accelerator.deepspeed_config["zero_optimization"],
    }
    return {**engine(trainer.accelerator), **found, "trajectory": torch.stack(trajectory.points)}


def loop(case: dict[str, Any], processes: int) -> dict[str, Any]:
    """The same without a Trainer: Accelerate's prepare, accumulation and clipping, in a loop of one's own."""
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = LAYERS[case["model"]]
    accumulation = case.get("accumulation", 1)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), gradient_accumulation_steps=accumulation)
    set_seed(0)
    model = MODELS[case["model"]]()
    optimizer = get_optimizer(case.get("optim", "radam"))(model.parameters(), lr=0.05, weight_decay=0.1)
    batches = DataLoader(Examples(case["model"]), BATCH // processes // accumulation)  # pyright: ignore[reportArgumentType]
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    trajectory = Trajectory()
    for batch in batches:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            trajectory.on_step_end(None, None, None, model=model)
    return {**engine(accelerator), "trajectory": torch.stack(trajectory.points)}


def main() -> None:
    """Run the cases."""
    cases, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    on_cpu.patch()
    gc.freeze()  # what is imported; Accelerate collects garbage at every start of a training
    results = {}
    for name, case in cases.items():
        state = PartialState(cpu=not torch.accelerator.is_available())
        with patch.dict(os.environ, case.get("environment", {})):
            results[name] = (loop if case.get("loop") else run)(case, state.num_processes)
        if state.is_main_process:
            torch.save(results, out)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
