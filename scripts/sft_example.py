"""What `hf-radam compare script_sft` trains: sft_example.py TEXT.gz VALIDATION.gz makes ./model and ./text.

A GPT-2 of 1.3 million parameters with random weights, a BPE vocabulary of the text, and one sentence an example.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel, set_seed

from hf_radam.examples.text import own_tokenizer, read_lines


def main(train: str, validation: str) -> None:
    """Write both folders."""
    lines = {"train": read_lines(Path(train)), "test": read_lines(Path(validation))[:200]}
    Path("text").mkdir(exist_ok=True)
    for split, sentences in lines.items():
        rows = (json.dumps({"text": sentence}, ensure_ascii=False) for sentence in sentences)
        Path("text", f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    tokenizer = own_tokenizer(lines["train"], 4000, Path("model"))
    set_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=128, n_layer=4, n_head=4, bos_token_id=1, eos_token_id=1,
        pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    tokenizer.model_max_length = config.n_positions
    tokenizer.save_pretrained("model")
    GPT2LMHeadModel(config).save_pretrained("model")


if __name__ == "__main__":
    main(*sys.argv[1:])
