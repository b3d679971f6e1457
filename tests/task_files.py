"""Tiny comparisons of each task, data for them in all forms, and how they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
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
    table = pd.DataFrame(sentence_pairs(120, seed=5), columns=["german", "text"])
    is_past = table["german"].str.contains(" hat ")
    table["past"] = is_past.map({True: "yes", False: "no"})
    table["share"] = table["text"].str.count("e") / table["text"].str.len()
    files = [{"split": part, "path": f"{part}.jsonl"} for part in ("train", "validation")]
    for part, some in {"train": table[:90], "validation": table[90:]}.items():
        some.to_csv(f"{part}.csv", index=False)
        some.to_json(f"{part}.json", orient="records")
        some.to_json(f"{part}.jsonl", orient="records", lines=True)
        for ending, column in (("txt", "text"), ("de", "german"), ("en", "text")):
            Path(f"{part}.{ending}").write_text("".join(f"{line}\n" for line in some[column]))
        labelled = pd.DataFrame({"text": some["text"], "label": is_past[some.index].astype(int)})
        cola = [f'x\t{label}\t*\t{text} "\n' for text, label in labelled.itertuples(index=False)]  # a lone quote
        Path(f"{part}.tsv").write_text("".join(cola))
        for name, column in (("glue", "sentence"), ("hub", "text")):
            Path(name).mkdir(exist_ok=True)
            description = yaml.safe_dump({"configs": [{"config_name": "cola", "data_files": files}]})
            Path(name, "README.md").write_text(f"---\n{description}---\n")
            labelled.rename(columns={"text": column}).to_json(f"{name}/{part}.jsonl", orient="records", lines=True)
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
