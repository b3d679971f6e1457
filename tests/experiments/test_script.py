"""`task: script`: a training script that is not ours becomes runs, records and a report."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comparisons import ROOT, outcome
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments
from workers import compared_script

from hf_radam import register_optimizer, registry
from hf_radam.experiments.comparison import Comparison, Run, load_comparison
from hf_radam.experiments.folder import RECORDING, run_folder
from hf_radam.experiments.records import load_records
from hf_radam.experiments.report.report import make_report
from hf_radam.experiments.results import Results
from hf_radam.experiments.runs import recorder
from hf_radam.experiments.runs.history import unheeded
from hf_radam.experiments.runs.launching import FOLDER, Job, keep, train
from hf_radam.experiments.runs.sweep import Progress, sweep
from hf_radam.experiments.runs.words import fingerprint_of, job_of
from hf_radam.experiments.schema import UserError
from hf_radam.experiments.script_data import ScriptData, portable
from hf_radam.files import write_whole
from hf_radam.publishing.card import render
from hf_radam.publishing.reproduce import comparison_file
from hf_radam.rectification import untuned_linear
from hf_radam.training import callbacks
from hf_radam.training.mixin import RAdamTrainerMixin
from hf_radam.training.optimizers import class_and_options
from hf_radam.training.trainer import RAdamTrainingArguments

SCRIPT = ROOT / "tests" / "workers" / "compared_script.py"
TINY: dict[str, Any] = {
    "name": "Tiny script",
    "task": "script",
    "data": {
        "script": str(SCRIPT),
        "arguments": "--per_device_train_batch_size 8 --use_cpu --disable_tqdm true --train_file /data/rows.csv",
        "metric": "largest-error",
        "greater_is_better": False,
    },
    "recipes": ["adam_untuned_linear", "radam"],
    "learning_rates": [1e-2],
    "max_steps": 12,
    "eval_steps": 4,
    "save_steps": 5,
    "threads": 1,
    "training": {"adam_beta2": 0.9, "lr_scheduler_type": "linear"},
}


def comparison(**changes: Any) -> Comparison:
    path = Path("tiny_script.yaml")
    path.write_text(json.dumps({**TINY, **changes}))  # with quotes around all text, which yaml.dump may leave out
    return load_comparison(path)


def data(**changes: Any) -> dict[str, Any]:
    return {**TINY["data"], **changes}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_script_is_compared_and_one_that_died_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, folder = comparison(), Path("whole")
    assert sweep(asked, folder, parallel_runs=2) == 0
    untuned, radam = load_records(folder)
    assert radam.curves["step"] == [*range(1, 13)]
    assert [bool(r) for r in radam.curves["rectification"]] == [step > 5 for step in range(1, 13)]
    decay = [1 - step / 12 for step in range(12)]
    expected = [1e-2 * untuned_linear(step + 1, 0.9) * factor for step, factor in enumerate(decay)]
    assert untuned.curves["learning_rate"] == pytest.approx(expected)
    for record in (untuned, radam):
        assert record.evaluations["step"] == [0, 4, 8, 12]
        assert record.final.keys() == {"loss", "largest_error_lower_is_better"}
        assert record.metric == "largest_error_lower_is_better"
        assert record.environment["versions"]["compared_script.py"].startswith("sha256 ")
        assert record.gradients
        assert not record.diverged
        assert record.config["data"]["script"] == "compared_script.py"
        assert record.config["data"]["arguments"].endswith("--train_file rows.csv")
    assert (radam.optimizer["class"], radam.optimizer["betas"]) == ("hf_radam.optimizer.RAdam", [0.9, 0.9])
    results = Results.load(folder)
    report = make_report(results)
    assert "largest error" in report.tables[0].columns
    card = render(results, report, title="x")
    assert "`compared_script.py`, which is not ours" in card
    assert f"compared_script.py {radam.environment['versions']['compared_script.py']}" in card
    assert "Run it where `compared_script.py` and the files lie that its arguments name" in card
    Path("again.yaml").write_text(comparison_file(results))
    assert {run.id for run in load_comparison(Path("again.yaml")).runs()} == {untuned.id, radam.id}
    assert {path.name for path in (folder / "runs" / radam.id / "model").iterdir()} == {"model.safetensors"}

    monkeypatch.setenv("DIES", "7")
    with pytest.raises(UserError, match=r"radam, lr 0.01, seed 0: the script failed \(exit status 9\)"):
        sweep(comparison(recipes=["radam"]), Path("broken"))
    assert [path.name for path in Path("broken/runs").glob("*/model/checkpoint-*")] == ["checkpoint-5"]
    monkeypatch.delenv("DIES")
    assert sweep(comparison(recipes=["radam"]), Path("broken")) == 0
    (resumed,) = load_records(Path("broken"))
    assert outcome(resumed) == outcome(radam)

    own = Path("own.py")
    own.write_text(SCRIPT.read_text() + "\n# changed\n")
    (folder / "comparison.json").write_text((folder / "comparison.json").read_text().replace(SCRIPT.name, own.name))
    with pytest.raises(UserError, match="whole holds results on another text or checkpoint, or of another script"):
        sweep(comparison(data=data(script="own.py")), folder)


def job(**changes: Any) -> Job:
    asked = {
        "folder": str(Path.cwd() / "run"), "recipe": "radam", "warmup": "none", "demanded": {}, "metric": "loss",
        "trainer": None, "eval_steps": 0, "save_steps": 0, "record_every": 1, "fingerprint": "",
    }  # fmt: skip
    return Job(**{**asked, **changes})


FAILING = {
    "fails": ("raise ValueError('the data are gone')", r"failed \(exit status 1\): ValueError: the data are gone;"),
    "ends in the middle": (
        "print('{\"step\": 3, \"loss\": 1.0}', file=open('run/messages.jsonl', 'w'))",
        "the script ended by itself after update 3, in the middle of its training",
    ),
    "has no Trainer": ("print('done')", "no Trainer of Transformers made an update in it"),
    "imports what lies beside it": ("import beside", "no Trainer of Transformers made an update in it"),
}


@pytest.mark.parametrize("case", FAILING)
def test_scripts_that_end_without_a_record(case: str) -> None:
    own, message = FAILING[case]
    Path("beside.py").write_text("")
    Path("own.py").write_text(own)
    (run,) = comparison(recipes=["radam"]).runs()
    logged = ["sh", "-c", f"exec {sys.executable} own.py 2>run/log.txt"]
    with pytest.raises(UserError, match=message):
        train({run.id: job()}, logged, run, lambda message: None)


@pytest.fixture
def trainer_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Trainer whose trainings are recorded as asked."""

    def follow(**asked: Any) -> Any:
        Path("run").mkdir()
        Path("run/request.json").write_text(json.dumps(vars(job(**asked))))
        monkeypatch.setenv(FOLDER, "run")

        class Followed(RAdamTrainerMixin, Trainer):
            pass

        recorder.follow(Followed)
        return Followed

    yield follow
    logging.getLogger(callbacks.__name__).setLevel(logging.NOTSET)  # a recorder silences advice in its process


def training_arguments(cls: Any = TrainingArguments, **changes: Any) -> TrainingArguments:
    return cls(
        "out", max_steps=4, per_device_train_batch_size=8, use_cpu=True, report_to="none", disable_tqdm=True, **changes
    )


def recorded() -> dict[str, Any]:
    return json.loads(Path("run", RECORDING).read_text())


STOPPED = {
    "ignores --optim": ({"demanded": {"optim": "radam"}}, {}, "ignores --optim: it was given radam and its"),
    "ignores --seed": ({"demanded": {"seed": 1}}, {}, "ignores --seed: it was given 1 and its Trainer has 42"),
    "ignores --learning_rate": (
        {"demanded": {"learning_rate": 1e-3}}, {}, "--learning_rate: it was given 0.001 and its Trainer has"
    ),
    "ignores --adam_beta2": (
        {"demanded": {"adam_beta2": 0.98, "weight_decay": 0.0}}, {},
        "--adam_beta2: it was given 0.98 and its Trainer has 0.999;",
    ),
    "Transformers ignores an option": (
        {"optim_args": {"amsgrad": True}}, {},
        "Transformers ignores the option 'amsgrad' of 'adamw_torch",
    ),
    "ignores an option": ({"demanded": {"eps": 1e-4}}, {}, "--eps: it was given 0.0001 and its"),
    "ignores --warmup_steps": (
        {"demanded": {"warmup_steps": 0.5, "max_steps": 4}}, {"warmup_steps": 1},
        "--warmup_steps: it was given 2 and its Trainer has 1;",
    ),
    "ignores --max_steps": (
        {"demanded": {"max_steps": 3}}, {}, "--max_steps: it was given 3 and its Trainer has 4;"
    ),
    "another metric": (
        {"metric": "accuracy"}, {}, "the script evaluates no 'accuracy'; set metric to one of largest-error, loss"
    ),
    "no function of the step": (
        {"warmup": "untuned_linear"}, {"lr_scheduler_type": "reduce_lr_on_plateau"},
        "recipe 'radam': untuned warmup needs an optimizer with betas and a schedule",
    ),
    "warmup as long as the run": ({}, {"warmup_steps": 4}, "warmup_steps 4 must be less than the script's 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", STOPPED)
def test_trainings_that_are_stopped(case: str, trainer_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, changes, message = STOPPED[case]
    changes = {"eval_strategy": "steps", "eval_steps": 2, **changes}
    trainer = compared_script.build(training_arguments(**changes), trainer_class(**asked))
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        trainer.train()
    assert json.loads(Path("run/messages.jsonl").read_text().splitlines()[-1])["error"]


def test_an_optimizer_other_than_the_name_says(trainer_class: Any) -> None:
    asked = trainer_class(demanded={"optim": "radam"})
    trainer = compared_script.build(training_arguments(RAdamTrainingArguments), asked)
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters())
    message = "ignores --optim: it was given radam and trains with torch.optim.adamw.AdamW; have it build what"
    with pytest.raises(SystemExit, match=message):
        trainer.train()


def test_a_rate_in_a_tensor_is_rounded() -> None:
    """As torchao keeps it: in float32 1e-4 is another number."""
    optimizer = torch.optim.AdamW([torch.ones(1)], lr=torch.tensor(1e-4), foreach=False)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 2))  # keeps the rate as `initial_lr`
    assert [*unheeded(optimizer, {"learning_rate": 1e-4})] == []
    assert [name for name, *_ in unheeded(optimizer, {"learning_rate": 1.001e-4})] == ["learning_rate"]


def test_several_data_sets(trainer_class: Any) -> None:
    """The loss is that of the data set by whose metric runs are judged."""
    args = training_arguments(eval_strategy="steps", eval_steps=2)
    trainer = compared_script.build(args, trainer_class(metric="far_largest-error"))
    trainer.eval_dataset = {"near": compared_script.examples(8), "far": compared_script.examples(4)}
    trainer.train()
    found = recorded()["evaluations"]
    assert found["step"] == [2, 4]
    assert found["loss"] == found["far_loss"] != found["near_loss"]
    assert found.keys() >= {"near_largest_error", "far_largest_error"}


def test_one_training_of_several(trainer_class: Any) -> None:
    """A reward model, then a policy: the record is that of the one that was asked for."""
    cls = trainer_class(trainer=2, record_every=2)
    for optimizer in ("adamw_torch", "sgd"):
        trainer = compared_script.build(training_arguments(optim=optimizer), cls)
        trainer.train()
        assert Path("run", RECORDING).is_file() == (optimizer == "sgd")
    trainer.evaluate()
    assert recorded()["optimizer"]["class"] == "torch.optim.sgd.SGD"
    assert recorded()["curves"]["step"] == [1, 2, 4]
    assert recorded()["evaluations"]["step"] == [4]


def test_a_second_training_asks_which_is_meant(trainer_class: Any) -> None:
    cls = trainer_class()
    compared_script.build(training_arguments(), cls).train()
    with pytest.raises(SystemExit, match="trains more than once; say which training is compared: --trainer 1 or 2"):
        compared_script.build(training_arguments(), cls).train()


class Early(TrainerCallback):
    """Logs a loss of its own, wants no logs of Trainer, and stops after three updates."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        state.log_history.append({"loss": 123.0, "step": state.global_step})
        control.should_log = False
        control.should_training_stop = state.global_step == 3


def test_a_script_that_stops_early_and_keeps_its_best_model(trainer_class: Any) -> None:
    keeps = {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1, "metric_for_best_model": "loss"}
    args = training_arguments(eval_strategy="steps", eval_steps=1, learning_rate=3.0, **keeps)
    trainer = compared_script.build(args, trainer_class())
    trainer.add_callback(Early())
    trainer.train()
    found, best = recorded(), trainer.state.best_global_step
    assert found["curves"]["step"] == [1, 2, 3]
    assert 123.0 not in found["curves"]["loss"]
    assert found["notes"] == [
        "the script ended it after 3 of 4 updates",
        f"its last evaluation is that of the script's best model, of update {best}",
    ]
    assert found["final"]["loss"] == pytest.approx(trainer.state.best_metric)


def test_a_second_process_of_a_script_is_refused(trainer_class: Any) -> None:
    cls = trainer_class()
    Path("run/begun").touch()  # by another process
    with pytest.raises(SystemExit, match="trains in several processes of its own"):
        compared_script.build(training_arguments(), cls).train()


def record_as(run: Run, **changes: Any) -> None:
    """What the recorder leaves of a run, made into its record."""
    curves = {"step": [1, 2], "loss": [2.0, 1.0], "learning_rate": [1e-2, 1e-2], "seconds": [0.1, 0.1]}
    content = {
        "diverged": False, "curves": curves, "gradients": None, "final": {"loss": 1.5, "largest_error": 1.0},
        "optimizer": {}, "facts": {}, "evaluations": {"step": [2], "loss": [1.5], "largest_error": [1.0]},
        "seconds_per_step": 0.1, "peak_memory": 1,
        "environment": {"hardware": "x", "processes": 1, "threads": 1, "versions": {}, "commit": None}, **changes,
    }  # fmt: skip
    write_whole(run_folder(Path("r"), run) / RECORDING, json.dumps(content))
    keep(run, Path("r"))


def test_two_runs_that_are_equal_to_the_last_digit_are_no_tie() -> None:
    first, second = comparison(seeds=[0, 1], recipes=["radam"]).runs()
    record_as(first)
    with pytest.raises(UserError, match=r"its losses are those of radam, .* so the script ignores --seed;"):
        record_as(second)
    assert len(load_records(Path("r"))) == 1


def test_a_script_that_evaluates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = comparison(recipes=["radam"]).runs()
    nothing = {"step": [], "loss": []}
    with pytest.raises(UserError, match="the script evaluated no loss; set eval_steps"):
        record_as(run, evaluations=nothing, final={})
    record_as(run, evaluations=nothing, final={"loss": None}, diverged=True)
    (record,) = load_records(Path("r"))
    assert record.final == {"loss": None, "largest_error_lower_is_better": None}
    Progress([]).finish(run, record)
    assert "radam, lr 0.01, seed 0: largest error nan (diverged)" in capsys.readouterr().err


def test_arguments_of_a_run() -> None:
    flags = {"learning_rate": "--lr", "data_seed": None, "seed": "seed="}
    recipe = {"recipe": "adam_warmup", "warmup_steps": 0.25, "optim_args": {"betas": [0.9, 0.98]}}
    (run,) = comparison(data=data(flags=flags), recipes=[recipe], max_steps=0, eval_steps=0).runs()
    words = list(job_of(run, Path("/r"), "").arguments)
    assert words[words.index("--train_file") + 2 :] == [
        "--report_to", "none", "--adam_beta2", "0.9", "--lr_scheduler_type", "linear",
        "--output_dir", f"/r/runs/{run.id}/model", "seed=0",
        "--optim", "adam", "--lr", "0.01", "--warmup_steps", "0.25", "--optim_args", "betas=(0.9, 0.98)",
    ]  # fmt: skip


class Options(torch.optim.SGD):
    """Takes options of any type."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, kind: Any = None, mode: Any = None,
                 name: Any = None, steps: Any = None) -> None:  # fmt: skip
        super().__init__(params, lr, weight_decay=weight_decay)


@pytest.fixture
def words_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The arguments of a run by an optimizer with such options."""
    monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY})
    register_optimizer("options", Options)

    def words(optimizer: str = "options", **options: Any) -> list[str]:
        recipe = {"name": "r", "optimizer": optimizer, "optim_args": options}
        (run,) = comparison(recipes=[recipe], data=data(arguments="")).runs()
        return [*job_of(run, Path("r"), "").arguments]

    return words


def test_values_stay_what_they_are(words_of: Callable[..., list[str]]) -> None:
    options = {"kind": "a-b", "mode": True, "name": 1e-3, "steps": [1, 4]}
    parser = HfArgumentParser(RAdamTrainingArguments)  # pyright: ignore[reportArgumentType]
    of_optimizer = class_and_options(*parser.parse_args_into_dataclasses(words_of(**options)))[1]
    assert {name: of_optimizer[name] for name in options} == {**options, "steps": (1, 4)}


@pytest.mark.parametrize("value", ["a,b", "true", "1e-3", "none"])
def test_what_text_cannot_carry_is_refused(value: str, words_of: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"recipe 'r': .*optim_args"):
        words_of(kind=value)


@pytest.mark.parametrize("optimizer", ["radam", "adam", "adamw_torch", "adafactor"])
def test_one_option_sets_no_second_one(optimizer: str, words_of: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"recipe 'r': .*eps"):
        words_of(optimizer, eps="1e-8,weight_decay=9")


@pytest.mark.parametrize("own", ["--report_to=tensorboard", "--report-to=tensorboard"])
def test_a_script_may_report_where_it_likes(own: str) -> None:
    (run,) = comparison(data=data(arguments=own), recipes=["radam"]).runs()
    first, *others = job_of(run, Path("/r"), "").arguments
    assert first == own
    assert "--report_to" not in others


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to run": ({"data": {"arguments": ""}}, "give either script .* or module"),
    "two to run": ({"data": data(module="own")}, "give either script .* or module"),
    "half a quote": ({"data": data(arguments="'a")}, "arguments must be words as in a shell"),
    "no direction": ({"data": data(greater_is_better=None)}, "is more largest-error better"),
    "wrong direction": ({"data": data(metric="accuracy")}, "greater_is_better: False is wrong for accuracy"),
    "trainer 0": ({"data": data(trainer=0)}, "data: trainer must be greater than 0, got 0"),
    "a flag": ({"data": data(flags={"seed": 1})}, "data: flags.seed must be a valid string, got 1"),
    "a batch": ({"batch_size": 8}, "task script: batch_size belongs to the script"),
    "a model": ({"recipes": [{"recipe": "radam", "model": {"a": 1}}]}, "task script: model belongs to the script"),
    "averaging": ({"average_checkpoints": 2, "save_steps": 3}, "average_checkpoints belongs to the script"),
    "its seed": ({"data": data(arguments="--seed 3")}, "--seed is set by the comparison itself; remove it"),
    "its seed, equals": ({"data": data(arguments="--data-seed=3")}, "--data-seed=3 is set by the comparison itself"),
    "its logging": ({"data": data(arguments="--logging_steps 9")}, "--logging_steps is set by the comparison itself"),
    "its beta": ({"data": data(arguments="--adam_beta2 0.9")}, "--adam_beta2 is set by the comparison itself"),
    "an option": ({"recipes": [{"recipe": "radam", "optim_args": {"x": 1}}]}, "recipe 'radam': unknown option"),
    "an optimizer": ({"recipes": [{"name": "x", "optimizer": "adm"}]}, "recipe 'x': unknown optimizer 'adm'"),
    "no file": ({"data": data(script="gone.py")}, "file not found: gone.py"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_compared(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises((UserError, FileNotFoundError), match=message):
        sweep(comparison(**changes), Path("r"))
    assert not Path("r/records").exists()


def test_what_results_keep_of_a_script() -> None:
    """Neither folders nor secrets; the text of local files tells comparisons apart."""
    Path("mine").mkdir()
    Path("mine/rows.csv").write_text("1")
    typed = "--a mine/rows.csv --b=/x/y --hub_token abc --key hf_0123456789abcdefghij --name org/model --n -1"
    kept = "--a rows.csv --b=y --hub_token SECRET --key SECRET --name org/model --n -1"
    assert portable(typed) == kept
    others = "--eos_token x --api-key abc --token YWJj= --url https://me:abc@x.org data.path=/x/y +hub.token=abc"
    kept_of_others = "--eos_token x --api-key SECRET --token SECRET --url SECRET data.path=y +hub.token=SECRET"
    assert portable(others) == kept_of_others
    command = comparison(data=data(script="trl sft --config /x/y.yaml --hub_token abc", metric="loss"))
    assert command.shared()["data"]["script"] == "trl sft --config y.yaml --hub_token SECRET"
    assert ScriptData(**command.data).name == "trl sft --config y.yaml --hub_token SECRET"
    asked = comparison(data=data(arguments=typed))
    assert asked.shared()["data"]["arguments"] == kept
    before = fingerprint_of(asked)
    Path("mine/rows.csv").write_text("2")
    assert fingerprint_of(asked) != before


def test_versions_of_what_is_run() -> None:
    def version(**changes: Any) -> str:
        return ScriptData(metric="loss", **changes).version

    Path("own.py").write_text("print()")
    assert version(script="own.py").startswith("sha256 ")
    assert version(script="own.py") == version(module="own")
    assert version(module="json.tool").startswith("sha256 ")
    assert version(module="nowhere.at.all") == version(script="no-such-command") == "unknown"
    assert version(script="pytest -q") == f"pytest {pytest.__version__}"
    assert ScriptData(script="trl sft --x").name == "trl sft --x"
