"""Tiny models and data for the distributed tests: odd sizes, so that shards are uneven; targets of unlike length."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

VOCAB, LENGTH, EXAMPLES = 37, 9, 72


def bert() -> PreTrainedModel:
    """Takes `num_items_in_batch` and ignores it; the loss is a mean over examples."""
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCAB, hidden_size=18, num_hidden_layers=2, num_attention_heads=2, intermediate_size=13,
            max_position_embeddings=16, id2label={0: "a", 1: "b", 2: "c"}, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def marian() -> PreTrainedModel:
    """Ignores it as well; a mean over tokens. Untied, so that one embedding never has a gradient."""
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB, d_model=18, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=13, decoder_ffn_dim=13, max_position_embeddings=16, dropout=0.0,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=False,
            share_encoder_decoder_embeddings=False, decoder_vocab_size=VOCAB,
        )
    )  # fmt: skip


def llama(**changes: Any) -> PreTrainedModel:
    """Divides by `num_items_in_batch`."""
    options: dict[str, Any] = {
        "vocab_size": VOCAB, "hidden_size": 20, "intermediate_size": 13, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**options, **changes}))


def llama_tensor_parallel() -> PreTrainedModel:
    """The same, split over all processes as it is loaded."""
    model = MODELS["llama_even"]()
    if os.environ["RANK"] == "0":
        model.save_pretrained("saved")
    torch.distributed.barrier()
    return LlamaForCausalLM.from_pretrained("saved", tp_plan="auto")


def llama_half_frozen() -> PreTrainedModel:
    """Every other parameter does not train."""
    model = llama()
    for p in list(model.parameters())[::2]:
        p.requires_grad_(False)
    return model


def llama_lora() -> Any:
    """Low-rank adapters on a frozen model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(llama(), config)


# For fsdp_transformer_layer_cls_to_wrap. By default Accelerate 1.15 takes the model's `_no_split_modules`, which fails
# for BERT (its embeddings would be sharded twice) and is empty for Marian.
LAYERS = {"bert": "BertLayer", "marian": "MarianEncoderLayer,MarianDecoderLayer"}
MODELS: dict[str, Callable[[], Any]] = {
    **{make.__name__: make for make in (bert, marian, llama, llama_tensor_parallel, llama_half_frozen, llama_lora)},
    "llama_even": partial(llama, num_key_value_heads=2),  # heads that two processes can share
    "llama_tied": partial(llama, tie_word_embeddings=True),
}


class Examples(Dataset):
    """Random tokens; the targets are padded with -100 to unlike lengths."""

    def __init__(self, model: str) -> None:
        generator = torch.Generator().manual_seed(3)
        self.tokens = torch.randint(3, VOCAB, (EXAMPLES, LENGTH), generator=generator)
        self.classes = torch.randint(0, 3, (EXAMPLES,), generator=generator)
        self.lengths = torch.randint(2, LENGTH + 1, (EXAMPLES,), generator=generator)
        self.classifies = model == "bert"

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = self.tokens[index]
        labels = torch.where(torch.arange(LENGTH) < self.lengths[index], tokens, -100)
        return {"input_ids": tokens, "labels": self.classes[index] if self.classifies else labels}
