"""Comparison files that are well-formed nonsense: one clear line, soon."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from comparisons import TINY

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.schema import UserError

LEVELS = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" if i else "a0: &a0 [lol]" for i in range(12)]
MERGED = [f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 10)}]}}" if i else "b0: &b0 {x: 1}" for i in range(12)]
FILES = {
    "aliases that explode": "\n".join([*LEVELS, "name: *a11"]),
    "merges that explode": "\n".join([*MERGED, "name: *b11"]),
    "aliases of themselves": "name: &name [*name]",
    "nested lists": f"name: {'[' * 5000}{']' * 5000}",
    "nested mappings": "name: " + "{a: " * 5000 + "1" + "}" * 5000,
    "half too deep": f"name: {'[' * 100}{']' * 100}",
    "a date that does not exist": "name: 2020-13-45",
    "a number without end": f"name: {'9' * 10_000}",
    "no text": "name: \0",
    "a key that is a list": "? [a]\n: b",
    "an object": "name: !!python/object/apply:os.system ['true']",
    "empty": "",
}


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, tmp_path: Path) -> None:
    path = tmp_path / "comparison.yaml"
    path.write_text(FILES[case])
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        load_comparison(path)
    assert time.process_time() - started < 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 4500  # the longest lists all training arguments


def fields(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []:
        yield (*path, key)
        yield from fields(content[key], (*path, key))


RECIPE = {
    "name": "x", "optimizer": "adam", "optim_args": {"eps": 1.0}, "warmup": "linear", "warmup_steps": 3,
    "max_steps": 9, "learning_rate_scale": 1.0, "model": {"dropout": 0.0},
}  # fmt: skip
WHOLE = {**TINY, "recipes": [RECIPE]}
NONSENSE = (None, True, -1, 10**40, float("nan"), "x" * 5000, "\0", [], [[1]], {}, {1: 2, "a": 3}, b"a", {"a", "b"})


@pytest.mark.parametrize("field", [*fields(WHOLE)], ids=str)
def test_fields_of_another_type(field: tuple[Any, ...], tmp_path: Path) -> None:
    """Each is refused in one line, or taken as a value that may be one: then the runs have ids."""
    for value in NONSENSE:
        content = copy.deepcopy(WHOLE)
        place: Any = content
        for key in field[:-1]:
            place = place[key]
        place[field[-1]] = value
        (path := tmp_path / "comparison.yaml").write_text(yaml.dump(content))
        said = ""
        try:
            assert all(run.id for run in load_comparison(path).runs())
        except UserError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 4500
