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
        (["--accelerate_config", "fdsp2", "train.py"], "no configuration of Accelerate 'fdsp2'; .* ddp, deep.*fsdp2"),
    ],
)
def test_what_cannot_be_run(argv: list[str], message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        run_script(argv)


def test_exit_status_and_arguments_are_the_scripts_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys; print(sys.argv, __name__, 'torch' in sys.modules); sys.exit(7)")
    for argv in (["mine.py", "-m", "--help"], ["-m", "mine", "-m", "--help"]):
        done = subprocess.run(
            [*RUN, *argv], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 7, done.stderr
        assert done.stdout.endswith("mine.py', '-m', '--help'] __main__ False\n")


def test_enabled_late(tmp_path: Path) -> None:
    """Names that a script has imported before, and classes that it has made before."""
    code = """
import torch, transformers
from transformers import Trainer, Seq2SeqTrainingArguments, Seq2SeqTrainer
class Mine(Trainer):
    def create_model_card(self, **_): open(self.args.output_dir + "/README.md", "w").write("# Mine\\n")
import hf_radam
from hf_radam import RAdamTrainer, RAdamTrainerMixin
hf_radam.enable(); hf_radam.enable()
class Both(RAdamTrainerMixin, Mine): pass
for cls in (Trainer, Mine, Seq2SeqTrainer, transformers.Trainer, RAdamTrainer, Both):
    args = Seq2SeqTrainingArguments("out", optim="radam_no_sgd", report_to="none", use_cpu=True, weight_decay=0.1)
    trainer = cls(torch.nn.Linear(2, 1), args)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is hf_radam.RAdam and not optimizer.degenerated_to_sgd, cls
    assert isinstance(trainer, Trainer), cls
    assert cls.get_optimizer_cls_and_kwargs(args)[0] is hf_radam.RAdam, cls
trainer.create_model_card()
print(open("out/README.md").read())
"""
    (tmp_path / "out").mkdir()
    assert "# Mine\n\n### Optimizer\n\n- optimizer: hf_radam.optimizer.RAdam with" in run(
        [sys.executable, "-c", code], tmp_path
    )
