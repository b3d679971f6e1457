"""The file and the command that make a comparison again, without a path of this machine."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from hf_radam.experiments.results import Results


def comparison_file(results: Results) -> str:
    """The comparison as YAML for `hf-radam compare`: the same runs, with the same ids."""
    shared = results.comparison["shared"]
    content: dict[str, Any] = {
        "name": results.comparison["name"],
        "task": shared["task"],
        "data": {key: value for key, value in shared["data"].items() if value is not None},
        "model": shared["model"],
        "recipes": [{**recipe, **_seeds(results, name)} for name, recipe in results.comparison["recipes"].items()],
        "learning_rates": results.learning_rates,
        "seeds": results.seeds,
        **{key: value for key, value in shared.items() if key not in ("task", "data", "model", "training")},
        "target_loss": results.comparison["target_loss"],
        "training": shared["training"],
    }
    threads = {record.environment["threads"] for record in results.records}
    if len(threads) == 1:
        content["threads"] = threads.pop()
    return yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False, allow_unicode=True)


def _seeds(results: Results, recipe: str) -> dict[str, list[int]]:
    """The seeds of a recipe, where the finished comparison gave it fewer than there are."""
    seeds = sorted({record.seed for record in results.records if record.recipe == recipe})
    return {} if results.missing or seeds == results.seeds else {"seeds": seeds}


def command(
    results: Results, path: str, *, base_model: str | None = None, repo_id: str | None = None, repo_type: str = "model"
) -> str:
    """What to type where hf_radam is installed.

    Text and checkpoints from local files are named as they were, under a folder DIR that the reader has to put in.

    Args:
        results: of the comparison.
        path: of `comparison_file`.
        base_model: what the checkpoint is, if it was fine-tuned from one.
        repo_id: where to download `path` first, if the reader does not have it.
        repo_type: model or dataset.
    """
    parts = ["hf-radam", "compare", path]
    for key, value in local_files(results).items():
        parts += [f"--{key}", f"DIR/{value}"]
    if (checkpoint := local_checkpoint(results, base_model)) is not None:
        parts += ["--name_or_path", f"DIR/{checkpoint}"]
    processes = max(record.environment["processes"] for record in results.records)
    if processes > 1:
        parts[:1] = ["accelerate", "launch", "--num_processes", str(processes), "-m", "hf_radam"]
    if repo_id is None:
        return shlex.join(parts)
    kind = [] if repo_type == "model" else ["--repo-type", repo_type]
    return "\n".join(map(shlex.join, (["hf", "download", repo_id, path, *kind, "--local-dir", "."], parts)))


def local_files(results: Results) -> dict[str, str]:
    """The options of the data that name local files; of their paths the records keep the last part."""
    data = results.comparison["shared"]["data"]
    return {key: str(value) for key, value in data.items() if value and key.endswith(("_prefix", "_file"))}


def script(results: Results) -> str:
    """The name of the training script, module or command that was run; empty for tasks of ours."""
    data = results.comparison["shared"]["data"]
    named = data.get("script") or data.get("module") if results.comparison["shared"]["task"] == "script" else None
    return str(named or "")


def base_model(results: Results) -> str | None:
    """The name on the Hub of the checkpoint that was fine-tuned, as far as the records tell.

    They keep the last part of a local folder's path, which a name without a namespace cannot be told from.
    """
    name = _checkpoint(results)
    return name if name is not None and "/" in name and is_hub_id(name) else None


def local_checkpoint(results: Results, base_model: str | None = None) -> str | None:
    """The folder of the checkpoint that was fine-tuned; None where the records or `base_model` name one on the Hub."""
    name = _checkpoint(results)
    return None if name is None or "/" in name or name == base_model else name


def _checkpoint(results: Results) -> str | None:
    return results.comparison["shared"]["model"].get("name_or_path")


def commits(results: Results) -> list[str]:
    """The commits of hf_radam that made the records; "+" marks a checkout with changes."""
    return sorted({str(record.environment["commit"]) for record in results.records if record.environment["commit"]})


def is_hub_id(value: Any) -> bool:
    """Whether this may be the name of a repo on the Hub.

    Example:
        >>> is_hub_id("nyu-mll/glue"), is_hub_id("/data/my texts")
        (True, False)
    """
    return isinstance(value, str) and bool(re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value))
