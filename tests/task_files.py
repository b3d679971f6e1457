"""Tiny comparisons of each task, data for them in all forms, and how they are run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml
from comparisons import TINY

from hf_radam.examples.grammar import sentence_pairs
from hf_radam.experiments.comparison import Comparison, load_comparison

ENCODER = {
    "model_type": "bert",
    "config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
}  # fmt: skip
DECODER = {
    "model_type": "opt",
    "config": {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "dropout": 0.0,
        "max_position_embeddings": 32,
    },
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "Tiny", "recipes": ["radam"], "learning_rates": [1e-2], "max_steps": 8, "eval_steps": 4, "save_steps": 4,
    "threads": 1, "training": {"adam_beta2": 0.9},
}  # fmt: skip
CLASSIFICATION = {**BASE, "task": "classification", "model": ENCODER, "batch_size": 8}
LANGUAGE_MODELING = {**BASE, "task": "language_modeling", "model": DECODER, "batch_size": 8}
TRANSLATION = {**BASE, "task": "translation", "model": TINY["model"], "tokens_per_batch": 128}
LM_DATA = {"vocab_size": 300, "block_size": 16, "max_eval_samples": 20}


def write(folder: Path, content: dict[str, Any], **changes: Any) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


def write_files() -> Path:
    """Write data of all forms to the present folder: sentences, whether they tell the past, and their share of e."""
    german, english = zip(*sentence_pairs(120, seed=5), strict=True)
    rows = [
        {
            "number": str(number), "german": de, "text": en, "past": "yes" if " hat " in f" {de} " else "no",
            "share": en.count("e") / len(en),
        }
        for number, (de, en) in enumerate(zip(german, english, strict=True))
    ]  # fmt: skip
    parts = {"train": rows[:90], "validation": rows[90:]}
    for part, some in parts.items():
        with Path(f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(some)
        cola = [f'x\t{int(row["past"] == "yes")}\t*\t{row["text"]} "\n' for row in some]  # a lone quote
        Path(f"{part}.tsv").write_text("".join(cola))
        Path(f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        Path(f"{part}.json").write_text(json.dumps(some))
        Path(f"{part}.txt").write_text("".join(f"{row['text']}\n" for row in some))
        for language, column in (("de", "german"), ("en", "text")):
            Path(f"{part}.{language}").write_text("".join(f"{row[column]}\n" for row in some))
    for name, column in (("glue", "sentence"), ("hub", "text")):
        configs = [
            {"config_name": "cola", "data_files": [{"split": part, "path": f"{part}.jsonl"} for part in parts]}
        ]  # fmt: skip
        Path(name).mkdir()
        Path(name, "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
        for part, some in parts.items():
            lines = [json.dumps({column: row["text"], "label": int(row["past"] == "yes")}) + "\n" for row in some]
            Path(name, f"{part}.jsonl").write_text("".join(lines))
    return Path.cwd()


def local(ending: str) -> list[str]:
    return ["--train_file", f"train.{ending}", "--validation_file", f"validation.{ending}"]


PARALLEL = ["--train_prefix", "train", "--validation_prefix", "validation", "--set", "data.vocab_size=300"]
COLUMNS = ["--text_column", "text", "--label_column", "past"]
SPLIT = {
    "translation": (TRANSLATION, PARALLEL),
    "classification": (CLASSIFICATION, [*local("csv"), *COLUMNS]),
    "language_modeling": ({**LANGUAGE_MODELING, "data": LM_DATA}, local("txt")),
}


SMOOTHED = {"adam_beta2": 0.9, "label_smoothing_factor": 0.1}


def comparison(content: dict[str, Any], **changes: Any) -> Comparison:
    return load_comparison(write(Path.cwd(), content, **changes))
