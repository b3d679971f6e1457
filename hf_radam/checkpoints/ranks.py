"""What processes do together: agree, and let the first one act. All of it works with one process too."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from hf_radam.checkpoints.checkpoint import CheckpointError

T = TypeVar("T")


@contextmanager
def alike(call: str, directory: str | Path) -> Iterator[dict[str, Any]]:
    """Processes exchange what they are about to do; all raise if one of them fails or does something else.

    Otherwise the others would wait for it until the launcher's timeout.
    """
    facts: dict[str, Any] = {"call": call, "directory": str(directory)}
    failure: Exception | None = None
    try:
        yield facts
    except (TypeError, ValueError) as error:
        failure = error
    everyone: list[Any] = [(facts, failure)]
    if dist.is_initialized():
        everyone = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, (facts, failure and f"{type(failure).__name__}: {failure}"))
    if failure is not None:
        raise failure
    for number, (others, failed) in enumerate(everyone):
        if failed:
            raise CheckpointError(f"process {number} failed ({failed}); nothing was saved or loaded")
        for key, value in everyone[0][0].items():
            if others.get(key) != value:
                raise CheckpointError(
                    f"process {number} has {key}={others.get(key)!r}, but process 0 has {value!r}; call {call} with "
                    "the same arguments and after the same steps in all processes"
                )


def on_first_process(act: Callable[[], T]) -> T:
    """Act in the first process, and return its result or raise its error in all; also a barrier."""
    outcome: list[Any] = [None, None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            outcome[0] = act()
        except Exception as error:  # of any kind: the others are waiting
            outcome[1] = error
    if dist.is_initialized():
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def one_process_is_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is (disabled|unavailable)")
        yield
