"""Registered names in training scripts that do not know of this package: `hf_radam.enable()` and `hf-radam run`.

The standard library only, until Transformers is imported: every Python that `hf-radam run` starts imports this.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_STARTUP = Path(__file__).parent / "startup"
_CONFIGS = Path(__file__).parent / "accelerate_configs"
# Environment variable: a module whose `follow` is given Transformers' Trainer as soon as that knows the names.
FOLLOWER = "HF_RADAM_FOLLOWER"


def enable() -> None:
    """Make every registered name a valid `optim` in this process, for scripts written for Transformers' own classes.

    `TrainingArguments`, `HfArgumentParser` and `Trainer`, and all that derive from them, then do what our classes do:
    the names, r_t in the logs, the advice and the warnings, DeepSpeed, the loss of split batches, the card. Where
    `optim` is one of Transformers' own names, nothing changes. Transformers is not imported by this; it may be already.

    Example:
        >>> import hf_radam
        >>> hf_radam.enable()
        >>> from transformers import TrainingArguments
        >>> TrainingArguments("out", optim="radam", report_to="none").optim
        'radam'
    """
    watch_imports()
    for name, adapt in _ADAPT.items():
        if name in sys.modules:
            adapt(sys.modules[name])


def watch_imports() -> None:
    """Adapt both modules of Transformers as soon as they are imported."""
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher(MetaPathFinder):
    """Lets the other finders find, and runs ours after the module's own code."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _ADAPT:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Adapting(spec.loader)
                return spec
        return None


class _Adapting(Loader):
    """A loader that adapts what another has loaded, and is that other in all else: `inspect` asks it for the source."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        for place in (module, module.__spec__):  # pickles and reloads see the loader as it was
            setattr(place, "__loader__" if place is module else "loader", self._loader)
        self._loader.exec_module(module)
        _ADAPT[module.__name__](module)


def _adapt_arguments(module: Any) -> None:
    """`TrainingArguments` in place: its subclasses, dataclasses themselves, call these two methods."""
    from hf_radam.training.arguments import check_name, set_name

    cls = module.TrainingArguments
    post_init, set_optimizer = cls.__post_init__, cls.set_optimizer
    if hasattr(post_init, "__wrapped__"):  # adapted already
        return

    @functools.wraps(post_init)
    def with_names(self: Any) -> None:
        check_name(self, lambda: post_init(self))

    @functools.wraps(set_optimizer)
    def set_with_names(self: Any, name: Any = "adamw_torch", *args: Any, **kwargs: Any) -> Any:
        return set_name(self, name, lambda known: set_optimizer(self, known, *args, **kwargs))

    cls.__post_init__, cls.set_optimizer = with_names, set_with_names
    # HfArgumentParser makes choices of the members of an enumeration.
    cls.__annotations__["optim"] = cls.__dataclass_fields__["optim"].type = str


def _adapt_trainer(module: Any) -> None:
    """`Trainer` by a class of the same name, on which those that import it later build."""
    from hf_radam.training.mixin import RegisteredOptimizers
    from hf_radam.training.optimizers import know_registered_names

    original = module.Trainer
    if issubclass(original, RegisteredOptimizers):  # adapted already
        return

    class Trainer(RegisteredOptimizers, original):
        """Transformers' Trainer, which also knows the optimizers registered with hf_radam."""

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            _amend_own_card(cls)

    for attribute in ("__module__", "__qualname__", "__doc__"):  # where pickle looks for it
        setattr(Trainer, attribute, getattr(original, attribute))
    for cls in original.__subclasses__():  # from before
        if cls is not Trainer:
            cls.__bases__ = tuple(Trainer if base is original else base for base in cls.__bases__)
            for each in (cls, *_all_subclasses(cls)):
                _amend_own_card(each)
    # Whoever has imported the original under its name gets the same.
    original.__new__ = staticmethod(lambda cls, *_, **__: object.__new__(Trainer if cls is original else cls))
    know_registered_names()
    module.Trainer = Trainer
    for name, other in list(sys.modules.items()):
        if name.partition(".")[0] == "transformers" and vars(other).get("Trainer") is original:
            other.Trainer = Trainer  # pyright: ignore[reportAttributeAccessIssue]
    if follower := os.environ.get(FOLLOWER):
        import_module(follower).follow(Trainer)


def _all_subclasses(cls: type) -> list[type]:
    return [each for direct in cls.__subclasses__() for each in (direct, *_all_subclasses(direct))]


def _amend_own_card(cls: Any) -> None:
    """Have the optimizer in a card that a trainer writes itself (TRL's, Sentence Transformers')."""
    own = vars(cls).get("create_model_card")
    if own is None or cls.__module__.startswith("hf_radam.") or hasattr(own, "__wrapped__"):
        return

    @functools.wraps(own)
    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        if self._says_more():
            self._amend_card()

    cls.create_model_card = create_model_card


_ADAPT: dict[str, Callable[[Any], None]] = {
    "transformers.training_args": _adapt_arguments,
    "transformers.trainer": _adapt_trainer,
}


def run_script(argv: Sequence[str]) -> int:
    """Run a script, a module (`-m`) or a command, in which and in whose children every registered name is an `optim`.

    Args:
        argv: what follows `hf-radam run`.

    Returns:
        The exit status; on systems with `exec` it does not return, but becomes that process.

    Raises:
        FileNotFoundError: there is no such script or command, or no such configuration of Accelerate.
    """
    parser = argparse.ArgumentParser(
        "hf-radam run",
        usage="hf-radam run [--accelerate_config NAME] (SCRIPT | -m MODULE | COMMAND) [ARGUMENT ...]",
        description="Run a training script as it is, with `--optim radam` and every other registered name.",
        epilog="Examples: hf-radam run run_glue.py --optim radam ...; hf-radam run -m my.training --optim radam; "
        "hf-radam run trl sft --optim radam ...; hf-radam run torchrun --nproc_per_node 2 train.py --optim radam",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--accelerate_config", metavar="NAME", help="start it through Accelerate: a name of ours (fsdp2, ddp) or a file"
    )
    parser.add_argument("-m", "--module", action="store_true", help="what follows is a module")
    parser.add_argument("what", metavar="SCRIPT", help="a Python file, or a command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    asked = parser.parse_args(argv)
    command = [*script_command(asked.what, asked.module, asked.accelerate_config), *asked.arguments]
    os.environ.update(script_environment(os.environ))
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command).returncode


def accelerate_names() -> str:
    """The Accelerate configurations that come with the package, as a list in words."""
    return ", ".join(sorted(path.stem for path in _CONFIGS.glob("*.yaml")))


def accelerate_launcher(config: str) -> list[str]:
    """The command that starts what follows it in the processes of an Accelerate configuration.

    Args:
        config: one of `accelerate_names`, or a file.

    Raises:
        FileNotFoundError: there is no such configuration.
    """
    path = Path(config) if Path(config).is_file() else _CONFIGS / f"{config}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no configuration of Accelerate {config!r}; give a file, or one of {accelerate_names()}"
        )
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]


def script_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment of a process needs for the names to be known there and in its children."""
    paths = [str(_STARTUP), *filter(None, [environment.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def script_command(what: str, is_module: bool, accelerate_config: str | None) -> list[str]:
    """The command that starts a script, a module or a command, without its arguments.

    Raises:
        FileNotFoundError: there is no such script or command, or no such configuration of Accelerate.
    """
    python = [sys.executable] if accelerate_config is None else accelerate_launcher(accelerate_config)
    if is_module:
        return [*python, "-m", what]
    is_python = what.endswith((".py", ".pyc")) or (Path(what).is_file() and not os.access(what, os.X_OK))
    if is_python and Path(what).is_file():
        return [*python, what]
    # First those of this environment, which need not be active.
    found = None
    if not is_python and accelerate_config is None:
        found = shutil.which(what, path=str(Path(sys.executable).parent)) or shutil.which(what)
    if found is None:
        kind = "file" if is_python or accelerate_config is not None else "file or command"
        raise FileNotFoundError(f"{kind} not found: {what}")
    return [found]
