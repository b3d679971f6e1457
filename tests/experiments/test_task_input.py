"""The tasks of the comparison, given what goes wrong: bad data and checkpoints, divergence, a full disk."""

from __future__ import annotations

import errno
import re
import resource
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from comparisons import compare
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
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from hf_radam.examples.classification import ClassificationData, load_examples
from hf_radam.examples.text import own_tokenizer
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.runs import launching
from hf_radam.experiments.runs.processes import import_ahead
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.schema import UserError

pytestmark = pytest.mark.usefixtures("sketched")


@pytest.fixture
def files() -> Path:
    return write_files()


def test_divergence_is_recorded_and_the_rest_goes_on(files: Path) -> None:
    boom = {"name": "boom", "optimizer": "adam", "optim_args": {"eps": 1.0, "weight_decay": 1e30}}
    for task, (content, flags) in SPLIT.items():
        config = write(files, content, recipes=[boom, "radam"])
        assert compare(config, *flags, "--output_dir", task) == 0
        records = {record.recipe: record for record in load_records(Path(task))}
        assert records["boom"].diverged
        assert set(records["boom"].final.values()) == {None}
        assert not records["radam"].diverged


def test_a_full_disk_ends_the_job_and_the_same_command_goes_on(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files, here and in what forks the runs, is the disk: weights do not fit."""
    model = {**ENCODER, "config": {**ENCODER["config"], "intermediate_size": 40_000}}  # 5 MB
    command = [write(files, CLASSIFICATION, model=model), *local("csv"), *COLUMNS, "--output_dir", "r"]
    import_ahead([launching.__name__, launching.RECORDER, "hf_radam.examples.classification"])
    server, (_, most) = forkserver._forkserver._forkserver_pid, resource.getrlimit(resource.RLIMIT_FSIZE)  # pyright: ignore
    try:
        for process in (0, server):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (2_048_000, most))
        assert compare(*command) == 2
    finally:
        for process in (0, server):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (most, most))
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.startswith("error: radam, lr 0.01, seed 0: ")
    assert said.endswith("; make room and run the same command again")
    assert compare(*command) == 0
    (record,) = load_records(files / "r")
    assert record.curves["step"] == [*range(1, 9)]


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


HEADER = "number,german,text,past,share\n"
TABLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "empty.csv": ("", {}, "empty.csv is empty"),
    "header.csv": (HEADER, {}, "header.csv holds no examples"),
    "blank.csv": (f"{HEADER}1,a,b,yes,0\n2,a, ,no,0\n", {}, "blank.csv, row 3: column 'text' is empty"),
    "unlabelled.csv": (f"{HEADER}1,a,b,yes,0\n2,a,b,,0\n", {}, "row 3: column 'past' is empty"),
    "one_class.csv": (f"{HEADER}1,a,b,yes,0\n2,a,b,yes,0\n", {}, "all training examples have the label 'yes'"),
    "short.csv": (f"{HEADER}1,a,b,yes,0\n2,a\n", {}, "row 3: column 'past' is empty"),
    "past.csv": (HEADER, {"validation_file": "other.csv"}, "other.csv, row 2: label 'maybe' is none of no, yes"),
    "no_number.csv": (
        f"{HEADER}1,a,b,yes,nan\n", {"label_column": "share", "metric": "pearson"}, "label 'nan' is no number, which",
    ),
    "words.csv": (f"{HEADER}1,a,b,yes,0\n", {"metric": "pearson"}, "label 'yes' is no number, which pearson needs"),
    "comma.csv": ("text,past\na,no\none, two,yes\n", {}, "Expected 2 fields in line 3, saw 3; quote cells that"),
    "commas.csv": ("text,past\none, two,yes\nthree, four,no\n", {}, "Expected 2 fields in line 2, saw 3"),
    "tab.tsv": ("text\tpast\na\tb\tyes\n", {}, "tab.tsv is no TSV: Error tokenizing data"),
    "backslash.csv": ('text,past\n"he said \\"hi, there\\"",yes\n', {}, "Expected 2 fields in line 2, saw 3"),
    "open.csv": ('text,past\na,no\n"b,yes\nc,no\n', {}, "open.csv is no CSV: .* EOF inside string starting at row 2"),
    "twice.csv": ("text,past,past\na,no,1\nb,yes,2\n", {}, "two columns of one name in text, past, past"),
    "words.doc": ("a", {}, "must end in .csv, .tsv, .json or .jsonl"),
    "half.jsonl": ('{"text": "a\\ud800b", "past": 1}\n{"past": 2}', {}, "row 1 holds half of a surrogate pair"),
    "nan.jsonl": ('{"text": "a", "past": NaN}\n', {}, "row 1: column 'past' is empty"),
    "list.jsonl": ('{"text": ["a"], "past": 1}\n{"past": 2}', {}, r"'text' must be text or a number, got \['a'\]"),
    "list.json": ("[1, 2]", {}, "list.json, row 1 must have the column 'past', got 1"),
    "broken.jsonl": ('{"text": "a", "past": "yes"}\n{oops\n', {}, "broken.jsonl is no JSONL: .*: line 2 column 2 "),
    "deep.json": ("[" * 100_000, {}, "deep.json is no JSON: "),
    "no_key.jsonl": (
        '{"text": "a", "past": "yes"}\n{"past": "no"}\n', {}, r"row 2 must have the column 'text', got \['past'\]",
    ),
    "cola.tsv": ("x\t1\t*\ta\nx\t0\t*\ta\n", {}, "must have the column .*a number from 1 if the file"),
    "columns.tsv": (
        "x\t1\t*\ta\nx\t0\t*\ta\n", {"text_column": "9", "label_column": "2"}, "row 1 must have the column '9', got",
    ),
    "positive.csv": (f"{HEADER}1,a,b,yes,0\n2,a,b,no,0\n", {"positive_label": "maybe"}, "one of two labels, got"),
    "three.csv": (HEADER, {"text_column": "a,b,c"}, "must name one or two columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables(name: str) -> None:
    content, options, message = TABLES[name]
    Path("other.csv").write_text(f"{HEADER}1,a,b,maybe,0\n")
    Path(name).write_text(content if name != "past.csv" else f"{HEADER}1,a,b,yes,0\n2,a,b,no,0\n")
    with pytest.raises(UserError, match=message) as caught:
        load_examples(ClassificationData(train_file=name, **{"label_column": "past", **options}))
    assert "\n" not in str(caught.value)


LABELS = ["--label_column", "past"]
BAD_INPUT: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no data": (CLASSIFICATION, [], "give either dataset_name (a Hub dataset) or train_file"),
    "no model": ({**CLASSIFICATION, "model": {}}, [*local("csv"), *COLUMNS], "give either name_or_path (a checkpoint)"),
    "unknown model": (
        {**CLASSIFICATION, "model": {"model_type": "brt"}}, local("csv"), "unknown model_type 'brt'; did you mean",
    ),
    "unknown model option": (
        {**CLASSIFICATION, "model": {"model_type": "bert", "config": {"hidden": 3}}}, local("csv"),
        "unknown key in config: 'hidden'",
    ),
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
        "learning_rate_scale must be greater than 0, got 0.0",
    ),
    "accumulation": (
        CLASSIFICATION, [*local("csv"), *COLUMNS, "--set", "gradient_accumulation_steps=3"],
        "must be a multiple of the 1 processes",
    ),
    "metric": (CLASSIFICATION, [*local("csv"), "--set", "data.metric=bleu"], "metric must be 'accuracy', 'f1',"),
    "text of another column": (
        LANGUAGE_MODELING, ["--train_file", "train.csv", "--text_column", "words"], "must have the column 'words'",
    ),
    "a language that YAML reads as false": (
        {**TRANSLATION, "data": {"source_lang": False}}, [], "must be a valid string, got False; YAML reads no",
    ),
    "secret labels": (CLASSIFICATION, ["--dataset_name", "hidden"], "hidden, validation[0]: label '-1' is none of 0"),
    "column of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola", *COLUMNS],
        "hub, train[0] must have the column 'past', got ['text', 'label']",
    ),
    "split of the hub": (
        CLASSIFICATION, ["--dataset_name", "hub", "--dataset_config_name", "cola",
                         "--set", "data.validation_split=dev"],
        "cannot load dataset 'hub': Unknown split \"dev\". Should be one of",
    ),
    "one column twice": (
        CLASSIFICATION, [*local("csv"), "--text_column", "text,text", "--label_column", "past"], "different columns",
    ),
    "layers as text": (
        {**CLASSIFICATION, "model": {**ENCODER, "config": {**ENCODER["config"], "num_hidden_layers": "two"}}},
        [*local("csv"), *LABELS], "Field 'num_hidden_layers' expected int, got str",
    ),
    "no heads": (
        {**CLASSIFICATION, "model": {**ENCODER, "config": {**ENCODER["config"], "num_attention_heads": 0}}},
        [*local("csv"), *LABELS], "modulo by zero",
    ),
    "no checkpoint": (
        {**CLASSIFICATION, "model": {}}, [*local("csv"), *LABELS, "--name_or_path", "./nowhere"], "./nowhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(case: str, files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("hidden").mkdir()
    Path("hidden/train.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "a", "label": 1}\n')
    Path("hidden/validation.jsonl").write_text('{"text": "a", "label": -1}\n')
    content, flags, message = BAD_INPUT[case]
    kept = {key: value for key, value in content.items() if value is not None}
    assert compare(write(files, kept), *flags, "--output_dir", "new") == 2
    lines = capfd.readouterr().err.strip().splitlines()
    # Progress, and what torchao says of itself where it is installed.
    (said,) = (line for line in lines if line and not re.search("examples/s|runs to do|torchao|_pytree.py", line))
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
        (classification, [*local("csv"), *COLUMNS], "translation", "no AutoModelForSequenceClassification of"),
        (classification, [*local("csv"), *COLUMNS], "mixed", "are not those of a BertForSequenceClassification: 2"),
        (modeling, local("txt"), "classification", "are not those of a BertLMHeadModel: 6 are missing"),
        (modeling, local("txt"), "translation", "are not those of a MarianForCausalLM"),
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
    text = own_tokenizer(Path("train.txt").read_text().splitlines(), 300, files)
    head = BertForSequenceClassification(BertConfig(**{"vocab_size": 300, "num_labels": 3, **ENCODER["config"]}))
    sizes: dict[str, Any] = {"vocab_size": 300, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    decoder = GPT2ForSequenceClassification(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    for name, model in (("head", head), ("gpt", decoder)):
        model.save_pretrained(name)
        text.save_pretrained(name)
    Path("gpt/tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}')
    Path("gpt/special_tokens_map.json").unlink(missing_ok=True)
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)).save_pretrained("lm")
    text.save_pretrained("lm")
    modeling = {**LANGUAGE_MODELING, "max_steps": 1, "eval_steps": 1, "model": {}, "data": {"block_size": 16}}
    assert compare(write(files, modeling), *local("txt"), "--name_or_path", "lm", "--output_dir", "tuned") == 0
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
