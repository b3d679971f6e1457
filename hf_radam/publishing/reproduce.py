"""The file and the command that make a comparison again, without a path of this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from hf_radam.experiments.report.markdown import code
from hf_radam.experiments.results import Results


class Origin(NamedTuple):
    """What a comparison was made of; of paths the records keep the last part."""

    task: str
    dataset: str | None
    """By its name on the Hub."""
    files: Mapping[str, str]
    """Local ones, by the option of the data that names them."""
    script: str
    """The training script, module or command; empty for tasks of ours."""
    base_model: str | None
    """The checkpoint that was fine-tuned, by its name on the Hub."""
    checkpoint: str | None
    """The same where the records have it from a local folder, or by a name without a namespace."""


def origin(results: Results, base_model: str | None) -> Origin:
    """What the records tell; `base_model` is what the user calls the checkpoint."""
    shared = results.comparison["shared"]
    data, checkpoint = shared["data"], shared["model"].get("name_or_path")
    named, script = data.get("dataset_name"), data.get("script") or data.get("module") or ""
    on_hub = checkpoint is not None and "/" in checkpoint and is_hub_id(checkpoint)
    return Origin(
        task=shared["task"],
        dataset=named if is_hub_id(named) else None,
        files={key: str(value) for key, value in data.items() if value and key.endswith(("_prefix", "_file"))},
        script=str(script) if shared["task"] == "script" else "",
        base_model=base_model or (checkpoint if on_hub else None),
        checkpoint=checkpoint if checkpoint and "/" not in checkpoint and checkpoint != base_model else None,
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


def command(results: Results, found: Origin, path: str, repo_id: str, repo_type: str) -> str:
    """What to type where hf_radam is installed; DIR stands before files that only their owner has."""
    parts = ["hf-radam", "compare", path]
    for key, value in found.files.items():
        parts += [f"--{key}", f"DIR/{value}"]
    if found.checkpoint:
        parts += ["--name_or_path", f"DIR/{found.checkpoint}"]
    processes = max(record.environment["processes"] for record in results.records)
    if processes > 1:
        parts[:1] = ["accelerate", "launch", "--num_processes", str(processes), "-m", "hf_radam"]
    kind = [] if repo_type == "model" else ["--repo-type", repo_type]
    download = f"{shlex.join(['hf', 'download', repo_id, path, *kind, '--local-dir', '.'])}\n" if repo_id else ""
    return download + shlex.join(parts)


def hints(results: Results, found: Origin) -> list[str]:
    """What a reader must know to run the command elsewhere."""
    commits = sorted({str(r.environment["commit"]) for r in results.records if r.environment["commit"]})
    named, base_model = code(found.checkpoint or ""), found.base_model
    copy = code(base_model) if base_model else f"it; if {named} is a name on the Hub, drop DIR/"
    cases = [
        (commits, f"The records were made at commit {' or '.join(map(code, commits))}"
         f"{', with local changes where there is a +' if '+' in ''.join(commits) else ''}."),
        (found.files, "For DIR before the text, put the folder of your copy of it."),
        (found.checkpoint, f"For DIR before the checkpoint, put the folder of your copy of {copy}."),
        (found.script, f"Run it where {code(found.script)} and the files lie that its arguments name; of paths and "
         "secrets among them the records keep nothing else."),
    ]  # fmt: skip
    return [text for holds, text in cases if holds]


def is_hub_id(value: Any) -> bool:
    """Whether this may be the name of a repo on the Hub.

    Example:
        >>> is_hub_id("nyu-mll/glue"), is_hub_id("/data/my texts")
        (True, False)
    """
    return isinstance(value, str) and bool(re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value))
