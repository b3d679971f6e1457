"""The comparison, run as a user runs it on a tiny model; killed, resumed, distributed, and given bad input."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import CONFIGS, TINY, compare, outcome, write_config
from sketches import sketches

from hf_radam.cli import main
from hf_radam.examples.parallel_text import TranslationData, load_pairs
from hf_radam.examples.text import own_tokenizer
from hf_radam.examples.translation import TranslationModel, build_model
from hf_radam.experiments.comparison import Comparison, load_comparison
from hf_radam.experiments.folder import claim
from hf_radam.experiments.records import Record, load_records
from hf_radam.experiments.report.report import write_report
from hf_radam.experiments.runs.gradients import BINS
from hf_radam.experiments.runs.sweep import sweep
from hf_radam.experiments.runs.words import fingerprint_of
from hf_radam.experiments.schema import UserError
from hf_radam.publishing.bundle import build
from hf_radam.publishing.card import Choice
from hf_radam.rectification import rectification, untuned_exponential, untuned_linear

ALL_RECIPES = [
    "adam",
    {"recipe": "adam_warmup", "warmup_steps": 3},
    "adam_untuned_linear",
    "adam_untuned_exponential",
    {"recipe": "adam_2k", "optim_args": {"freeze_steps": 4}},
    "adam_eps",
    "radam",
    "radam_no_sgd",
    "schedule_free_radam",
    {"name": "adafactor", "optimizer": "adafactor"},
    {"recipe": "adam", "name": "adam_pre_ln", "model": {"normalize_before": True}},
]

TWICE = ["adam", "adam_warmup", "radam", "adam_pre_ln"]


@pytest.fixture(scope="module")
def all_recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every recipe, and of some with a second seed."""
    folder = tmp_path_factory.mktemp("all")
    config = write_config(folder, recipes=ALL_RECIPES)
    with sketches():
        assert compare(config, "--seeds", "1", "--recipes", *TWICE, "--output_dir", folder / "results") == 0
        assert compare(config, "--output_dir", folder / "results") == 0
    return folder / "results"


def by_recipe(folder: Path, seed: int = 0) -> dict[str, Record]:
    return {record.recipe: record for record in load_records(folder) if record.seed == seed}


def test_records_hold_what_happened(all_recipes: Path) -> None:
    records = by_recipe(all_recipes)
    assert len(records) == len(ALL_RECIPES)
    for record in records.values():
        steps = list(range(1, 13))
        assert record.curves["step"] == steps
        for name in ("loss", "learning_rate", "grad_norm", "seconds"):
            assert len(record.curves[name]) == len(steps)
            assert all(value is not None and math.isfinite(value) for value in record.curves[name])
        assert record.evaluations["step"] == [0, 4, 8, 12]
        assert set(record.final) == {"loss", "token_accuracy", "bleu"}
        assert record.final["loss"] == record.evaluations["loss"][-1]
        assert not record.diverged
        assert record.seconds_per_step > 0
        assert record.gradients is not None
        assert record.gradients["step"] == [1, 2, 3, 4, 5, 6, 8, 10]
        assert all(len(counts) == BINS and sum(counts) > 1000 for counts in record.gradients["counts"])
        assert record.peak_memory > 10**8
        of_state = 0.55 if record.recipe == "adafactor" else 8  # which keeps sums of rows and columns
        assert record.state_bytes_per_parameter == pytest.approx(of_state, rel=0.01)
        assert record.environment["processes"] == 1
        assert record.environment["versions"]["torch"]
    text = "".join(path.read_text() for path in (all_recipes / "records").iterdir())
    assert str(all_recipes) not in text
    assert str(Path.home()) not in text


def test_recipes_do_what_they_say(all_recipes: Path) -> None:
    records = by_recipe(all_recipes)
    decay = [(12 - step) / 12 for step in range(12)]
    for name, factors in {
        "adam": decay,
        "radam": decay,
        "schedule_free_radam": [1.0] * 12,
        "adam_warmup": [step / 3 if step < 3 else (12 - step) / 9 for step in range(12)],
        "adam_untuned_linear": [untuned_linear(step + 1, 0.9) * decay[step] for step in range(12)],
        "adam_untuned_exponential": [untuned_exponential(step + 1, 0.9) * decay[step] for step in range(12)],
    }.items():
        assert records[name].curves["learning_rate"] == pytest.approx([3e-3 * factor for factor in factors], rel=1e-6)
    expected = [rectification(step, 0.9) or 0.0 for step in range(1, 13)]
    assert records["radam"].curves["rectification"] == pytest.approx(expected, rel=1e-6)
    assert "rectification" not in records["adam"].curves
    assert records["adam_eps"].optimizer["eps"] == 1e-4
    assert records["radam"].optimizer["class"] == "hf_radam.optimizer.RAdam"
    assert records["adafactor"].optimizer["class"].endswith("Adafactor")
    assert records["schedule_free_radam"].optimizer["class"].endswith("RAdamScheduleFree")
    assert not records["schedule_free_radam"].optimizer["train_mode"]  # what was tested is the averaged weights
    still = records["adam_2k"].evaluations["loss"]
    assert still[0] == still[1] != still[2]


def test_cards_show_how_to_run_the_model(
    sketched: None, all_recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of the card runs on the weights beside it."""
    text = build(all_recipes, tmp_path / "hub", Choice(repo_id="me/tiny", recipe="radam")).read_text()
    (code,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    exec(code.replace("me/tiny", str(tmp_path / "hub")), {})
    assert capsys.readouterr().out


def test_every_recipe_starts_alike(all_recipes: Path) -> None:
    for seed in (0, 1):
        records = by_recipe(all_recipes, seed)
        pre_ln = records.pop("adam_pre_ln")
        first = {(r.curves["loss"][0], r.curves["grad_norm"][0]) for r in records.values()}
        assert len(first) == 1
        assert (pre_ln.curves["loss"][0], pre_ln.curves["grad_norm"][0]) not in first
    assert by_recipe(all_recipes, 0)["adam"].curves["loss"] != by_recipe(all_recipes, 1)["adam"].curves["loss"]


def test_report(all_recipes: Path) -> None:
    table = (all_recipes / "table.md").read_text()
    first = table.partition("\n| ---")[2].partition("\n\n")[0]
    rows = [line.split("|")[1].strip(" *").replace("\\", "") for line in first.splitlines()[1:]]
    names = [entry if isinstance(entry, str) else entry.get("name", entry.get("recipe")) for entry in ALL_RECIPES]
    assert sorted(rows) == sorted(names)
    assert f"; 0 of {len(load_records(all_recipes))} runs diverged." in table
    summary = json.loads((all_recipes / "summary.json").read_text())
    assert summary["verdict"][0] in table
    figures = {path.name for path in (all_recipes / "figures").iterdir()}
    for figure in ("evaluation", "over_seeds"):
        assert {f"{figure}.png", f"{figure}_dark.png"} <= figures


def test_report_over_learning_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, recipes=["adam", "radam"], max_steps=2, eval_steps=1, learning_rates=[1e-3, 1e-2])
    assert compare(config, "--output_dir", "r") == 0
    table = Path("r/table.md").read_text()
    assert "lr 0.01 |" in table
    capsys.readouterr()
    assert main(["report", "r", "--output_dir", "again"]) == 0
    said = f"open:    {Path('again', 'report.html')}\npublish: hf-radam publish r --repo_id NAME/REPO\n"
    assert capsys.readouterr().out.endswith(said)
    assert Path("again/table.md").read_text() == table
    figures = {path.name: path.read_bytes() for path in Path("r/figures").iterdir()}
    assert "over_learning_rates.png" in figures
    assert {path.name: path.read_bytes() for path in Path("again/figures").iterdir()} == figures


def test_more_seeds_join_and_finished_runs_are_skipped(sketched: None, tmp_path: Path) -> None:
    """The later ones with fewer numbers of each: the id of a run does not depend on what is recorded of it."""
    config = write_config(tmp_path, recipes=["radam"], max_steps=5, eval_steps=5)
    assert compare(config, "--output_dir", "r") == 0
    (first,) = Path("r/records").iterdir()
    before = first.read_bytes()
    assert compare(config, "--output_dir", "r", "--seeds", "0", "1", "--set", "record_every=2") == 0
    assert first.read_bytes() == before
    whole, thinned = load_records(Path("r"))
    assert json.loads(Path("r/comparison.json").read_text())["asked"] == [whole.id, thinned.id]
    assert (whole.seed, whole.curves["step"], whole.gradients is None) == (0, [1, 2, 3, 4, 5], False)
    assert (thinned.seed, thinned.curves["step"], thinned.gradients is None) == (1, [1, 2, 4, 5], True)


def test_pre_ln_begins_with_the_same_weights(tmp_path: Path) -> None:
    tokenizer = own_tokenizer(["ein hund .", "a dog ."], 300, tmp_path)
    weights: list[dict[str, torch.Tensor]] = []
    for pre_ln in (False, True):
        torch.manual_seed(0)
        model = build_model(TranslationModel(**TINY["model"], normalize_before=pre_ln), tokenizer, 32)
        weights.append(model.state_dict())
    post_ln, pre_ln = weights
    assert all(torch.equal(post_ln[name], pre_ln[name]) for name in post_ln)
    assert sorted(set(pre_ln) - set(post_ln)) == [
        f"model.{part}.layer_norm.{kind}" for part in ("decoder", "encoder") for kind in ("bias", "weight")
    ]


def text_files(folder: Path) -> Path:
    train, validation, _ = load_pairs(TranslationData(needed_examples=48, max_eval_samples=20))
    for part, pairs in (("train", train), ("val", validation)):
        for language, lines in zip(("de", "en"), zip(*pairs, strict=True), strict=True):
            (folder / f"{part}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def pairs_of(**data: Any) -> tuple[list[Any], list[Any]]:
    return load_pairs(TranslationData(**{"max_eval_samples": 20, **data}))[:2]


def test_one_text_in_all_forms(tmp_path: Path) -> None:
    """Plain, as JSON lines, packed, and as a dataset: a local folder takes the place of a Hub name."""
    text_files(tmp_path)
    hub, prefixes = tmp_path / "hub", {"train_prefix": "train", "validation_prefix": "val"}
    plain = pairs_of(**prefixes)
    train, held_out = pairs_of(train_prefix="train")
    assert (len(train), len(held_out)) == (28, 20), "the end is held out"
    with pytest.raises(UserError, match="there are only 48; give validation text"):
        pairs_of(train_prefix="train", max_eval_samples=48)
    hub.mkdir()
    for pairs, split in zip(plain, ("train", "validation"), strict=True):
        lines = [json.dumps({"translation": {"de": de, "en": en}}) for de, en in pairs]
        (hub / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for path in [*tmp_path.glob("train.*"), *tmp_path.glob("val.*")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert pairs_of(**prefixes) == plain
    assert pairs_of(train_file="hub/train.jsonl", validation_file="hub/validation.jsonl") == plain
    assert pairs_of(dataset_name="hub") == plain
    with pytest.raises(UserError, match="source_lang"):
        pairs_of(dataset_name="hub", source_lang="fr")
    with pytest.raises(UserError, match="data: unknown split 'validatoin'; did you mean 'validation'"):
        pairs_of(dataset_name="hub", validation_split="validatoin")
    Path("null.jsonl").write_text('{"translation": {"de": null, "en": "b"}}\n')
    with pytest.raises(UserError, match=r"null.jsonl, row 1 must have the column 'de', got \['en'\]"):
        pairs_of(train_file="null.jsonl")
    with pytest.raises(UserError, match="cannot load dataset"):
        pairs_of(dataset_name="nowhere")


def bad_files(folder: Path) -> dict[str, Path]:
    text_files(folder)
    for name, german, english in (("empty", b"", b""), ("short", b"a\nb\n", b"a\n"), ("latin", b"a\n", b"\xff\n")):
        (folder / f"{name}.de").write_bytes(german)
        (folder / f"{name}.en").write_bytes(english)
    (folder / "packed.de.gz").write_bytes(b"no gzip at all")
    (folder / "packed.en.gz").write_bytes(gzip.compress(b"a\n")[:-9])
    (folder / "no.jsonl").write_text('{"translation": {"de": "a", "en": "b"}}\n{oops\n')
    (folder / "words.jsonl").write_text('{"translation": {"de": ["a"], "en": "b"}}\n')
    other = folder / "other"
    other.mkdir()
    description = {"name": "x", "shared": {"max_steps": 7}, "data": "", "target_loss": None, "recipes": {}}
    (other / "comparison.json").write_text(json.dumps(description))
    (other / "records").mkdir()
    (other / "records" / "x.json").write_text("{}")
    full = folder / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    return {path.name: path for path in folder.iterdir()}


BAD_INPUT: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "unknown recipe": ({"recipes": ["adamm"]}, [], "unknown recipe 'adamm'; did you mean 'adam'"),
    "unknown task": ({"task": "translate"}, [], "task: unknown value 'translate'; did you mean 'translation'"),
    "unknown optimizer": ({"recipes": [{"name": "x", "optimizer": "radm"}]}, [], "unknown optimizer 'radm'"),
    "unknown option": (
        {"recipes": [{"recipe": "radam", "optim_args": {"beta": 1}}]}, [], "unknown option of optimizer",
    ),
    "unknown key": ({"max_step": 3}, [], "unknown key 'max_step'; did you mean 'max_steps'"),
    "unknown data key": ({"data": {"vocab": 3}}, [], "data: unknown key 'vocab'; did you mean 'vocab_size'"),
    "unknown model key": ({"model": {"d_modle": 3}}, [], "model: unknown key 'd_modle'; did you mean 'd_model'"),
    "unknown training key": ({"training": {"adam_beta3": 1}}, [], "training: unknown key 'adam_beta3'"),
    "reserved training key": ({"training": {"seed": 1}}, [], "training: 'seed' is set by the comparison itself"),
    "no number": ({"training": {"max_grad_norm": "x"}}, [], "training: max_grad_norm must be a valid number, got 'x'"),
    "no switch": ({"training": {"bf16": 1}}, [], "training: bf16 must be a valid boolean, got 1"),
    "missing key": ({"recipes": [{"name": "x"}]}, [], "recipe 'x': the key 'optimizer' is missing"),
    "wrong type": ({"batch_size": "many"}, [], "batch_size must be a valid integer, got 'many'"),
    "zero steps": ({}, ["--max_steps", "0"], "max_steps must be >= 1, got 0"),
    "negative lr": ({}, ["--learning_rates", "-0.001"], "learning_rates.0 must be greater than 0, got -0.001"),
    "no runs at a time": ({}, ["--parallel_runs", "0"], "parallel_runs must be >= 1"),
    "no seeds": ({"seeds": []}, [], "seeds must have at least 1 item"),
    "untuned warmup": ({"recipes": ["adam_warmup"]}, [], "warmup_steps must be positive with linear warmup"),
    "recipe that is a path": ({"recipes": [{"recipe": "radam", "name": "../x"}]}, [], "recipe '../x': a name must"),
    "checkpoint of a recipe": (
        {"recipes": [{"recipe": "radam", "model": {"name_or_path": "x"}}]}, [], "model may not set 'name_or_path'",
    ),
    "recipe that is a list": ({"recipes": [{"recipe": ["radam"]}]}, [], "unknown recipe"),
    "data that is a list": ({"data": [1, 2]}, [], "data must be a valid dictionary, got [1, 2]"),
    "warmup too long": (
        {"recipes": [{"recipe": "adam_warmup", "warmup_steps": 12}]}, [], "must be less than max_steps 12",
    ),
    "warmup that is ignored": ({"training": {"lr_scheduler_type": "constant"}}, [], "use constant_with_warmup"),
    "seed": ({"seeds": [-1]}, [], "seeds.0 must be greater than or equal to 0, got -1"),
    "seeds of no recipe": ({"recipes": [{"recipe": "radam", "seeds": [1]}]}, [], "none of the seeds [0] is one of a"),
    "target": ({"target_loss": math.nan}, [], "target_loss must be a finite number, got nan"),
    "test text alone": ({}, ["--test_prefix", "val"], "test text without training text; give both"),
    "too little text": (
        {}, ["--train_prefix", "train", "--set", "batch_size=60"], "fewer training examples than batch_size 60",
    ),
    "a list of words": ({}, ["--train_file", "words.jsonl"], "column 'de' must be text or a number, got ['a']"),
    "missing text": ({}, ["--train_prefix", "nowhere/train"], "No such file or directory: 'nowhere/train.de'"),
    "empty text": ({}, ["--train_prefix", "empty"], "empty.de is empty"),
    "unlike lengths": ({}, ["--train_prefix", "short"], "short.de has 2 lines but short.en has 1"),
    "unreadable gz": ({}, ["--train_prefix", "packed"], "cannot read packed.de.gz"),
    "not UTF-8": ({}, ["--train_prefix", "latin"], "cannot read latin.en"),
    "broken json": ({}, ["--train_file", "no.jsonl"], "double quotes: line 2 column 2"),
    "two sources": ({}, ["--train_file", "a", "--train_prefix", "b"], "train_file and train_prefix exclude each other"),
    "other comparison": ({}, ["--output_dir", "other"], "other holds results of another comparison: max_steps was 7"),
    "somebody's folder": ({}, ["--output_dir", "full"], "full holds other files and no comparison"),
    "a file": ({}, ["--output_dir", "train.de"], "train.de is a file"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad_input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    bad_files(folder)
    return folder


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, bad_input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bad_input)
    changes, flags, message = BAD_INPUT[case]
    before = {path: path.read_bytes() for path in bad_input.rglob("*") if path.is_file()}
    output_dir = [] if "--output_dir" in flags else ["--output_dir", "new"]
    assert compare(write_config(tmp_path, **changes), *flags, *output_dir) == 2
    *_, line = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    # What is wrong with text is seen by the first run, which has its folder by then.
    assert not [*Path("new").glob("records/*"), *Path("new").glob("runs/*/model/checkpoint-*")]
    shutil.rmtree("new", ignore_errors=True)
    assert {path: path.read_bytes() for path in bad_input.rglob("*") if path.is_file()} == before


LATE: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer option": (
        {"recipes": [{"recipe": "radam", "name": "x", "optim_args": {"eps": -1}}]}, "x, lr 0.003, seed 0: eps must",
    ),
    "model": ({"model": {**TINY["model"], "activation_function": "rellu"}}, "rellu"),
    "batch of evaluations": ({"training": {"per_device_eval_batch_size": 0}}, "batch"),
    "no heads' width": ({"model": {**TINY["model"], "d_model": 0}}, "negative power"),
    "option of Transformers": (
        {"recipes": [{"name": "x", "optimizer": "adamw_torch", "optim_args": {"eps": 1.0}}]},
        "Transformers ignores the option 'eps' of 'adamw_torch'; leave it out, or take a registered optimizer: radam",
    ),
    "model of a recipe": ({"recipes": [{"recipe": "radam", "model": {"d_modle": 1}}]}, "'d_modle'"),
    "schedule": (
        {"recipes": ["adam"], "training": {"lr_scheduler_type": "warmup_stable_decay"}}, "adam, lr 0.003, seed 0: ",
    ),
    "betas": ({"recipes": ["adam"], "training": {"adam_beta2": 2.0}}, "adam, lr 0.003, seed 0: "),
    "untuned": (
        {"recipes": ["adam_untuned_linear"],
         "training": {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "loss"}},
        "untuned warmup needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LATE)
def test_what_only_building_shows_is_said_before_the_first_update(case: str, tmp_path: Path) -> None:
    changes, message = LATE[case]
    comparison = load_comparison(write_config(tmp_path, **changes))
    with pytest.raises(UserError, match=message):
        sweep(comparison, tmp_path / "r")
    assert not list((tmp_path / "r").glob("runs/*/model/checkpoint-*"))


def test_a_folder_is_for_one_comparison_on_one_text(tmp_path: Path) -> None:
    def of(warmup_steps: int = 1, **changes: Any) -> Comparison:
        recipes = [{"recipe": "adam_warmup", "warmup_steps": warmup_steps}]
        data = {"train_prefix": "train", "validation_prefix": "val"}
        return load_comparison(write_config(tmp_path, recipes=recipes, data=data, **changes))

    def refused(asked: Comparison, message: str) -> None:
        with pytest.raises(UserError, match=message), claim(tmp_path / "r", asked, fingerprint_of(asked)):
            pass

    text_files(tmp_path)
    with claim(tmp_path / "r", of(), fingerprint_of(of())):
        refused(of(2), "adam_warmup was .* a changed recipe a new name")
        refused(of(average_checkpoints=2, save_steps=6), "average_checkpoints was None and is now 2")
        Path("train.de").write_text("other")
        refused(of(), "r holds results on another text or checkpoint")


@pytest.mark.parametrize(("recipe", "damaged"), [("radam", False), ("radam", True), ("schedule_free_radam", False)])
def test_killed_before_the_record_is_written(recipe: str, damaged: bool, tmp_path: Path) -> None:
    """All updates are done and the translation too: the same record, and not one update more."""
    comparison = load_comparison(write_config(tmp_path, recipes=[recipe], save_steps=6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(comparison, tmp_path / "killed")
    (state,) = tmp_path.glob("killed/runs/*/model/checkpoint-6/trainer_state.json")
    if damaged:  # as by a kill while it was written
        state.write_text("{")
        (state.parent / "optimizer.pt").write_bytes(b"half")
    sweep(comparison, tmp_path / "killed")
    assert not list(tmp_path.glob("killed/runs/*/model/checkpoint-*"))
    sweep(comparison, tmp_path / "straight")
    killed, straight = (outcome(by_recipe(tmp_path / name)[recipe]) for name in ("killed", "straight"))
    assert killed == straight
    assert killed[0]["step"] == list(range(1, 13))


@pytest.mark.parametrize("claimed", [True, False])
def test_without_results_a_folder_binds_nobody(claimed: bool, tmp_path: Path) -> None:
    """A corrected file may use it, also where the job was killed while it claimed the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_radam.experiments.runs.sweep.in_parallel", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(load_comparison(write_config(tmp_path)), tmp_path / "r")
    if not claimed:
        (tmp_path / "r" / "comparison.json").rename(tmp_path / "r" / ".comparison.json.tmp")
    sweep(load_comparison(write_config(tmp_path, recipes=["radam"], max_steps=1)), tmp_path / "r")
    assert len(load_records(tmp_path / "r")) == 1


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_shipped_configs_are_valid(name: str) -> None:
    given = {"data": {"module": "mine"}} if name == "script.yaml" else {}  # it comes from the command line
    comparison = load_comparison(CONFIGS / name, given)
    assert comparison.runs()
    assert len({run.id for run in comparison.runs()}) == len(comparison.runs())


def test_report_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no results folder"):
        write_report(tmp_path)
    shared = {"task": "translation", "data": {}, "model": {}, "training": {}, "max_steps": 1}
    whole = {"name": "x", "target_loss": None, "shared": shared, "data": "", "recipes": {}}
    for content, message in (
        ({"name": "x", "target_loss": None}, "the key 'shared' is missing"),
        ([], "must be an object"),
        ({**whole, "asked": [1]}, "asked.0 must be a valid string, got 1"),
        (whole, "holds no records"),
    ):
        (tmp_path / "comparison.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            write_report(tmp_path)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.json is no record"):
        write_report(tmp_path)
