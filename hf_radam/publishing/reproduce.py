"""The file and the command that make a comparison again, without a path of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from hf_radam.experiments.results import Results


class Origin(NamedTuple):
    """What a comparison was made of; of paths the records keep the last part."""

    dataset: str | None
    """By its name on the Hub."""
    texts: Mapping[str, str]
    """Local files, by the flag that names them."""
    local: Mapping[str, str]
    """The same, and a checkpoint that may be a local folder: its name has no namespace."""
    script: str
    """The training script, module or command; empty for tasks of ours."""
    base_model: str | None
    """The checkpoint that was fine-tuned, by its name on the Hub."""


def origin(results: Results, base_model: str | None) -> Origin:
    """What the records tell; `base_model` is what the user calls the checkpoint."""
    shared = results.comparison["shared"]
    data, checkpoint = shared["data"], shared["model"].get("name_or_path") or ""
    texts = {key: str(value) for key, value in data.items() if value and key.endswith(("_prefix", "_file"))}
    may_be_local = checkpoint and "/" not in checkpoint and checkpoint != base_model
    on_hub = checkpoint if "/" in checkpoint and is_hub_id(checkpoint) else None
    script = data.get("script") or data.get("module")
    return Origin(
        dataset=data["dataset_name"] if is_hub_id(data.get("dataset_name")) else None,
        texts=texts,
        local={**texts, "name_or_path": checkpoint} if may_be_local else texts,
        script=str(script) if shared["task"] == "script" else "",
        base_model=base_model or on_hub,
    )


def comparison_file(results: Results) -> str:
    """The comparison as YAML for `hf-radam compare`: the same runs, with the same ids."""
    comparison, shared, recipes = results.comparison, results.comparison["shared"], []
    for name, recipe in comparison["recipes"].items():
        own = sorted({record.seed for record in results.records if record.recipe == name})
        fewer = not results.missing and own != results.seeds  # than the finished comparison has
        recipes.append({**recipe, "seeds": own} if fewer else recipe)
    threads = {record.environment["threads"] for record in results.records}
    content: dict[str, Any] = {
        "name": comparison["name"],
        "task": shared["task"],
        "data": {key: value for key, value in shared["data"].items() if value is not None},
        "model": shared["model"],
        "recipes": recipes,
        "learning_rates": results.learning_rates,
        "seeds": results.seeds,
        **{key: value for key, value in shared.items() if key not in ("task", "data", "model", "training")},
        "target_loss": comparison["target_loss"],
        "training": shared["training"],
        "threads": threads.pop() if len(threads) == 1 else None,
    }
    return yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False, allow_unicode=True)


def command(found: Origin, path: str, repo_id: str, repo_type: str) -> str:
    """What to type where hf_radam is installed; DIR stands before files that only their owner has."""
    compare = ["hf-radam", "compare", path]
    for flag, value in found.local.items():
        compare += [f"--{flag}", f"DIR/{value}"]
    if not repo_id:
        return shlex.join(compare)
    download = ["hf", "download", repo_id, path, "--repo-type", repo_type, "--local-dir", "."]
    return f"{shlex.join(download)}\n{shlex.join(compare)}"


def is_hub_id(value: Any) -> bool:
    """Whether this may be the name of a repo on the Hub.

    Example:
        >>> is_hub_id("nyu-mll/glue"), is_hub_id("/data/my texts")
        (True, False)
    """
    return isinstance(value, str) and bool(re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value))
