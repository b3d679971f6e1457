"""The common form of all optimizer checkpoints, and how to read a file without running its code."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException

from hf_radam.errors import UserError
from hf_radam.files import one_line, printable


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing, damaged, does not fit or cannot be written.

    The message is one line. It may quote the checkpoint, so control characters are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(one_line(message)))


@dataclass(frozen=True, kw_only=True)
class OptimizerCheckpoint:
    """The state of an optimizer, from any format."""

    format: str
    """What wrote it, in words."""
    files: list[Path]
    """The files that hold state."""
    processes: int | None
    """How many processes wrote it, if known."""
    groups: list[dict[str, Any]]
    """The parameter groups in order; `params` lists names, or numbers where the format has no names."""
    state: dict[str | int, dict[str, Any]]
    """State by parameter. A parameter that never had a gradient may be missing."""


@contextmanager
def reading(path: Path, remedy: str = "copy the checkpoint again") -> Iterator[None]:
    """Turn each failure to read `path` into a CheckpointError: damaged and foreign files can raise anything."""
    try:
        yield
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        unread = isinstance(cause, FileNotFoundError | PermissionError)
        what = "cannot be read" if unread else "is damaged or in an unknown format"
        raise CheckpointError(f"{path} {what} ({type(cause).__name__}: {one_line(cause)[:300]}); {remedy}") from error


def load_file(path: Path, *, inert: str | None = None) -> Any:
    """Read a file of `torch.save` on the CPU, memory-mapped, without running its code.

    Classes of the package `inert` become `Inert`, so it need not be installed. Any other object beside tensors and
    plain values is a CheckpointError, and so is a damaged file.
    """
    with reading(path):
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if any(name.startswith("torchao.") for name in foreign) and importlib.util.find_spec("torchao"):
            importlib.import_module("torchao.optim")  # it declares its tensors safe
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        known = [name for name in foreign if inert is not None and name.startswith(f"{inert}.")]
        if len(known) < len(foreign):
            unknown = sorted(set(foreign) - set(known))[0]
            remedy = "install torchao" if unknown.startswith("torchao.") else "keep only tensors and plain values in it"
            raise CheckpointError(f"{path} holds {unknown}, which is not loaded for safety; {remedy}")
        stubs: list[Any] = [(type(name.rpartition(".")[2], (Inert,), {}), name) for name in known]
        with torch.serialization.safe_globals(stubs):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


class Inert:
    """Stands for an object of another package: it keeps the arguments and does nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state
