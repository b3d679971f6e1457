"""The tasks of the comparison, on small data: as a user runs them, on any number of processes, and given bad input."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from comparisons import COMPARE, ROOT, TINY, environment, load_script, run
from safetensors.torch import load_file

from hf_radam.experiments.batches import TokenBatches
from hf_radam.experiments.config import Comparison, UserError, load_comparison
from hf_radam.experiments.grammar import sentence_pairs
from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.sweep import sweep
from hf_radam.experiments.tasks import TASKS, task_class
from hf_radam.experiments.tasks.language_modeling import Blocks

# Sums of float32 in another order: 6e-8 relative, which grows over the updates.
SPLIT_TOLERANCE = 1e-5

ENCODER = {
    "model_type": "bert",
    "config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
}  # fmt: skip
DECODER = {
    "model_type": "opt",
    "config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "dropout": 0.0,
        "max_position_embeddings": 32,
    },
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "Tiny", "recipes": ["radam"], "learning_rates": [1e-2], "max_steps": 8, "eval_steps": 4, "save_steps": 4,
    "threads": 1, "training": {"adam_beta2": 0.9},
}  # fmt: skip
CLASSIFICATION = {**BASE, "task": "classification", "model": ENCODER, "batch_size": 8}
LANGUAGE_MODELING = {**BASE, "task": "language_modeling", "model": DECODER, "batch_size": 8}
TRANSLATION = {**BASE, "task": "translation", "model": TINY["model"], "tokens_per_batch": 128}
LM_DATA = {"vocab_size": 300, "block_size": 16, "max_eval_samples": 20}


def write(folder: Path, content: dict[str, Any], **changes: Any) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def compare(*arguments: Any) -> int:
    return load_script(COMPARE[1]).main([str(argument) for argument in arguments])


@pytest.fixture
def files() -> Path:
    """Data of all forms in the present folder: sentences, whether they tell the past, and the share of letters e."""
    german, english = zip(*sentence_pairs(120, seed=5), strict=True)
    rows = [
        {
            "number": str(number), "german": de, "text": en, "past": "yes" if " hat " in f" {de} " else "no",
            "share": en.count("e") / len(en),
        }
        for number, (de, en) in enumerate(zip(german, english, strict=True))
    ]  # fmt: skip
    parts = {"train": rows[:90], "validation": rows[90:]}
    for part, some in parts.items():
        with Path(f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(some)
        cola = [f'x\t{int(row["past"] == "yes")}\t*\t{row["text"]} "\n' for row in some]  # a lone quote
        Path(f"{part}.tsv").write_text("".join(cola))
        Path(f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        Path(f"{part}.json").write_text(json.dumps(some))
        Path(f"{part}.txt").write_text("".join(f"{row['text']}\n" for row in some))
        for language, column in (("de", "german"), ("en", "text")):
            Path(f"{part}.{language}").write_text("".join(f"{row[column]}\n" for row in some))
    for name, column in (("glue", "sentence"), ("hub", "text")):
        configs = [
            {"config_name": "cola", "data_files": [{"split": part, "path": f"{part}.jsonl"} for part in parts]}
        ]  # fmt: skip
        Path(name).mkdir()
        Path(name, "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
        for part, some in parts.items():
            lines = [json.dumps({column: row["text"], "label": int(row["past"] == "yes")}) + "\n" for row in some]
            Path(name, f"{part}.jsonl").write_text("".join(lines))
    return Path.cwd()


def local(ending: str) -> list[str]:
    return ["--train_file", f"train.{ending}", "--validation_file", f"validation.{ending}"]


PARALLEL = ["--train_prefix", "train", "--validation_prefix", "validation", "--vocab_size", "300"]
COLUMNS = ["--text_column", "text", "--label_column", "past"]
TABLE: dict[str, tuple[dict[str, Any], list[str], str, str]] = {
    "cola's files": (
        CLASSIFICATION,
        [*local("tsv"), "--text_column", "4", "--label_column", "2"],
        "accuracy",
        "nats an example",
    ),
    "pairs in csv": (
        {**CLASSIFICATION, "data": {"metric": "f1", "text_column": "german, text", "label_column": "past"}},
        local("csv"),
        "f1",
        "nats an example",
    ),
    "numbers in json": (
        {**CLASSIFICATION, "data": {"metric": "spearman", "text_column": "text", "label_column": "share"}},
        local("json"),
        "spearman",
        "squared error",
    ),
    "glue": (
        CLASSIFICATION,
        ["--dataset_name", "glue", "--dataset_config_name", "cola"],
        "matthews_correlation",
        "nats an example",
    ),
    "lines of text": ({**LANGUAGE_MODELING, "data": LM_DATA}, local("txt"), "perplexity", "nats a token"),
    "text of the hub": (
        {**LANGUAGE_MODELING, "data": LM_DATA},
        ["--dataset_name", "hub", "--dataset_config_name", "cola"],
        "perplexity",
        "nats a token",
    ),
    "the grammar's text": ({**LANGUAGE_MODELING, "data": LM_DATA}, [], "perplexity", "nats a token"),
    "token batches": ({**TRANSLATION, "average_checkpoints": 2}, PARALLEL, "bleu", "nats a token"),
}


def test_every_task_trains_and_is_reported(files: Path) -> None:
    for case, (content, flags, metric, unit) in TABLE.items():
        folder = files / "results" / case
        assert compare(write(files, content, recipes=["adam", "radam"]), *flags, "--output_dir", folder) == 0, case
        assert METRICS[metric].label in (folder / "table.md").read_text(), case
        for record in load_records(folder):
            assert (record.metric, record.loss_unit, record.diverged, record.notes) == (metric, unit, False, []), case
            assert record.curves["step"] == [*range(1, 9)], case
            assert record.evaluations["step"] == [0, 4, 8], case
            assert all(value is not None and math.isfinite(value) for value in record.final.values()), case
            assert record.final.keys() - {"loss"} <= METRICS.keys(), case
            first, *_, last = record.evaluations["loss"]
            assert first is not None, case
            assert last is not None, case
            assert last < first, case
            assert record.facts.keys() == {"majority_class" if "example" in unit or "error" in unit else
                                           "unigram_entropy"}, case  # fmt: skip
        assert str(files) not in "".join(path.read_text() for path in (folder / "records").iterdir()), case
    assert {content["task"] for content, *_ in TABLE.values()} == TASKS.keys()


def test_one_text_in_all_forms(files: Path) -> None:
    """The same examples, whatever file or dataset they come from."""

    def examples(**data: Any) -> Any:
        task: Any = task_class("classification")(comparison(CLASSIFICATION, data={"max_eval_samples": 9, **data}))
        task.prepare(files)
        return [(dataset["input_ids"][:], dataset["labels"][:]) for dataset in (task.train_dataset, task.eval_dataset)]

    def of(ending: str) -> dict[str, Any]:
        return {"train_file": f"train.{ending}", "validation_file": f"validation.{ending}"}

    expected = examples(**of("csv"), label_column="past")
    for ending in ("json", "jsonl"):
        assert examples(**of(ending), label_column="past") == expected
    assert examples(dataset_name="hub", dataset_config_name="cola") == expected
    assert len(expected[1][1]) == 9
    train, validation = examples(train_file="train.csv", label_column="past")  # a tenth is held out
    assert (len(train[0]), len(validation[0])) == (80, 9)


def comparison(content: dict[str, Any], **changes: Any) -> Comparison:
    return load_comparison(write(Path.cwd(), content, **changes))


def prepared(content: dict[str, Any], **changes: Any) -> Any:
    task = task_class(content["task"])(comparison(content, **changes))
    task.prepare(Path.cwd())
    return task


def test_constant_predictions_score_as_the_majority_class(files: Path) -> None:
    data = {"train_file": "train.csv", "validation_file": "validation.csv", "label_column": "past"}
    for metric in ("accuracy", "f1", "matthews_correlation"):
        task = prepared(CLASSIFICATION, data={**data, "metric": metric})
        labels = np.array([*task.eval_dataset["labels"], -100, -100])  # two that only fill up a batch
        majority = round(np.mean(task.train_dataset["labels"]))
        predictions = np.stack([np.ones(len(labels)), np.full(len(labels), majority)], axis=-1)
        scores = task.compute_metrics(type("Prediction", (), {"predictions": predictions, "label_ids": labels}))
        assert scores["nll"] == 1
        assert task.facts["majority_class"] == scores[metric]
        assert scores["accuracy"] == pytest.approx(np.mean(labels[:-2] == majority))
        assert scores["matthews_correlation"] == 0


def test_blocks_predict_every_token_once() -> None:
    blocks = Blocks(np.arange(100, dtype=np.int32), size=8)
    labels = [label for i in range(len(blocks)) for label in blocks[i]["labels"][1:].tolist()]
    assert labels == [*range(1, 99)]
    assert all(blocks[i]["labels"][0] == -100 for i in range(len(blocks)))
    assert all((blocks[i]["input_ids"][1:] == blocks[i]["labels"][1:]).all() for i in range(len(blocks)))


def test_token_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 500).tolist()
    options: dict[str, Any] = {"tokens": 120, "steps": 150, "seed": 3}
    whole = list(TokenBatches(lengths, **options))
    assert len(whole) == len(TokenBatches(lengths, **options)) == 150  # passes follow each other without a seam
    sizes = [len(batch) * max(lengths[i] for i in batch) for batch in whole]
    assert max(sizes) <= 120
    assert np.mean(sizes) > 0.9 * 120
    first_pass = [i for batch in whole[:30] for i in batch]
    assert len(set(first_pass)) == len(first_pass)
    assert whole == list(TokenBatches(lengths, **options))
    assert whole != list(TokenBatches(lengths, **{**options, "seed": 4}))
    assert [sorted(batch) for batch in list(TokenBatches(lengths, **{**options, "steps": 40}))] == [
        sorted(batch) for batch in whole[:40]
    ]
    for processes, accumulation in ((2, 1), (1, 2), (2, 2)):
        shares = [
            list(TokenBatches(lengths, **options, processes=processes, process=process, accumulation=accumulation))
            for process in range(processes)
        ]
        for step, batch in enumerate(whole):
            parts = [share[step * accumulation + part] for share in shares for part in range(accumulation)]
            assert all(parts)
            assert sorted(i for part in parts for i in part) == sorted(batch)
    with pytest.raises(UserError, match="has room for 4 of the longest examples"):
        TokenBatches(lengths, **options, processes=5)
    with pytest.raises(UserError, match="do not fill one batch"):
        TokenBatches([5, 5], **options)


SPLIT = {
    "translation": (TRANSLATION, PARALLEL),
    "classification": (CLASSIFICATION, [*local("csv"), *COLUMNS]),
    "language_modeling": ({**LANGUAGE_MODELING, "data": LM_DATA}, local("txt")),
}


def assert_alike(one: Path, other: Path) -> None:
    (first,), (second,) = load_records(one), load_records(other)
    assert first.id == second.id
    for name in ("loss", "grad_norm", "learning_rate"):
        assert second.curves[name] == pytest.approx(first.curves[name], rel=SPLIT_TOLERANCE), name
    assert second.evaluations["loss"] == pytest.approx(first.evaluations["loss"], rel=SPLIT_TOLERANCE)


@pytest.mark.parametrize("task", SPLIT)
def test_processes_and_accumulation_make_no_difference(task: str, files: Path) -> None:
    content, flags = SPLIT[task]
    config = write(files, content, training={"adam_beta2": 0.9, "label_smoothing_factor": 0.1})
    assert compare(config, *flags, "--output_dir", "one") == 0
    assert compare(config, *flags, "--output_dir", "split", "--gradient_accumulation_steps", 2) == 0
    assert_alike(Path("one"), Path("split"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    run([*torchrun, COMPARE[1], config, *flags, "--output_dir", "two"], env=environment(CUDA_VISIBLE_DEVICES=""))
    assert_alike(Path("one"), Path("two"))
    assert load_records(Path("two"))[0].environment["processes"] == 2


def test_killed_and_started_again(files: Path) -> None:
    """With dropout, batches by tokens and averaged weights, the killed run ends as the one that was let go on."""
    model = {**TINY["model"], "dropout": 0.1}
    changes = {"max_steps": 40, "eval_steps": 20, "save_steps": 10, "average_checkpoints": 3, "model": model}
    command = [*COMPARE, str(write(files, TRANSLATION, **changes)), *PARALLEL, "--output_dir"]
    process = subprocess.Popen([*command, "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(files.glob("killed/runs/*/checkpoint-20/trainer_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(files.glob("killed/records/*"))
    assert compare(*command[2:], "killed") == 0
    assert compare(*command[2:], "straight") == 0
    (killed,), (straight,) = load_records(files / "killed"), load_records(files / "straight")
    for name in ("loss", "grad_norm"):
        assert killed.curves[name] == straight.curves[name]
    assert killed.final == straight.final
    weights = [load_file(next(files.glob(f"{name}/runs/*/model/model.safetensors"))) for name in ("killed", "straight")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_average_is_that_of_the_last_checkpoints(files: Path) -> None:
    """Runs of 4, 6 and 8 updates at a constant rate are one run, stopped at its checkpoints."""
    training = {"adam_beta2": 0.9, "lr_scheduler_type": "constant"}
    ends: list[dict[str, torch.Tensor]] = []
    for max_steps, averaged in ((4, 0), (6, 0), (8, 0), (8, 3)):
        changes = {"max_steps": max_steps, "save_steps": 2, "average_checkpoints": averaged, "training": training}
        folder = files / f"{max_steps}-{averaged}"
        assert compare(write(files, TRANSLATION, **changes), *PARALLEL, "--output_dir", folder) == 0
        ends.append(load_file(next(folder.glob("runs/*/model/model.safetensors"))))
        assert len(list(folder.glob("runs/*/averages/*"))) <= 1
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


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("model_cards/*/comparison.json")))
def test_committed_records_keep_their_ids(name: str) -> None:
    """Else the same command would train them again."""
    records = load_records(ROOT / "model_cards" / name)
    config = ROOT / "scripts" / "configs" / f"{name.removesuffix('_3_seeds')}.yaml"
    seeds = sorted({record.seed for record in records})
    ids = {run.id for run in load_comparison(config, {"seeds": seeds, "data": records[0].config["data"]}).runs()}
    assert {record.id for record in records} <= ids


def test_divergence_is_recorded_and_the_rest_goes_on(files: Path) -> None:
    boom = {"name": "boom", "optimizer": "adam", "optim_args": {"eps": 1.0, "weight_decay": 1e30}}
    for task in ("classification", "language_modeling"):
        content, flags = SPLIT[task]
        config = write(files, content, recipes=[boom, "radam"])
        assert compare(config, *flags, "--output_dir", task) == 0
        records = {record.recipe: record for record in load_records(Path(task))}
        assert records["boom"].diverged
        assert set(records["boom"].final.values()) == {None}
        assert not records["radam"].diverged


def test_a_full_disk_costs_checkpoints_and_no_results(files: Path) -> None:
    """A limit on the size of files stands for the disk: weights do not fit, records do."""
    model = {**ENCODER, "config": {**ENCODER["config"], "intermediate_size": 40_000}}  # 5 MB
    config = write(files, CLASSIFICATION, model=model, recipes=["adam", "radam"])
    command = [*COMPARE, config, *local("csv"), *COLUMNS, "--output_dir", "r"]
    line = " ".join(f"'{part}'" for part in command)
    run(["bash", "-c", f"ulimit -f 2000; exec {line}"])  # blocks of 1024 bytes
    records = load_records(files / "r")
    assert [record.notes for record in records] == 2 * [
        ["no checkpoint at update 4: the disk was full", "the trained model was not kept: the disk was full"]
    ]
    assert all(record.curves["step"] == [*range(1, 9)] for record in records)
    assert not list(files.glob("r/runs/*/*"))


def bad_files() -> None:
    header = "number,german,text,past,share\n"
    for name, text in {
        "empty.csv": "",
        "header.csv": header,
        "blank.csv": f"{header}1,a,b,yes,0\n2,a, ,no,0\n",
        "unlabelled.csv": f"{header}1,a,b,yes,0\n2,a,b,,0\n",
        "one_class.csv": f"{header}1,a,b,yes,0\n2,a,b,yes,0\n",
        "short.csv": f"{header}1,a,b,yes,0\n2,a\n",
        "other_label.csv": f"{header}1,a,b,maybe,0\n",
        "no_number.csv": f"{header}1,a,b,yes,nan\n",
        "list.json": "[1, 2]",
        "broken.jsonl": '{"text": "a", "past": "yes"}\n{oops\n',
        "no_key.jsonl": '{"text": "a", "past": "yes"}\n{"past": "yes"}\n',
        "words.doc": "a",
        "blank.txt": " \n \n",
    }.items():
        Path(name).write_text(text)
    Path("hidden").mkdir()
    for part, label in (("train", 0), ("train", 1), ("validation", -1)):
        with Path("hidden", f"{part}.jsonl").open("a") as file:
            file.write(json.dumps({"text": "a", "label": label}) + "\n")


LABELS = ["--label_column", "past"]
BAD_INPUT: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no data": (CLASSIFICATION, [], "give either dataset_name (a Hub dataset) or train_file"),
    "no model": ({**CLASSIFICATION, "model": {}}, local("csv"), "give either name_or_path (a checkpoint)"),
    "unknown model": (
        {**CLASSIFICATION, "model": {"model_type": "brt"}}, local("csv"), "unknown model_type 'brt'; did you mean",
    ),
    "unknown model option": (
        {**CLASSIFICATION, "model": {"model_type": "bert", "config": {"hidden": 3}}}, local("csv"),
        "unknown key in config: 'hidden'",
    ),
    "flag of another task": (CLASSIFICATION, ["--num_beams", "2"], "data: unknown key 'num_beams'"),
    "no batch": ({**CLASSIFICATION, "batch_size": None}, local("csv"), "give either batch_size or tokens_per_batch"),
    "two batches": ({**TRANSLATION, "batch_size": 3}, [], "give either batch_size or tokens_per_batch"),
    "tokens of blocks": (
        {**LANGUAGE_MODELING, "batch_size": None, "tokens_per_batch": 99}, [], "give batch_size, in blocks",
    ),
    "average": (
        {**TRANSLATION, "average_checkpoints": 3}, [], "average_checkpoints 3 needs save_steps of which max_steps 8",
    ),
    "scale": (
        {**CLASSIFICATION, "recipes": [{"recipe": "adam", "learning_rate_scale": 0.0}]}, local("csv"),
        "learning_rate_scale must be positive",
    ),
    "accumulation": (
        CLASSIFICATION, [*local("csv"), "--gradient_accumulation_steps", "3"], "must be a multiple of the 1 processes",
    ),
    "metric": (CLASSIFICATION, [*local("csv"), "--metric", "bleu"], "metric must be one of accuracy, f1"),
    "three columns": (CLASSIFICATION, [*local("csv"), "--text_column", "a,b,c"], "must name one or two columns"),
    "no such file": (CLASSIFICATION, ["--train_file", "nowhere.csv"], "no such file: nowhere.csv"),
    "unknown format": (CLASSIFICATION, ["--train_file", "words.doc"], "must end in .csv, .tsv, .json or .jsonl"),
    "empty file": (CLASSIFICATION, ["--train_file", "empty.csv"], "empty.csv is empty"),
    "header alone": (CLASSIFICATION, ["--train_file", "header.csv", *LABELS], "header.csv holds no examples"),
    "missing column": (CLASSIFICATION, local("csv"), "train.csv has no column 'label', only number, german, text"),
    "no header": (CLASSIFICATION, local("tsv"), "(numbers from 1 if the file has no header)"),
    "too few columns": (
        CLASSIFICATION, [*local("tsv"), "--text_column", "9", "--label_column", "2"],
        "train.tsv, row 1 has only 4 columns, not 9, 2",
    ),
    "short row": (CLASSIFICATION, ["--train_file", "short.csv", *LABELS], "short.csv, row 3 has only 2 columns"),
    "missing key": (CLASSIFICATION, ["--train_file", "no_key.jsonl", *LABELS], "no_key.jsonl, line 2 has only past"),
    "json of numbers": (CLASSIFICATION, ["--train_file", "list.json"], "list.json, row 1 must be an object"),
    "broken json": (CLASSIFICATION, ["--train_file", "broken.jsonl"], "broken.jsonl is no JSON"),
    "empty text": (
        CLASSIFICATION, ["--train_file", "blank.csv", *LABELS], "blank.csv, row 3: the text in column 'text' is empty",
    ),
    "no label": (CLASSIFICATION, ["--train_file", "unlabelled.csv", *LABELS], "row 3: the label is missing"),
    "one class": (
        CLASSIFICATION, ["--train_file", "one_class.csv", *LABELS], "all training examples have the label 'yes'",
    ),
    "label out of range": (
        CLASSIFICATION, ["--train_file", "train.csv", "--validation_file", "other_label.csv", *LABELS],
        "other_label.csv, row 2: label 'maybe' is none of no, yes",
    ),
    "secret labels": (CLASSIFICATION, ["--dataset_name", "hidden"], "hidden, validation[0]: label '-1' is none of 0"),
    "label no number": (
        CLASSIFICATION, [*local("csv"), *LABELS, "--metric", "pearson"], "label 'yes' is no finite number",
    ),
    "label not finite": (
        CLASSIFICATION, ["--train_file", "no_number.csv", "--label_column", "share", "--metric", "pearson"],
        "label 'nan' is no finite number",
    ),
    "column of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola", *COLUMNS],
        "dataset 'hub' has no column 'past', only text, label",
    ),
    "split of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola", "--validation_split", "dev"],
        "dataset 'hub' has no split 'dev', only train, validation",
    ),
    "no dataset": (LANGUAGE_MODELING, ["--dataset_name", "./nowhere"], "cannot load dataset './nowhere'"),
    "too few examples": (
        CLASSIFICATION, [*local("csv"), *LABELS, "--max_train_samples", "7"], "fewer training examples than batch_size",
    ),
    "blank text": (LANGUAGE_MODELING, ["--train_file", "blank.txt"], "blank.txt is empty"),
    "little text": (LANGUAGE_MODELING, ["--train_file", "train.txt"], "but there are only 90; give validation_file"),
    "no checkpoint": (
        {**CLASSIFICATION, "model": {}}, [*local("csv"), *LABELS, "--name_or_path", "./nowhere"], "no tokenizer in",
    ),
}  # fmt: skip


def test_bad_input_is_one_line_and_exit_code_2(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad_files()
    for case, (content, flags, message) in BAD_INPUT.items():
        kept = {key: value for key, value in content.items() if value is not None}
        assert compare(write(files, kept), *flags, "--output_dir", "new") == 2, case
        (line,) = capfd.readouterr().err.strip().splitlines()
        assert line.startswith("error: "), case
        assert message in line, (case, line)
        assert not list(Path.cwd().glob("new/[a-z]*s/*")), case  # runs and records; a tokenizer may have been kept


@pytest.fixture
def checkpoints(files: Path) -> Path:
    """Whole checkpoints of each task, made by the comparison itself."""
    for task, (content, flags) in SPLIT.items():
        assert compare(write(files, content, max_steps=1, eval_steps=1), *flags, "--output_dir", f"of_{task}") == 0
        next(files.glob(f"of_{task}/runs/*/model")).rename(files / task)
    mixed = files / "mixed"
    mixed.mkdir()
    for part in (*files.glob("classification/*"), files / "language_modeling" / "model.safetensors"):
        (mixed / part.name).write_bytes(part.read_bytes())
    return files


def test_checkpoints_of_another_architecture(checkpoints: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classification = {**CLASSIFICATION, "model": {}}
    modeling = {**LANGUAGE_MODELING, "model": {}, "data": {"block_size": 16}}
    for content, flags, path, message in (
        (classification, [*local("csv"), *COLUMNS], "translation", "is a marian model, which Transformers has no"),
        (classification, [*local("csv"), *COLUMNS], "mixed", "are not those of a bert model: 2"),
        (modeling, local("txt"), "classification", "is a BertForSequenceClassification, not a BertLMHeadModel"),
        (modeling, local("txt"), "translation", "is a MarianMTModel"),
        ({**modeling, "data": {"block_size": 33}}, local("txt"), "language_modeling", "the model's 32 positions"),
    ):  # fmt: skip
        capfd.readouterr()
        arguments = [write(checkpoints, content), *flags, "--name_or_path", checkpoints / path, "--output_dir", "new"]
        assert compare(*arguments) == 2, path
        line = capfd.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: "), (path, line)
        assert message in line, (path, line)
    arguments = [write(checkpoints, modeling), *local("txt"), "--name_or_path", checkpoints / "language_modeling"]
    assert compare(*arguments, "--output_dir", "tuned") == 0
    (record,) = load_records(checkpoints / "tuned")
    assert record.config["model"] == {"name_or_path": "language_modeling"}


def test_other_weights_under_the_same_name_are_another_comparison(checkpoints: Path) -> None:
    content = {**LANGUAGE_MODELING, "model": {"name_or_path": str(checkpoints / "language_modeling")}}
    data = {"train_file": "train.txt", "validation_file": "validation.txt", "block_size": 16}
    sweep(comparison(content, data=data, max_steps=1), Path("r"))
    with (checkpoints / "language_modeling" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(UserError, match="r holds results on another text or checkpoint"):
        sweep(comparison(content, data=data, max_steps=1), Path("r"))


def test_old_records_load() -> None:
    path = next((ROOT / "model_cards" / "grammar" / "records").iterdir())
    assert (Record.load(path).metric, Record.load(path).loss_unit, Record.load(path).notes) == (
        "bleu",
        "nats a token",
        [],
    )
