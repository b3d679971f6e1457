"""Sentence Transformers' own groups come through: learning rates by name, and the parameters of a loss."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from launching import ROOT, run
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hf_radam import RAdam, RAdamTrainerMixin
from hf_radam.training.callbacks import innermost

pytestmark = pytest.mark.clients
sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="needs `pip install --no-deps sentence-transformers==6.2.*`; make test-clients does"
)
WORDS = ["a", "man", "walks", "the", "dog", "in", "rain", "and", "sun", "two", "people", "talk", "about", "food"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer of a few words."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def train(encoder: Path, folder: Path, trainer_class: Any, **options: Any) -> tuple[Any, Any]:
    """The trainer after a few updates on pairs with three classes, and the loss."""
    st: Any = sentence_transformers
    model = st.SentenceTransformer(str(encoder), device="cpu")
    losses: Any = import_module("sentence_transformers.sentence_transformer.losses")
    loss = losses.SoftmaxLoss(model, 16, num_labels=3)
    pairs = [(WORDS[i % 12], WORDS[(i * 5) % 12], i % 3) for i in range(24)]
    data = Dataset.from_dict(dict(zip(("one", "two", "label"), zip(*pairs, strict=True), strict=True)))
    args = st.SentenceTransformerTrainingArguments(
        str(folder), max_steps=7, per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, save_strategy="no", weight_decay=0.1, learning_rate=1e-3, **options,
    )  # fmt: skip
    keywords: dict[str, Any] = {"optim": "radam"} if issubclass(trainer_class, RAdamTrainerMixin) else {}
    trainer = trainer_class(model=model, args=args, train_dataset=data, loss=loss, **keywords)
    trainer.train()
    return trainer, loss


def groups_of(trainer: Any, loss: Any) -> list[tuple[float, float, set[str]]]:
    names = {id(p): name for name, p in loss.named_parameters()}
    return [
        (group["initial_lr"], group["weight_decay"], {names[id(p)] for p in group["params"]})
        for group in innermost(trainer.optimizer).param_groups
        if group["params"]
    ]


@pytest.mark.parametrize("mapping", [{}, {"classifier": 1e-2, "embeddings": 1e-4}], ids=["loss", "mapping"])
def test_its_groups_are_kept(mapping: dict[str, float], encoder: Path, tmp_path: Path) -> None:
    class Mine(RAdamTrainerMixin, sentence_transformers.SentenceTransformerTrainer):  # pyright: ignore[reportAttributeAccessIssue]
        pass

    options: dict[str, Any] = {"learning_rate_mapping": mapping}
    trainer, loss = train(encoder, tmp_path, Mine, **options)
    theirs, their_loss = train(encoder, tmp_path, Mine.__bases__[1], **options)
    assert isinstance(innermost(trainer.optimizer), RAdam)
    assert not isinstance(innermost(theirs.optimizer), RAdam)
    assert groups_of(trainer, loss) == groups_of(theirs, their_loss)
    assert all(group["params"] for group in innermost(trainer.optimizer).param_groups)
    assert len(groups_of(trainer, loss)) == (6 if mapping else 2)
    assert any("classifier.weight" in names for _, _, names in groups_of(trainer, loss))


SCRIPT = """
import json
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

options = dict(
    max_steps=7, per_device_train_batch_size=4, report_to="none", use_cpu=True, dataloader_pin_memory=False,
    logging_steps=1, optim="radam", adam_beta2=0.98, learning_rate_mapping={"classifier": 1e-2},
)
words = "a man walks the dog in rain and sun two people talk about food".split()
pairs = {"one": words * 2, "two": words[::-1] * 2}
model = SentenceTransformer("encoder", device="cpu")
sentences = SentenceTransformerTrainer(
    model=model, args=SentenceTransformerTrainingArguments("sentences", **options), loss=SoftmaxLoss(model, 16, 3),
    train_dataset=Dataset.from_dict({**pairs, "label": [i % 3 for i in range(28)]}),
)
model = CrossEncoder("encoder", num_labels=1, device="cpu")
crossed = CrossEncoderTrainer(
    model=model, args=CrossEncoderTrainingArguments("crossed", **options), loss=BinaryCrossEntropyLoss(model),
    train_dataset=Dataset.from_dict({**pairs, "label": [float(i % 2) for i in range(28)]}),
)
found = []
for trainer in (sentences, crossed):
    trainer.train()
    trainer.create_model_card(model_name="mine")
    groups = trainer.optimizer.optimizer.param_groups
    logs = [entry["rectification"] for entry in trainer.state.log_history if "loss" in entry]
    card = open(trainer.args.output_dir + "/README.md").read()
    found.append([type(trainer.optimizer.optimizer).__name__, [g["initial_lr"] for g in groups], logs, card])
json.dump(found, open("found.json", "w"))
"""


def test_its_trainers_in_a_script(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Sentence and a Cross Encoder, under `hf-radam run`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "encoder").symlink_to(encoder)
    (tmp_path / "script.py").write_text(SCRIPT)
    start = "import sys; from hf_radam.training.launch import run_script as r; r(sys.argv[1:])"
    run([sys.executable, "-c", start, "script.py"], tmp_path)
    for kind, rates, logs, card in json.loads((tmp_path / "found.json").read_text()):
        assert kind == "RAdam"
        assert rates == [5e-5, 5e-5, 1e-2, 1e-2]
        assert [r > 0 for r in logs] == [step > 5 for step in range(1, 8)]
        assert "- optimizer: hf_radam.optimizer.RAdam with lr=5e-05 and 0.01, betas=(0.9, 0.98)" in card
