"""Two processes, by each way to start them, train as one does."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from comparisons import ROOT, TINY, compare, write_config
from launching import run, torchrun
from sketches import sketches
from task_files import CLASSIFICATION, LANGUAGE_MODELING, LM_DATA, SMOOTHED, TRANSLATION, write, write_files

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.runs.words import job_of
from hf_radam.experiments.script_data import TASKS

# Two processes sum gradients in another order than one: float32 rounding, 6e-8 relative, grows over 12 steps.
TOLERANCE = 1e-5
PARALLEL = {"train_prefix": "train", "validation_prefix": "validation", "vocab_size": 300}
TABLE = {"train_file": "train.csv", "validation_file": "validation.csv", "text_column": "text", "label_column": "past"}
LINES = {**LM_DATA, "train_file": "train.txt", "validation_file": "validation.txt"}
# The loss of Transformers' smoother and of the models, and each way to make a batch.
CASES: dict[str, dict[str, Any]] = {
    "smoothed": {**TINY, "training": SMOOTHED},
    "plain": {**TINY, "training": {"adam_beta2": 0.9}},
    "batches by tokens": {**TRANSLATION, "training": SMOOTHED, "data": PARALLEL},
    "classification": {**CLASSIFICATION, "training": SMOOTHED, "data": TABLE},
    "blocks": {**LANGUAGE_MODELING, "data": LINES},
}


def trainings(folder: Path, name: str) -> list[tuple[str, list[str]]]:
    """Module and words of each case, as a comparison would give them."""
    found = []
    for case, content in CASES.items():
        (one,) = load_comparison(write(folder, content, recipes=["radam"])).runs()
        words = [*job_of(one, folder / name, "").arguments, f"--output_dir={folder / name / 'runs' / case / 'model'}"]
        found.append((TASKS[content["task"]], [*words, "--logging_steps=1", f"--save_steps={one.max_steps}"]))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trainings by one process, and by two in one launch."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_files()
        for module, words in trainings(folder, "one"):
            import_module(module).main(words)
        both = json.dumps(trainings(folder, "two"))
        run([*torchrun(2), str(ROOT / "tests" / "workers" / "train_all.py"), both], folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_torchrun(case: str, folder: Path) -> None:
    one, two = (folder / name / "runs" / case / "model" for name in ("one", "two"))
    (alone,), (together,) = (
        [json.loads(path.read_text())["log_history"] for path in place.glob("checkpoint-*/trainer_state.json")]
        for place in (one, two)
    )
    for name in ("loss", "grad_norm", "learning_rate", "eval_loss"):
        expected = [entry[name] for entry in alone if name in entry]
        assert expected
        assert [entry[name] for entry in together if name in entry] == pytest.approx(expected, rel=TOLERANCE), name
    if CASES[case]["task"] == "translation":
        bleu, other = (json.loads((place / "test_results.json").read_text())["test_bleu"] for place in (one, two))
        assert other == pytest.approx(bleu, abs=0.1)


def test_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is started so by the command, which draws the report as well."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = (ROOT / "hf_radam" / "training" / "accelerate_configs" / "ddp.yaml").read_text()
    Path("free_port.yaml").write_text(f"{config}main_process_port: 0\n")
    path = write_config(tmp_path, recipes=["adam_untuned_linear"])
    with sketches():
        assert compare(path, "--output_dir", "one") == 0
        assert compare(path, "--output_dir", "two", "--accelerate_config", "free_port.yaml") == 0
    (alone,), (together,) = load_records(Path("one")), load_records(Path("two"))
    assert (alone.id, alone.environment["processes"]) == (together.id, 1)
    assert together.environment["processes"] == 2
    for name in ("loss", "grad_norm", "learning_rate"):
        assert together.curves[name] == pytest.approx(alone.curves[name], rel=TOLERANCE), name
    assert together.evaluations["loss"] == pytest.approx(alone.evaluations["loss"], rel=TOLERANCE)
    assert together.final["bleu"] == pytest.approx(alone.final["bleu"], abs=0.1)
    assert "adam_untuned_linear" in Path("two", "table.md").read_text()
