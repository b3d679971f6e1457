"""Registered names in training scripts that do not know this package: `hf_radam.enable()` and `hf-radam run`.

Every Python that `hf-radam run` starts imports this file, so it imports only the standard library at first.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_STARTUP = Path(__file__).parent / "startup"
_CONFIGS = Path(__file__).parent / "accelerate_configs"
# Environment variable: a module whose `follow(Trainer)` is called when Transformers' Trainer has been imported.
FOLLOWER = "HF_RADAM_FOLLOWER"
# Modules of Transformers, and our modules that adapt them after their import.
_ADAPTED_BY = {
    "transformers.training_args": "hf_radam.training.arguments",
    "transformers.trainer": "hf_radam.training.mixin",
}


def enable() -> None:
    """Make every registered name a valid `optim` in this process, for scripts that use Transformers' own classes.

    `TrainingArguments`, `HfArgumentParser`, `Trainer` and their subclasses then do what our classes do: names, r_t in
    the logs, advice and warnings, DeepSpeed, the loss of split batches, the card. Transformers' own names for `optim`
    work as before. Call it before or after Transformers is imported; it does not import Transformers itself.

    Example:
        >>> import hf_radam
        >>> hf_radam.enable()
        >>> from transformers import TrainingArguments
        >>> TrainingArguments("out", optim="radam", report_to="none").optim
        'radam'
    """
    watch_imports()
    for name in _ADAPTED_BY:
        if name in sys.modules:
            _adapt(name)


def watch_imports() -> None:
    """Adapt each module of `_ADAPTED_BY` as soon as it is imported."""
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


@functools.cache
def _adapt(name: str) -> None:
    import_module(_ADAPTED_BY[name])
    if name == "transformers.trainer" and (follower := os.environ.get(FOLLOWER)):
        import_module(follower).follow(sys.modules[name].Trainer)


class _Watcher(MetaPathFinder):
    """Lets the other finders find a module, and adapts it after its own code has run."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _ADAPTED_BY:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                _adapt_after(spec.loader)
                return spec
        return None


def _adapt_after(loader: Any) -> None:
    """Make a loader, which belongs to one module, adapt that module once its code has run."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # pickles and reloads see the loader as it was
        execute(module)
        _adapt(module.__name__)

    loader.exec_module = exec_module


def run_script(argv: Sequence[str]) -> int:
    """`hf-radam run`: replace this process by the script, or, without `exec`, return the script's exit status."""
    parser = argparse.ArgumentParser(
        "hf-radam run",
        usage="hf-radam run [--accelerate_config NAME] (SCRIPT | -m MODULE | COMMAND) [ARGUMENT ...]",
        description="Run an unchanged training script, which then knows `--optim radam` and every other name.",
        epilog="Examples: hf-radam run run_glue.py --optim radam ...; hf-radam run -m my.training --optim radam; "
        "hf-radam run trl sft --optim radam ...; hf-radam run torchrun --nproc_per_node 2 train.py --optim radam",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--accelerate_config", metavar="NAME", help="start it with Accelerate: fsdp2, ddp ... or your own file"
    )
    parser.add_argument("-m", "--module", action="store_true", help="run a module, as `python -m` does")
    parser.add_argument("what", metavar="SCRIPT", help="a Python file, a folder with a __main__.py, or a command")
    first = 0  # index of the first word that is not our option; the rest belongs to the script, also a `--`
    while argv[first : first + 1] and argv[first].startswith("-"):
        first += 2 if argv[first] == "--accelerate_config" else 1
    asked = parser.parse_args(argv[: first + 1])
    command = [*script_command(asked.what, asked.module, asked.accelerate_config), *argv[first + 1 :]]
    os.environ.update(script_environment(os.environ))
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command).returncode


def script_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables with which a process and its children know the names."""
    paths = [str(_STARTUP), *filter(None, [environment.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def script_command(what: str, is_module: bool, accelerate_config: str | None) -> list[str]:
    """The command that starts a Python or shell script, a folder with a `__main__.py`, a module or a command.

    Raises:
        FileNotFoundError: there is no such script or command, or no such Accelerate configuration.
    """
    python = [sys.executable]
    if accelerate_config is not None:
        config = Path(accelerate_config)
        config = config if config.is_file() else _CONFIGS / f"{accelerate_config}.yaml"
        if not config.is_file():
            known = ", ".join(sorted(path.stem for path in _CONFIGS.glob("*.yaml")))
            raise FileNotFoundError(
                f"no Accelerate configuration {accelerate_config!r}; give a file, or one of {known}"
            )
        python += ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    if is_module:
        return [*python, "-m", what]
    place, runs = Path(what), os.access(what, os.X_OK)
    named_python = place.suffix in (".py", ".pyc")
    if place.is_file() and (named_python or not (runs or place.suffix == ".sh")):
        return [*python, what]
    may_be_command = accelerate_config is None and not named_python
    if may_be_command and place.is_file():
        with place.open("rb") as file:
            needs_shell = place.suffix == ".sh" and not (runs and file.read(2) == b"#!")
        return [*([shutil.which("bash") or "/bin/sh"] if needs_shell else []), str(place.absolute())]
    # First look in this environment, which need not be active.
    found = shutil.which(what, path=str(Path(sys.executable).parent)) if may_be_command else None
    if found is None and (place / "__main__.py").is_file():
        return [*python, what]
    found = found or (shutil.which(what) if may_be_command else None)
    if found is None:
        raise FileNotFoundError(f"{'file or command' if may_be_command else 'file'} not found: {what}")
    return [found]
