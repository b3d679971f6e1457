"""The tasks of the comparison, on small data: as a user runs them, on any number of processes, and given bad input."""

from __future__ import annotations

import importlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from comparisons import COMMITTED, CONFIGS, ROOT, compare, environment, run
from datasets import Dataset
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from task_files import (
    CLASSIFICATION,
    COLUMNS,
    LANGUAGE_MODELING,
    LM_DATA,
    PARALLEL,
    SMOOTHED,
    SPLIT,
    TRANSLATION,
    local,
    write,
    write_files,
)
from transformers import HfArgumentParser

from hf_radam.examples.classification import ClassificationData, load_examples, score, scores
from hf_radam.examples.language_modeling import LanguageModelingData, blocks, load_texts
from hf_radam.examples.parallel_text import TranslationData, load_pairs
from hf_radam.examples.token_batches import TokenBatches
from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.metrics import METRICS, metric_named
from hf_radam.experiments.records import load_records
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import TASKS

# Sums of float32 in another order: 6e-8 relative, which grows over the updates.
SPLIT_TOLERANCE = 1e-5
COLA = ["--dataset_config_name", "cola"]

pytestmark = pytest.mark.usefixtures("sketched")


@pytest.fixture
def files() -> Path:
    return write_files()


def classification(**data: str) -> dict[str, Any]:
    return {**CLASSIFICATION, "data": data}


MODELING = {**LANGUAGE_MODELING, "data": LM_DATA}
TABLE: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "cola's files": (classification(text_column="4", label_column="2"), local("tsv"), "accuracy"),
    "pairs in csv": (classification(metric="f1", text_column="german, text", label_column="past"), local("csv"), "f1"),
    "numbers in json": (classification(metric="spearman", label_column="share"), local("json"), "spearman"),
    "glue": (CLASSIFICATION, ["--dataset_name", "glue", *COLA], "matthews_correlation"),
    "lines of text": (MODELING, local("txt"), "perplexity"),
    "text of the hub": (MODELING, ["--dataset_name", "hub", *COLA], "perplexity"),
    "the grammar's text": (MODELING, [], "perplexity"),
    "token batches": ({**TRANSLATION, "average_checkpoints": 2}, PARALLEL, "bleu"),
}
UNITS = {"spearman": "squared error", "perplexity": "nats a token", "bleu": "nats a token"}


@pytest.mark.parametrize("case", TABLE)
def test_every_task_trains_and_is_reported(case: str, files: Path) -> None:
    content, flags, metric = TABLE[case]
    unit = UNITS.get(metric, "nats an example")
    assert compare(write(files, content), *flags, "--output_dir", "r") == 0
    assert metric_named(metric).label in Path("r/table.md").read_text()
    (record,) = load_records(Path("r"))
    assert (record.metric, record.loss_unit, record.diverged, record.notes) == (metric, unit, False, [])
    assert record.curves["step"] == [*range(1, 9)]
    assert record.evaluations["step"] == [0, 4, 8]
    assert all(value is not None and math.isfinite(value) for value in record.final.values())
    assert record.final.keys() - {"loss"} <= METRICS.keys()
    first, *_, last = record.evaluations["loss"]
    assert first is not None
    assert last is not None
    assert last < first
    kind = "majority_class" if "example" in unit or "error" in unit else "unigram_entropy"
    assert record.facts.keys() == {kind}
    assert str(files) not in "".join(path.read_text() for path in Path("r/records").iterdir())


def test_scripts_train_by_themselves() -> None:
    """The grammar with no further argument than its size; our arguments are described before Trainer's."""
    script = [sys.executable, ROOT / "scripts" / "translation.py", "--optim", "radam", "--output_dir", "out"]
    small = "--max_steps 3 --needed_examples 64 --max_eval_samples 8 --vocab_size 300 --max_length 20 --use_cpu"
    run([*script, *small.split()], env=environment(PYTHONPATH=str(ROOT)))
    assert "test_bleu" in json.loads(Path("out/test_results.json").read_text())
    assert {path.name for path in Path("out").iterdir()} >= {"model.safetensors", "tokenizer.json", "config.json"}
    assert {content["task"] for content, *_ in TABLE.values()} == TASKS.keys() - {"script"}
    for module in filter(None, TASKS.values()):
        described = HfArgumentParser(importlib.import_module(module).ARGUMENTS).format_help()
        assert described.index("--vocab_size") < described.index("--output_dir") < described.index("--optim ")


def test_one_text_in_all_forms(files: Path) -> None:
    """The same examples, whatever file or dataset they come from."""

    def examples(**data: Any) -> Any:
        return [part[:] for part in load_examples(ClassificationData(max_eval_samples=9, **data))[:2]]

    def of(ending: str) -> dict[str, Any]:
        return {"train_file": f"train.{ending}", "validation_file": f"validation.{ending}"}

    expected = examples(**of("csv"), label_column="past")
    for ending in ("json", "jsonl"):
        assert examples(**of(ending), label_column="past") == expected
    assert examples(dataset_name="hub", dataset_config_name="cola") == expected
    assert len(expected[1]["labels"]) == 9
    train, validation = examples(train_file="train.csv", label_column="past")  # a tenth is held out
    assert (len(train["text"]), len(validation["text"])) == (81, 9)
    for ending in ("txt", "csv", "json", "jsonl"):  # as plain text
        texts, _ = load_texts(LanguageModelingData(**of(ending), block_size=2))
        assert [*texts["text"]] == Path("train.txt").read_text().splitlines()
    pairs = load_pairs(TranslationData(train_prefix="train", validation_prefix="validation"))
    for ending in ("csv", "jsonl"):  # as columns of two languages
        assert load_pairs(TranslationData(**of(ending), source_lang="german", target_lang="text")) == pairs


def read(name: str, content: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a file, in its order: nothing is held out."""
    Path(name).write_bytes(content.encode())
    _, found, names = load_examples(ClassificationData(train_file=name, validation_file=name))
    return [*found["text"]], [names[label] for label in found["labels"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\r\n"a, ""b""\nc",1\r\n\r\nNA,2\r\nnull,1\r\n'),
        ("a.csv", "\ufefftext,label,more\nx,2\ny,1,z\n"),
        ("a.tsv", 'text\tlabel\n"a\tb"\t1\na "quote" within\t2\n'),
        ("a.csv", f"text,label\n{'x' * 200_000},1\ny,2\n"),
    ],
)
def test_tables_are_read_as_by_pandas(name: str, content: str) -> None:
    frame = pd.read_csv(io.BytesIO(content.encode()), sep="\t" if name == "a.tsv" else ",", dtype=str, na_filter=False)
    assert read(name, content) == (frame["text"].tolist(), frame["label"].tolist())


@pytest.mark.parametrize(
    ("labels", "names", "read_as"),
    [
        ([1, 1.0, "1", " 1", 0, -2.5], ["-2.5", "0", "1"], ["1", "1", "1", "1", "0", "-2.5"]),
        ([10, 9], ["9", "10"], ["10", "9"]),
        ([True, False], ["False", "True"], ["True", "False"]),
        (["not spam", "spam "], ["not spam", "spam"], ["not spam", "spam"]),
        (["1", "b", 1.0], ["1", "b"], ["1", "b", "1"]),
    ],
)
def test_labels_are_in_order_and_the_second_is_the_positive_one(labels: Any, names: Any, read_as: Any) -> None:
    rows = "".join(json.dumps({"text": "x", "label": label}) + "\n" for label in labels)
    assert read("a.jsonl", rows)[1] == read_as
    data = {"train_file": "a.jsonl", "validation_file": "a.jsonl", "metric": "f1"}
    for options, positive in [({}, 1), *([({"positive_label": names[0]}, 0)] if len(names) == 2 else [])]:
        assert load_examples(ClassificationData(**data, **options))[2] == names
        truth = np.arange(12) % len(names)
        if len(names) == 2:
            expected = f1_score(truth, np.zeros(12), pos_label=positive, zero_division=0)  # pyright: ignore[reportArgumentType]
            assert score(np.zeros(12), truth, names, options.get("positive_label"))["f1"] == expected


def test_constant_predictions_score_as_the_majority_class(files: Path) -> None:
    data = ClassificationData(train_file="train.csv", validation_file="validation.csv", label_column="past")
    train, validation, names = load_examples(data)
    labels = np.array(validation["labels"])
    majority = round(np.mean(train["labels"]))
    predictions = np.stack([np.ones(len(labels)), np.full(len(labels), majority)], axis=-1)
    found = scores(type("Prediction", (), {"predictions": predictions, "label_ids": labels}), names, None)
    assert found == {"loss": 1, **score(predictions[:, 1], labels, names, None)}
    assert found["accuracy"] == pytest.approx(np.mean(labels == majority))
    assert found["matthews_correlation"] == 0


def test_blocks_predict_every_token_once() -> None:
    """Whatever the lengths of texts; one that is blank has no tokens."""
    texts = Dataset.from_dict({"any": ["0 1 2", " ", *map(str, range(4, 3000)), "x" * 9]})

    def tokenizer(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[len(text)] * len(text.split()) for text in texts]}

    tokenizer.eos_token_id = 0  # pyright: ignore[reportFunctionMemberAccess]
    stream = [token for text in texts["any"] for token in ([len(text)] * len(text.split()) + [0]) * bool(text.split())]
    found = [*blocks(texts, tokenizer, 8)]
    assert [label for block in found for label in block["labels"][1:]] == stream[1 : len(found) * 7 + 1]
    assert len(stream) - len(found) * 7 - 1 < 7
    assert all(block["labels"] == [-100, *block["input_ids"][1:]] and len(block["labels"]) == 8 for block in found)
    assert [*blocks(texts, tokenizer, 8, count=5)] == found[:5]


def test_token_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 500).tolist()
    options: dict[str, Any] = {"lengths": lengths, "tokens": 120, "steps": 150, "seed": 3}
    whole = list(TokenBatches(**options))
    assert len(whole) == len(TokenBatches(**options)) == 150  # passes follow each other without a seam
    sizes = [len(batch) * max(lengths[i] for i in batch) for batch in whole]
    assert max(sizes) <= 120
    assert np.mean(sizes) > 0.9 * 120
    first_pass = [i for batch in whole[:30] for i in batch]
    assert len(set(first_pass)) == len(first_pass)
    assert whole == list(TokenBatches(**options))
    assert whole != list(TokenBatches(**{**options, "seed": 4}))
    fewer = TokenBatches(**{**options, "steps": 40})
    assert [sorted(batch) for batch in fewer] == [sorted(batch) for batch in whole[:40]]
    for processes, accumulation in ((2, 1), (1, 2), (2, 2)):
        shares = [
            list(TokenBatches(**options, processes=processes, process=process, accumulation=accumulation))
            for process in range(processes)
        ]
        for step, batch in enumerate(whole):
            parts = [share[step * accumulation + part] for share in shares for part in range(accumulation)]
            assert all(parts)
            assert sorted(i for part in parts for i in part) == sorted(batch)
    with pytest.raises(UserError, match="has room for 4 of the longest examples"):
        TokenBatches(**options, processes=5)
    with pytest.raises(UserError, match="do not fill one batch"):
        TokenBatches(**{**options, "lengths": [5, 5]})


@pytest.mark.parametrize("task", SPLIT)
def test_accumulation_makes_no_difference(task: str, files: Path) -> None:
    content, flags = SPLIT[task]
    config = write(files, content, training=SMOOTHED)
    assert compare(config, *flags, "--output_dir", "one") == 0
    assert compare(config, *flags, "--output_dir", "split", "--set", "gradient_accumulation_steps=2") == 0
    (first,), (second,) = load_records(Path("one")), load_records(Path("split"))
    assert first.id == second.id
    for name in ("loss", "grad_norm", "learning_rate"):
        assert second.curves[name] == pytest.approx(first.curves[name], rel=SPLIT_TOLERANCE), name
    assert second.evaluations["loss"] == pytest.approx(first.evaluations["loss"], rel=SPLIT_TOLERANCE)


def test_the_average_is_that_of_the_last_checkpoints(files: Path) -> None:
    """Runs of 4, 6 and 8 updates at a constant rate are one run, stopped at its checkpoints."""
    training = {"adam_beta2": 0.9, "lr_scheduler_type": "constant"}
    ends: list[dict[str, torch.Tensor]] = []
    for max_steps, averaged in ((4, 0), (6, 0), (8, 0), (8, 3)):
        changes = {"max_steps": max_steps, "save_steps": 2, "average_checkpoints": averaged, "training": training}
        folder = files / f"{max_steps}-{averaged}"
        assert compare(write(files, TRANSLATION, **changes), *PARALLEL, "--output_dir", folder) == 0
        ends.append(load_file(next(folder.glob("runs/*/model/model.safetensors"))))
        assert not list(folder.glob("runs/*/model/checkpoint-*"))
    *parts, average = ends
    for name, weight in average.items():
        assert torch.allclose(weight, torch.stack([part[name] for part in parts]).mean(0), rtol=1e-5, atol=1e-7)
    assert not torch.equal(average["model.shared.weight"], parts[-1]["model.shared.weight"])


def test_a_recipe_may_have_its_own_length_and_rate(files: Path) -> None:
    recipes = ["adam", {"recipe": "adam_2k", "optim_args": {"freeze_steps": 2}, "max_steps": 10,
                        "learning_rate_scale": 1.25}, {"recipe": "adam_warmup", "warmup_steps": 0.25}]  # fmt: skip
    assert compare(write(files, CLASSIFICATION, recipes=recipes), *local("csv"), *COLUMNS, "--output_dir", "r") == 0
    records = {record.recipe: record for record in load_records(Path("r"))}
    rates = {name: record.curves["learning_rate"] for name, record in records.items()}
    assert rates["adam"] == pytest.approx([1e-2 * (8 - step) / 8 for step in range(8)])
    assert rates["adam_2k"][2:] == pytest.approx(rates["adam"])
    assert rates["adam_warmup"][:3] == pytest.approx([0, 0.5e-2, 1e-2])
    assert records["adam_2k"].evaluations["step"] == [0, 4, 8, 10]
    assert {record.learning_rate for record in records.values()} == {1e-2}


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_keep_their_ids(name: str) -> None:
    """Else the same command would train them again."""
    records = load_records(ROOT / "model_cards" / name)
    config = CONFIGS / f"{name.replace('/', '_')}.yaml"
    seeds = sorted({record.seed for record in records})
    given = {key: records[0].config[key] for key in ("data", "model")}  # files may come from the command line
    ids = {run.id for run in load_comparison(config, {"seeds": seeds, **given}).runs()}
    assert {record.id for record in records} <= ids
