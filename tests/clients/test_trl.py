"""TRL's scripts as they come, and its trainers, under `hf-radam run`."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from shlex import split
from typing import Any

import pytest
from launching import ROOT, run
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

REASON = "needs `pip install --no-deps trl==1.16.*`; make test-clients does"
pytestmark = [pytest.mark.clients, pytest.mark.skipif(not find_spec("trl"), reason=REASON)]
RUN = [sys.executable, "-c", "import sys; from hf_radam.training.launch import run_script as r; r(sys.argv[1:])"]
WORDS = ["a", "man", "walks", "the", "dog", "in", "rain", "and", "sun", "two", "people", "talk", "about", "food"]
CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
COMMON = split(
    "--model_name_or_path model --max_steps 7 --per_device_train_batch_size 2 --gradient_accumulation_steps 2 "
    "--learning_rate 1e-3 --logging_steps 1 --report_to none --use_cpu --dataloader_pin_memory false --bf16 false "
    "--gradient_checkpointing false --optim radam --optim_args betas=(0.9,0.98) --dataset_name"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, and a data set for each script."""
    folder = tmp_path_factory.mktemp("trl")
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "</s>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder / "model")
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=2, bos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    texts = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(6)) for i in range(40)]
    rows: dict[str, Any] = {
        "texts": [{"text": text} for text in texts],
        "pairs": [{"prompt": t, "chosen": " a dog", "rejected": " rain"} for t in texts],
        "prompts": [{"prompt": text} for text in texts],
    }
    for name, examples in rows.items():
        (folder / name).mkdir()
        (folder / name / "train.jsonl").write_text("\n".join(map(json.dumps, examples)))
    return folder


LORA = split("--use_peft --lora_r 2 --lora_target_modules q_proj v_proj")
SCRIPTS: dict[str, tuple[list[str], str]] = {
    "trl_sft": (["trl", "sft"], "texts"),
    "sft_lora": (["-m", "trl.scripts.sft", *LORA], "texts"),
    "dpo": (["-m", "trl.scripts.dpo"], "pairs"),
}


def history(output: Path) -> list[dict[str, Any]]:
    state = json.loads((output / "checkpoint-7" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    command, data = SCRIPTS[name]
    run([*RUN, *command, *COMMON, data, "--output_dir", name], folder)
    rectification = [entry["rectification"] for entry in history(folder / name)]
    assert [r > 0 for r in rectification] == [step > 5 for step in range(1, 8)]
    card = (folder / name / "README.md").read_text()
    assert "- optimizer: hf_radam.optimizer.RAdam with lr=0.001, betas=(0.9, 0.98)" in card


GRPO = """
from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

args = GRPOConfig(
    "grpo", max_steps=7, per_device_train_batch_size=2, num_generations=2, max_completion_length=4, logging_steps=1,
    report_to="none", use_cpu=True, bf16=False, dataloader_pin_memory=False, optim="radam", adam_beta2=0.98,
    gradient_checkpointing=False,
)
data = load_dataset("prompts", split="train")
GRPOTrainer("model", lambda completions, **_: [float(len(c)) for c in completions], args, data).train()
"""


def test_grpo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (folder / "grpo.py").write_text(GRPO)
    run([*RUN, "grpo.py"], folder)
    assert [entry["rectification"] > 0 for entry in history(folder / "grpo")] == [step > 5 for step in range(1, 8)]
