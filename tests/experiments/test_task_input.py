"""The tasks of the comparison, given what goes wrong: bad data and checkpoints, divergence, a full disk."""

from __future__ import annotations

import errno
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from comparisons import COMPARE, compare, run
from task_files import (
    CLASSIFICATION,
    COLUMNS,
    ENCODER,
    LANGUAGE_MODELING,
    SPLIT,
    TRANSLATION,
    comparison,
    local,
    write,
    write_files,
)
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

from hf_radam.examples.text import own_tokenizer
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.schema import UserError

pytestmark = pytest.mark.usefixtures("sketched")


@pytest.fixture
def files() -> Path:
    return write_files()


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
    command = [*COMPARE, str(config), *local("csv"), *COLUMNS, "--output_dir", "r"]
    run(["bash", "-c", f"ulimit -f 2000; exec {shlex.join(command)}"])  # blocks of 1024 bytes
    records = load_records(files / "r")
    assert [record.notes for record in records] == 2 * [
        ["no checkpoint at update 4: the disk was full", "the trained model was not kept: the disk was full"]
    ]
    assert all(record.curves["step"] == [*range(1, 9)] for record in records)
    assert not list(files.glob("r/runs/*/model/*"))


def test_a_record_that_cannot_be_written(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = write(files, CLASSIFICATION, recipes=["adam", "radam"])
    arguments = [config, *local("csv"), *COLUMNS, "--output_dir", "r", "--parallel_runs", "1"]
    save = Record.save

    def full(record: Record, path: Path) -> None:
        if record.recipe == "radam":
            raise OSError(errno.ENOSPC, "No space left on device", "r")
        save(record, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "save", full)
        assert compare(*arguments) == 2
    said = capfd.readouterr().err
    assert "error: [Errno 28] No space left on device: 'r'; make room and run the same command again" in said
    (first,) = Path("r/records").iterdir()
    before = first.read_bytes()
    assert compare(*arguments) == 0
    assert first.read_bytes() == before
    assert [record.recipe for record in load_records(Path("r"))] == ["adam", "radam"]


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
        "comma.csv": "text,past\na,no\none, two,yes\n",
        "commas.csv": "text,past\none, two,yes\nthree, four,no\n",
        "open.csv": 'text,past\na,no\n"b,yes\nc,no\n',
        "twice.csv": "text,past,past\na,no,1\nb,yes,2\n",
        "half.jsonl": '{"text": "a\\ud800b", "past": "yes"}\n',
        "nan.jsonl": '{"text": "a", "past": NaN}\n',
        "list.jsonl": '{"text": ["a"], "past": "yes"}\n',
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
    "flag of another task": (CLASSIFICATION, ["--set", "data.num_beams=2"], "data: unknown key 'num_beams'"),
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
        CLASSIFICATION, [*local("csv"), "--set", "gradient_accumulation_steps=3"],
        "must be a multiple of the 1 processes",
    ),
    "metric": (CLASSIFICATION, [*local("csv"), "--set", "data.metric=bleu"], "metric must be one of accuracy, f1"),
    "three columns": (CLASSIFICATION, [*local("csv"), "--text_column", "a,b,c"], "must name one or two columns"),
    "no such file": (CLASSIFICATION, ["--train_file", "nowhere.csv"], "no such file: nowhere.csv"),
    "unknown format": (CLASSIFICATION, ["--train_file", "words.doc"], "must end in .csv, .tsv, .json or .jsonl"),
    "empty file": (CLASSIFICATION, ["--train_file", "empty.csv"], "empty.csv is empty"),
    "header alone": (CLASSIFICATION, ["--train_file", "header.csv", *LABELS], "header.csv holds no examples"),
    "missing column": (CLASSIFICATION, local("csv"), "train.csv, row 2 has no column 'label', only number"),
    "no header": (CLASSIFICATION, local("tsv"), "(numbers from 1 if the file has no header)"),
    "too few columns": (
        CLASSIFICATION, [*local("tsv"), "--text_column", "9", "--label_column", "2"],
        "train.tsv, row 1 has no column '9', only 1, 2, 3, 4",
    ),
    "short row": (CLASSIFICATION, ["--train_file", "short.csv", *LABELS], "row 3: column 'text' is empty"),
    "missing key": (CLASSIFICATION, ["--train_file", "no_key.jsonl", *LABELS], "line 2 has no column 'text'"),
    "json of numbers": (CLASSIFICATION, ["--train_file", "list.json"], "list.json, row 1 must be an object"),
    "broken json": (CLASSIFICATION, ["--train_file", "broken.jsonl"], "broken.jsonl, line 2 is not JSON"),
    "empty text": (
        CLASSIFICATION, ["--train_file", "blank.csv", *LABELS], "blank.csv, row 3: column 'text' is empty",
    ),
    "a comma without quotes": (
        CLASSIFICATION, ["--train_file", "comma.csv", *LABELS], "Expected 2 fields in line 3, saw 3; put quotes around",
    ),
    "commas in all rows": (CLASSIFICATION, ["--train_file", "commas.csv", *LABELS], "Expected 2 fields in line 2"),
    "an open quote": (CLASSIFICATION, ["--train_file", "open.csv", *LABELS], "EOF inside string starting at row 2"),
    "two columns of one name": (CLASSIFICATION, ["--train_file", "twice.csv", *LABELS], "two columns of the name"),
    "half of a surrogate pair": (
        CLASSIFICATION, ["--train_file", "half.jsonl", *LABELS], "half.jsonl, line 1 holds half of a surrogate pair",
    ),
    "a label that is NaN": (CLASSIFICATION, ["--train_file", "nan.jsonl", *LABELS], "line 1: column 'past' is empty"),
    "a list as text": (
        CLASSIFICATION, ["--train_file", "list.jsonl", *LABELS], "column 'text' must be text or a number, got ['a']",
    ),
    "text of another column": (
        LANGUAGE_MODELING, ["--train_file", "train.csv", "--text_column", "words"], "row 2 has no text 'words', only",
    ),
    "positive label": (
        CLASSIFICATION, [*local("csv"), *LABELS, "--set", "data.positive_label=maybe"], "one of two labels, got",
    ),
    "a language that YAML reads as false": (
        {**TRANSLATION, "data": {"source_lang": False}}, [], "must be text, got False; YAML reads no as false",
    ),
    "no label": (CLASSIFICATION, ["--train_file", "unlabelled.csv", *LABELS], "row 3: column 'past' is empty"),
    "one class": (
        CLASSIFICATION, ["--train_file", "one_class.csv", *LABELS], "all training examples have the label 'yes'",
    ),
    "label out of range": (
        CLASSIFICATION, ["--train_file", "train.csv", "--validation_file", "other_label.csv", *LABELS],
        "other_label.csv, row 2: label 'maybe' is none of no, yes",
    ),
    "secret labels": (CLASSIFICATION, ["--dataset_name", "hidden"], "hidden, validation[0]: label '-1' is none of 0"),
    "label no number": (
        CLASSIFICATION, [*local("csv"), *LABELS, "--set", "data.metric=pearson"], "label 'no' is no finite number",
    ),
    "label not finite": (
        CLASSIFICATION, ["--train_file", "no_number.csv", "--label_column", "share", "--set", "data.metric=pearson"],
        "label 'nan' is no finite number",
    ),
    "column of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola", *COLUMNS],
        "hub, train[0] has no column 'past', only text, label",
    ),
    "split of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola",
                         "--set", "data.validation_split=dev"],
        "dataset 'hub' has no split 'dev', only train, validation",
    ),
    "no dataset": (LANGUAGE_MODELING, ["--dataset_name", "./nowhere"], "cannot load dataset './nowhere'"),
    "too few examples": (
        CLASSIFICATION, [*local("csv"), *LABELS, "--set", "data.max_train_samples=7"],
        "fewer training examples than batch_size",
    ),
    "blank text": (LANGUAGE_MODELING, ["--train_file", "blank.txt"], "blank.txt is empty"),
    "little text": (LANGUAGE_MODELING, ["--train_file", "train.txt"], "but there are only 90; give validation_file"),
    "layers as text": (
        {**CLASSIFICATION, "model": {**ENCODER, "config": {**ENCODER["config"], "num_hidden_layers": "two"}}},
        [*local("csv"), *LABELS], "cannot make it (StrictDataclassFieldValidationError",
    ),
    "no heads": (
        {**CLASSIFICATION, "model": {**ENCODER, "config": {**ENCODER["config"], "num_attention_heads": 0}}},
        [*local("csv"), *LABELS], "cannot make it (ZeroDivisionError",
    ),
    "encoder as a language model": (
        {**LANGUAGE_MODELING, "model": ENCODER}, [],
        "a bert model sees the tokens that it has to predict; set config: {is_decoder: true}",
    ),
    "no checkpoint": (
        {**CLASSIFICATION, "model": {}}, [*local("csv"), *LABELS, "--name_or_path", "./nowhere"], "no tokenizer in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(case: str, files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad_files()
    content, flags, message = BAD_INPUT[case]
    kept = {key: value for key, value in content.items() if value is not None}
    assert compare(write(files, kept), *flags, "--output_dir", "new") == 2
    lines = capfd.readouterr().err.strip().splitlines()
    (said,) = (line for line in lines if line and not re.search("examples/s|runs to do", line))
    assert said.startswith("error: ")
    assert message in said
    # A tokenizer, and what a run that was never started was asked for, may have been kept.
    assert not [*Path.cwd().glob("new/records/*"), *Path.cwd().glob("new/runs/*/model/checkpoint-*")]


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


def test_a_checkpoint_with_another_head_or_without_padding(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classes = {**CLASSIFICATION, "max_steps": 1, "eval_steps": 1}
    text = own_tokenizer(Path("train.txt").read_text().splitlines(), "0" * 64, 300, files)
    head = BertForSequenceClassification(BertConfig(**{"vocab_size": 300, "num_labels": 3, **ENCODER["config"]}))
    sizes: dict[str, Any] = {"vocab_size": 300, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    decoder = GPT2ForSequenceClassification(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    for name, model in (("head", head), ("gpt", decoder)):
        model.save_pretrained(name)
        text.save_pretrained(name)
    Path("gpt/tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}')
    Path("gpt/special_tokens_map.json").unlink(missing_ok=True)
    arguments = [write(files, {**classes, "model": {}}), *local("csv"), *COLUMNS, "--name_or_path"]
    assert compare(*arguments, "head", "--output_dir", "r") == 2
    assert "give --ignore_mismatched_sizes" in capfd.readouterr().err
    assert compare(*arguments, "head", "--ignore_mismatched_sizes", "--output_dir", "r") == 0
    assert compare(*arguments, "gpt", "--output_dir", "padded") == 0


def test_other_weights_under_the_same_name_are_another_comparison(checkpoints: Path) -> None:
    content = {**LANGUAGE_MODELING, "model": {"name_or_path": str(checkpoints / "language_modeling")}}
    data = {"train_file": "train.txt", "validation_file": "validation.txt", "block_size": 16}
    sweep(comparison(content, data=data, max_steps=1), Path("r"))
    with (checkpoints / "language_modeling" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(UserError, match="r holds results on another text or checkpoint"):
        sweep(comparison(content, data=data, max_steps=1), Path("r"))
