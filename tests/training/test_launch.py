"""`hf-radam run`: registered names in scripts that are not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shlex import split
from typing import Any

import pytest
from launching import CONFIGS, ROOT, WORKERS, run, torchrun

from hf_radam.training.launch import run_script

SCRIPT = ROOT / "tests" / "workers" / "plain_script.py"
RUN = [sys.executable, "-c", "import sys; from hf_radam.training.launch import run_script as r; r(sys.argv[1:])"]
COMMON = split(
    "--max_steps 8 --per_device_train_batch_size 8 --learning_rate 1e-2 --logging_steps 1 --report_to none --use_cpu "
    "--disable_tqdm true --dataloader_pin_memory false --max_grad_norm 0 --save_steps 4"
)
HALVES = split("--per_device_train_batch_size 4 --gradient_accumulation_steps 2")


def case(name: str, *arguments: str) -> list[str]:
    return ["--output_dir", name, *COMMON, *arguments]


VANILLA = {"adamw": case("adamw"), "adamw/halves": case("adamw_halves", *HALVES)}
RADAM = split("--optim radam --optim_args betas=(0.9,0.98)")
OURS = {
    "radam": case("radam", *RADAM),
    "halves": case("halves", *RADAM, *HALVES),
    "layerwise": case("layerwise", *RADAM, "--layerwise"),
    "seq2seq": case("seq2seq", *RADAM, "--seq2seq"),
    "torch": case("torch", "--optim", "radam_torch", "--optim_args", "betas=(0.9,0.98)"),
}


def trained(launcher: list[str], cases: dict[str, list[str]], folder: Path, name: str) -> dict[str, Any]:
    (folder / f"{name}.json").write_text(json.dumps(cases))
    output = run([*launcher, str(SCRIPT), f"{name}.json", f"{name}_out.json"], folder)
    return {**json.loads((folder / f"{name}_out.json").read_text()), "output": output}


def losses(found: dict[str, Any]) -> list[float]:
    return [entry["loss"] for entry in found["log"]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One launch of everything, with another `sitecustomize` on the path."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "tracing").mkdir()
    (folder / "tracing" / "sitecustomize.py").write_text("import sys; sys.tracer = 'ran'\n")
    path = os.pathsep.join([str(folder / "tracing"), str(ROOT)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        return trained(RUN, {**VANILLA, **OURS}, folder, "ours")


def test_without_a_registered_name_the_script_runs_as_ever(found: dict[str, Any], tmp_path: Path) -> None:
    plain = trained([sys.executable], VANILLA, tmp_path, "plain")
    for name in VANILLA:
        assert found[name] == {**plain[name], "tracer": "ran"}


@pytest.mark.parametrize("name", OURS)
def test_registered_names(name: str, found: dict[str, Any]) -> None:
    one = found[name]
    assert one["optimizer"] == ("torch.optim.radam.RAdam" if name == "torch" else "hf_radam.optimizer.RAdam")
    assert one["groups"] == (25 if name == "layerwise" else 2)
    expected = "Layerwise" if name == "layerwise" else "Seq2SeqTrainer" if name == "seq2seq" else "Trainer"
    assert one["class"].rpartition(".")[2] == expected
    assert one["pickles"]
    assert one["tracer"] == "ran"
    if name == "seq2seq":
        assert "hf_radam.training.launch" in one["child"], "what adapts Transformers there"
    assert [entry["rectification"] > 0 for entry in one["log"]] == [step > 5 for step in range(1, 9)]
    lr = "lr=0.01 and 0.0099 and 0.009801 and " if name == "layerwise" else "lr=0.01, betas=(0.9, 0.98), "
    assert f"- optimizer: {one['optimizer']} with {lr}" in one["card"]
    assert losses(one) != losses(found["adamw"])


def test_all_follow_the_reference(found: dict[str, Any]) -> None:
    for name in ("radam", "halves", "seq2seq"):
        assert losses(found[name]) == pytest.approx(losses(found["torch"]), abs=2e-5)
    assert found["output"].count("uses 2% of the learning rate that Adam would use over these 8 updates") == len(OURS)
    assert found["output"].count("BertForSequenceClassification ignores num_items_in_batch") == 1


def test_two_processes_and_resume(found: dict[str, Any], tmp_path: Path) -> None:
    """`hf-radam run torchrun ...`: the workers inherit."""
    one = [*RADAM, "--per_device_train_batch_size", "4"]
    cases = {"straight": case("straight", *one), "resumed": case("resumed", *one, "--resume", "straight/checkpoint-4")}
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "my-torchrun"
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(torchrun(2))} "$@"\n')
    launcher.chmod(0o755)
    both = trained([*RUN, str(launcher)], cases, tmp_path, "both")
    assert losses(both["straight"]) == pytest.approx(losses(found["torch"]), abs=2e-5)
    assert losses(both["resumed"])[-4:] == losses(both["straight"])[-4:]


def test_under_fsdp2(found: dict[str, Any], tmp_path: Path) -> None:
    """`hf-radam run --accelerate_config FILE ...`, where another `sitecustomize` lets Accelerate shard on a CPU."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.append({str(WORKERS)!r})\nimport on_cpu; on_cpu.patch()"
    )
    # Accelerate itself fails to shard a BERT whose layers it is to find: its embeddings hold another.
    layers = "fsdp_version: 2\n  fsdp_transformer_layer_cls_to_wrap: BertLayer"
    config = (CONFIGS / "fsdp2.yaml").read_text().replace("fsdp_version: 2", layers)
    (tmp_path / "mine.yaml").write_text(config + "\nmain_process_port: 0\n")
    cases = {"sharded": case("sharded", *RADAM, "--per_device_train_batch_size", "4")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
        sharded = trained([*RUN, "--accelerate_config", "mine.yaml"], cases, tmp_path, "sharded")["sharded"]
    assert sharded["engine"] == ["FSDP", 2]
    assert sharded["optimizer"] == "hf_radam.optimizer.RAdam"
    assert losses(sharded) == pytest.approx(losses(found["torch"]), abs=2e-5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gone.py"], "file not found: gone.py"),
        (["no-such-command"], "file or command not found: no-such-command"),
        (["--accelerate_config", "fdsp2", "train.py"], "no Accelerate configuration 'fdsp2'; .* ddp, deep.*fsdp2"),
    ],
)
def test_what_cannot_be_run(argv: list[str], message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        run_script(argv)


# What is run, with what before its own arguments in argv, and these arguments.
COMMANDS = {
    "script": ("mine.py", "mine.py", "-m --help"),
    "script with dashes": ("mine.py", "mine.py", "-- -m x"),
    "module": ("-m mine", "mine.py", "-- -m x"),
    "folder": ("app", "app", "-m --help"),
    "shell": ("./go.sh", "mine.py", "-m --help"),
    "shell that may not run": ("plain.sh", "mine.py", "-- -m x"),
    "shell with its name": ("named.sh", "mine.py", "-m --help"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_status_and_arguments_are_the_scripts_own(name: str, tmp_path: Path) -> None:
    asked, program, own = COMMANDS[name]
    (tmp_path / "app").mkdir()
    for place in ("mine.py", "app/__main__.py"):
        (tmp_path / place).write_text("import sys; print(sys.argv, __name__, 'torch' in sys.modules); sys.exit(7)")
    shebang = "#!/bin/sh\n"
    for place, first, mode in (("go.sh", "", 0o755), ("plain.sh", shebang, 0o644), ("named.sh", shebang, 0o755)):
        (tmp_path / place).write_text(f'{first}exec {sys.executable} mine.py "$@"\n')
        (tmp_path / place).chmod(mode)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*RUN, *split(asked), *split(own)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    assert done.stdout.endswith(f"{program}', {str(split(own))[1:]} __main__ False\n")


ORDERS = """
import gc, inspect, pickle, torch, transformers
from transformers import Trainer, TrainingArguments, Seq2SeqTrainingArguments, Seq2SeqTrainer
asked = (Trainer.__init__, Trainer.compute_loss, Trainer.create_optimizer, Trainer.get_optimizer_cls_and_kwargs,
         Trainer.push_to_hub, TrainingArguments.__post_init__, TrainingArguments.set_optimizer)
before = [str(inspect.signature(method)) for method in asked]
OWN_CARD = lambda self, **_: open(self.args.output_dir + "/README.md", "w").write("# Mine\\n")
class Early(Trainer): create_model_card = OWN_CARD
import hf_radam
hf_radam.enable(); hf_radam.enable()
from hf_radam import RAdamTrainer, RAdamTrainerMixin
gc.freeze()  # what is imported; Accelerate collects garbage at every start of a training
class Late(Trainer): create_model_card = OWN_CARD
class Both(RAdamTrainerMixin, Early): pass
class Taken(Late):  # names that are nobody's
    _optim = _optim_args = _count = _probe = _registered = _is_split = _is_ours = whole_batch_loss = gives_advice = None
    _keep_in_deepspeed = _says_more = _by_name = _weighs_loss = None
class Model(torch.nn.Linear):
    config = transformers.PreTrainedConfig()
    def forward(self, x, labels, **_):
        return {"loss": torch.nn.functional.mse_loss(super().forward(x), labels)}
data = [{"x": torch.ones(2) * i, "labels": torch.ones(1)} for i in range(8)]
options = dict(per_device_train_batch_size=2, report_to="none", use_cpu=True, weight_decay=0.1, max_steps=2,
               logging_steps=1, disable_tqdm=True,
               gradient_accumulation_steps=2, dataloader_pin_memory=False, save_strategy="no")
def trained(cls, optim, optimizer=None):
    torch.manual_seed(0)
    model = Model(2, 1)
    optimizers = (optimizer(model.parameters(), lr=1e-2) if optimizer else None, None)
    args = Seq2SeqTrainingArguments("out", optim=optim, **options)
    trainer = cls(model, args, train_dataset=data, optimizers=optimizers)
    trainer.train()
    return trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
losses = set()
for cls in (Trainer, Early, Late, Taken, Seq2SeqTrainer, transformers.Trainer, RAdamTrainer, Both):
    trainer, found = trained(cls, "radam_no_sgd")
    losses.add(tuple(found))
    optimizer = trainer.optimizer.optimizer
    assert type(optimizer) is hf_radam.RAdam and not optimizer.degenerated_to_sgd, cls
    assert type(trainer) is cls and "rectification" in trainer.state.log_history[0], cls
    assert cls.get_optimizer_cls_and_kwargs(trainer.args)[0] is hf_radam.RAdam, cls
    trainer.create_model_card()
    card = open("out/README.md").read()
    assert card.count("- optimizer: hf_radam.optimizer.RAdam with") == card.count("- rectification") == 1, card
    assert card.startswith("# Mine") == issubclass(cls, (Early, Late)), card
assert len(losses) == 1, losses  # of the whole batch
(of_whole_batch,) = losses
trainer, found = trained(Late, "adamw_torch", torch.optim.RAdam)
assert found[0] > 1.9 * of_whole_batch[0], "a script's own optimizer trains as without us"
assert not any("rectification" in entry for entry in trainer.state.log_history)
assert pickle.loads(pickle.dumps(Trainer)) is Trainer
for method, signature in zip(asked, before):
    now = getattr(globals()[method.__qualname__.split(".")[0]], method.__name__)
    assert str(inspect.signature(now)) == signature, method
print("done")
"""


def test_order_does_not_matter(tmp_path: Path) -> None:
    """Names that a script has imported before, and classes that it makes before and after; it finds what it knows."""
    assert run([sys.executable, "-c", ORDERS], tmp_path).endswith("done\n")
