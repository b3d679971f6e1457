"""Trainings by our scripts, one after the other in the same processes, whose start takes longer than each."""

from __future__ import annotations

import gc
import json
import sys
from importlib import import_module

import torch

if __name__ == "__main__":
    import_module("transformers.trainer")
    gc.freeze()  # Accelerate collects garbage at every start of a training
    for module, words in json.loads(sys.argv[1]):
        import_module(module).main(words)
    torch.distributed.destroy_process_group()
