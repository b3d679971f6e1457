"""What is no record is refused in one short line, whatever stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import record

from hf_radam.experiments.records import Record
from hf_radam.experiments.schema import UserError

NOISE = "x" * 10_000
# name: the text of a file, or what is done to a good record; the rule
CASES: dict[str, tuple[str | Callable[[dict[str, Any]], Any], str]] = {
    "curves are text": (lambda r: r.update(curves=NOISE), "curves must be an object, got 'xxx"),
    "a column is text": (lambda r: r["curves"].update(loss="1234"), "curves.loss must be a valid array, got '1234'"),
    "a ragged column": (lambda r: r["curves"]["loss"].pop(), "curves must have a loss, and lists of one length"),
    "empty columns": (lambda r: r.update(evaluations={"step": [], "loss": []}), "evaluations must have steps that"),
    "a number is text": (lambda r: r["curves"].update(loss=[NOISE] * 4), "curves.loss.0 must be a valid number"),
    "steps that fall": (lambda r: r["curves"]["step"].reverse(), "curves must have steps that rise"),
    "final is a list": (lambda r: r.update(final=[1.0, NOISE]), "final must be an object, got [1.0,"),
    "final without its loss": (lambda r: r["final"].pop("loss"), "final must have loss and bleu"),
    "an unknown metric": (lambda r: r.update(metric=NOISE), "metric must match pattern"),
    "an unknown number": (lambda r: r["final"].update({NOISE: 1}), "xxx must match pattern"),
    "truth is text": (lambda r: r.update(diverged="no"), "diverged must be a valid boolean, got 'no'"),
    "an id that is a path": (lambda r: r.update(id="../" + NOISE), "id must match pattern"),
    "no recipe": (lambda r: r["config"].pop("recipe"), "the key 'config.recipe' is missing"),
    "ragged histograms": (lambda r: r["gradients"]["counts"][0].pop(), "gradients must have a row of counts"),
    "notes are text": (lambda r: r.update(notes=NOISE), "notes must be a valid array"),
    "an older format": (lambda r: r.update(version=0), "version must be 1, got 0"),
    "a missing field": (lambda r: r.pop("facts"), "the key 'facts' is missing"),
    "a further field": (lambda r: r.update({NOISE: 1}), "xxx Unexpected keyword argument"),
    "deep lists": ("[" * 100_000, "recursion limit exceeded"),
    "deep mappings": ('{"a":' * 100_000, "recursion limit exceeded"),
    "a list": ("[]", "must be an object, got []"),
    "NaN": ('{"version": NaN}', "is missing"),
    "no end": ('{"version": ', "EOF while parsing"),
    "a number too large": (lambda r: r["facts"].update(size=10**400), "facts.size must be a valid number"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_record_is_refused(case: str, tmp_path: Path) -> None:
    damage, rule = CASES[case]
    path = tmp_path / "r.json"
    if isinstance(damage, str):
        path.write_text(damage)
    else:
        record("radam").save(path)
        content = json.loads(path.read_text())
        damage(content)
        path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        Record.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no record of a run: ")
    assert rule in message
    assert len(message) < 350 + len(str(path))
    assert "\n" not in message


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = record("radam", loss=None, value=None)
    made.save(tmp_path / "r.json")
    assert Record.load(tmp_path / "r.json") == made


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no record of a run: Invalid JSON"):
        replace(record("radam"), notes=["half of a pair: \ud800"]).save(tmp_path / "r.json")
    assert not list(tmp_path.iterdir())
