"""The card: what it finds, its metadata, what it escapes, how to reproduce it, and what must never be in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import render_cards
import yaml
from comparisons import ROOT
from datasets import load_dataset
from hub_server import metadata_errors
from huggingface_hub import ModelCard
from made_up import write_results

from hf_radam.errors import UserError
from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.report.report import make_report
from hf_radam.experiments.results import Results
from hf_radam.publishing.bundle import build
from hf_radam.publishing.card import Choice, render
from hf_radam.publishing.privacy import refuse_leaks

pytestmark = pytest.mark.usefixtures("sketched")

FOUR: dict[str, Any] = {
    "adam": [3.9, 3.9],
    "adam_warmup": [0.2, 0.2],
    "adam_untuned_linear": [0.3, 0.3],
    "radam": [0.5, 0.6],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results") / "results", FOUR)


def metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("\n---\n", 1)[0])


def card_of(folder: Path, **choice: Any) -> str:
    """The card of a results folder without figures."""
    read = Results.load(folder)
    return render(read, make_report(read), title="invented", choice=Choice(**choice))


def test_a_model_repo(results: Path, tmp_path: Path) -> None:
    card = build(results, tmp_path / "hub", Choice(repo_id="me/invented", recipe="radam"))
    files = {path.relative_to(card.parent).as_posix() for path in card.parent.rglob("*") if path.is_file()}
    described = {"README.md", "comparison.json", "comparison.yaml", "summary.json"}
    assert {*described, "config.json", "model.safetensors"} <= files
    assert {f"figures/evaluation{ending}" for ending in (".png", "_dark.png")} <= files
    assert len([path for path in files if path.startswith("records/")]) == 8
    assert not any(path.endswith(".bin") for path in files)
    text = card.read_text(encoding="utf-8")
    assert metadata_errors(text, "model") == []
    data: Any = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "translation")
    metrics = [(result.metric_type, result.metric_name, result.metric_value) for result in data.eval_results]
    assert len(metrics) == 4, "one a recipe"
    name = "eval loss (radam, lr 0.001, mean of 2 seeds ± 0.071)"
    assert metrics[0] == ("loss", name, 0.55), "the recipe whose weights these are comes first"
    for file in re.findall(r'src="([^"]+)"', text):
        assert file in files
    assert '"_name_or_path"' not in (card.parent / "config.json").read_text()
    refuse_leaks(card.parent, public=["me/invented"])


def test_a_card_begins_with_what_a_reader_wants(tmp_path: Path) -> None:
    """What was found, with its table; what it is, with links, and how to load it; one figure; the rest is folded."""
    data = {"dataset_name": "org/set", "max_train_samples": 9}
    folder = write_results(tmp_path / "results", FOUR, data=data, model={"name_or_path": "org/bert"})
    card = build(folder, tmp_path / "hub", Choice(repo_id="me/x", recipe="radam")).read_text()
    assert metadata(card)["datasets"] == ["org/set"]
    weights = next(path.stem for path in folder.glob("records/radam-lr0.001-seed0-*"))
    about = (
        "A comparison made with `hf_radam`: does [RAdam](https://arxiv.org/abs/1908.03265) need no "
        "learning-rate warmup? It trains models for translation from [org/bert](https://huggingface.co/org/bert) on "
        "[org/set](https://huggingface.co/datasets/org/set). The weights here are those of "
        f"`{weights}`, the best run of `radam`."
    )
    order = ["# Invented\n", "**Keep the warmup.**", "| recipe |", about, "from_pretrained", "<img ", "<details>",
             "The training took ", "| recipe | optimizer |", "All settings", "## Run it again"]  # fmt: skip
    places = [card.index(part) for part in order]
    assert places == sorted(places)
    assert len(card.partition("\n---\n")[0].splitlines()) <= 140
    # Eight runs of four updates of 0.1 s.
    assert re.search("The training took [0-9]+ s in all", card)


def test_the_best_run_gives_the_weights(results: Path) -> None:
    read = Results.load(results)
    for recipe, best in ((None, "adam_warmup"), ("radam", "radam")):
        assert read.best_run(recipe).id.startswith(f"{best}-lr0.001-seed0-")
    with pytest.raises(UserError, match=r"unknown recipe 'radma'.*radam"):
        read.best_run("radma")


def test_no_weights(tmp_path: Path) -> None:
    bare = write_results(tmp_path / "bare", {"adam": [1.0], "radam": [2.0]})
    for model in bare.glob("runs/*/model"):
        (model / "model.safetensors").unlink()
    incomplete = write_results(tmp_path / "incomplete", {"radam": [2.0]})
    next(incomplete.glob("runs/*/model/config.json")).unlink()
    for folder, said in (
        (bare, "holds config.json.*--no_weights"),
        (incomplete, "holds model.safetensors.*--no_weights"),
    ):
        with pytest.raises(UserError, match=said):
            build(folder, tmp_path / "hub", Choice(repo_id="me/invented"))
    card = build(bare, tmp_path / "hub", Choice(repo_id="me/invented", with_weights=False)).read_text()
    assert metadata(card)["library_name"] == "hf_radam"
    assert "from_pretrained" not in card


# name: files of the model beside the weights, and Python that the card shows
MODELS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "with_a_tokenizer": (
        {"config.json": {"architectures": ["MarianMTModel"]}, "tokenizer.json": {}},
        ["import MarianMTModel, AutoTokenizer\n", "AutoTokenizer.from_pretrained", "model.generate("],
    ),
    "without_a_tokenizer": ({"config.json": {}}, ["import AutoModel\n", "AutoModel.from_pretrained"]),
    "adapter": (
        {"adapter_config.json": {"base_model_name_or_path": "/home/ann/model"}},
        ["from peft import PeftModel\n", 'PeftModel.from_pretrained(base_model, "me/x")'],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_whatever_can_be_loaded_is_published(name: str, tmp_path: Path) -> None:
    files, said = MODELS[name]
    folder = write_results(tmp_path / "results", {"radam": [1.0]})
    model = next(folder.glob("runs/*/model"))
    for path in model.glob("*.json"):
        path.unlink()
    for file, content in files.items():
        (model / file).write_text(json.dumps(content))
    card = build(folder, tmp_path / "hub", Choice(repo_id="me/x", base_model="org/base"))
    assert {path.name for path in card.parent.glob("*")} >= {"model.safetensors", *files}
    usage = card.read_text().split("```python\n")[1].split("\n```")[0]
    assert all(words in usage for words in said)
    assert ("tokenizer" in usage) == (name == "with_a_tokenizer")
    if name == "adapter":
        assert json.loads((card.parent / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"


def test_a_dataset_repo(results: Path, tmp_path: Path) -> None:
    choice = Choice(repo_id="me/invented", repo_type="dataset")
    card = build(results, tmp_path / "hub", choice)
    assert metadata_errors(card.read_text(), "dataset") == []
    configs = metadata(card.read_text())["configs"]
    assert metadata(card.read_text())["pretty_name"] == "Invented"
    assert [config["config_name"] for config in configs] == ["runs", "evaluations", "updates"]
    assert {path.suffix for path in (card.parent / "data").iterdir()} == {".parquet"}
    cache = str(tmp_path / "cache")
    runs: Any = load_dataset(str(card.parent), split="train", cache_dir=cache)
    assert len(runs) == 8
    assert runs.filter(lambda run: run["recipe"] == "radam")["final_loss"][:] == [0.5, 0.6]
    updates: Any = load_dataset(str(card.parent), "updates", split="train", cache_dir=cache)
    assert len(updates) == 8 * 4
    assert updates["rectification"][0] is None, "Adam has none"
    assert updates["rectification"][-1] == 0.2
    # It is a results folder too: the report can be made of it again.
    assert Results.load(card.parent).best_run().recipe == "adam_warmup"


def test_the_same_runs_can_be_made_again(results: Path, tmp_path: Path) -> None:
    card = build(results, tmp_path / "hub", Choice(repo_id="me/invented", with_weights=False))
    again = load_comparison(card.parent / "comparison.yaml")
    assert {run.id for run in again.runs()} == {record.id for record in load_records(results)}
    assert again.target_loss == 1.0
    text = card.read_text()
    download = "hf download me/invented comparison.yaml --repo-type model --local-dir ."
    assert f"{download}\nhf-radam compare comparison.yaml\n" in text
    assert f"commit {'c' * 40}" in text


# name: the checkpoint in the records, the one the publisher names; metadata, and the command's end
CHECKPOINTS: dict[str, tuple[str, str | None, str | None, str]] = {
    "on_the_hub": ("org/bert", None, "org/bert", "comparison.yaml"),
    "local": ("model", None, None, "--name_or_path DIR/model"),
    "local_and_named": ("model", "org/bert", "org/bert", "--name_or_path DIR/model"),
    "without_namespace": ("gpt2", "gpt2", "gpt2", "comparison.yaml"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_local_folder_is_no_base_model(name: str, tmp_path: Path) -> None:
    recorded, named, base_model, end = CHECKPOINTS[name]
    folder = write_results(tmp_path / "results", {"radam": [1.0]}, model={"name_or_path": recorded})
    card = card_of(folder, base_model=named)
    assert metadata(card).get("base_model") == base_model
    assert f"{end}\n```\n" in card
    assert ("DIR stands for" in card) == ("DIR" in end)
    with pytest.raises(UserError, match="--base_model"):
        Choice(repo_id="me/invented", base_model="/home/ann/model")


def test_the_settings_of_each_recipe_are_shown(tmp_path: Path) -> None:
    """Its length, its rate, its model, its warmup; the optimizer at the best rate."""
    losses: Any = {name: {1e-3: [2.0], 1e-2: [1.0]} for name in ("adam_pre_ln", "adam_warmup_share", "radam")}
    folder = write_results(tmp_path / "results", losses)
    for record in load_records(folder):
        ended = replace(record, optimizer={"lr_at_the_end": record.learning_rate})
        ended.save(folder / "records" / f"{record.id}.json")
    card = card_of(folder)
    assert '| adam_pre_ln | `adam` | `{"warmup": "none", "model": {"normalize_before": true}}` |' in card
    share = '{"warmup": "linear", "warmup_steps": 0.1, "max_steps": 44, "learning_rate_scale": 1.1}'
    assert f"| adam_warmup_share | `adam` | `{share}` |" in card
    assert "Linear warmup was tried at these lengths only: 5 updates." in card  # ceil(0.1 * 44)
    assert card.count('"lr_at_the_end": 0.01') == 3
    assert '"lr_at_the_end": 0.001' not in card


def test_runs_of_a_script_that_ended_early_are_told() -> None:
    whole = Results.load(ROOT / "model_cards" / "script_sft")
    first, *others = whole.records
    ended = replace(first, curves={name: values[:3] for name, values in first.curves.items()})
    read = replace(whole, records=[ended, *others])
    assert "3, 100 updates of" in render(read, make_report(read), title="sft")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("model_cards/*/comparison.json")))
def test_our_cards_are_those_of_the_records(name: str, tmp_path: Path) -> None:
    """Stale? `make cards` renders them anew."""
    folder = ROOT / "model_cards" / name
    render_cards.write_card(render_cards.load(folder), name, tmp_path)
    for file in ("README.md", "comparison.yaml"):
        assert (folder / file).read_text(encoding="utf-8") == (tmp_path / file).read_text(encoding="utf-8")
    assert metadata_errors((tmp_path / "README.md").read_text(), "model") == []
    refuse_leaks(tmp_path)
