"""Every Python that `hf-radam run` starts runs this file, which makes the optimizers' names known there.

It hides another `sitecustomize`, of a distribution or a tracer. That one runs first and keeps its name.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _run_the_other() -> None:
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is not None and spec.loader is not None:
        other = module_from_spec(spec)
        sys.modules["sitecustomize"] = other
        spec.loader.exec_module(other)


def _name_the_optimizers() -> None:
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
    if PathFinder.find_spec("hf_radam", sys.path) is None:  # started from a checkout that is not installed
        sys.path.append(str(_HERE.parents[2]))
    from hf_radam.training.launch import watch_imports

    watch_imports()


try:
    _run_the_other()
finally:
    _name_the_optimizers()
