"""The file and the command that make a comparison again, without a path of this machine."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from hf_radam.experiments.report.markdown import code
from hf_radam.experiments.results import Results


def comparison_file(results: Results) -> str:
    """The comparison as YAML for `hf-radam compare`: the same runs, with the same ids."""
    comparison, shared = results.comparison, results.comparison["shared"]

    def seeds(recipe: str) -> dict[str, list[int]]:
        """Of a recipe that the finished comparison gave fewer than there are."""
        own = sorted({record.seed for record in results.records if record.recipe == recipe})
        return {} if results.missing or own == results.seeds else {"seeds": own}

    threads = {record.environment["threads"] for record in results.records}
    content: dict[str, Any] = {
        "name": comparison["name"],
        "task": shared["task"],
        "data": {key: value for key, value in shared["data"].items() if value is not None},
        "model": shared["model"],
        "recipes": [{**recipe, **seeds(name)} for name, recipe in comparison["recipes"].items()],
        "learning_rates": results.learning_rates,
        "seeds": results.seeds,
        **{key: value for key, value in shared.items() if key not in ("task", "data", "model", "training")},
        "target_loss": comparison["target_loss"],
        "training": shared["training"],
        "threads": threads.pop() if len(threads) == 1 else None,
    }
    return yaml.safe_dump({k: v for k, v in content.items() if v is not None}, sort_keys=False, allow_unicode=True)


def command(results: Results, path: str, base_model: str | None, repo: tuple[str, str] | None) -> str:
    """What to type where hf_radam is installed; DIR stands before files that only their owner has."""
    parts = ["hf-radam", "compare", path]
    for key, value in local_files(results).items():
        parts += [f"--{key}", f"DIR/{value}"]
    if checkpoint := _local_checkpoint(results, base_model):
        parts += ["--name_or_path", f"DIR/{checkpoint}"]
    processes = max(record.environment["processes"] for record in results.records)
    if processes > 1:
        parts[:1] = ["accelerate", "launch", "--num_processes", str(processes), "-m", "hf_radam"]
    if not repo:
        return shlex.join(parts)
    kind = [] if repo[1] == "model" else ["--repo-type", repo[1]]
    return f"{shlex.join(['hf', 'download', repo[0], path, *kind, '--local-dir', '.'])}\n{shlex.join(parts)}"


def hints(results: Results, base_model: str | None) -> list[str]:
    """What a reader must know to run the command elsewhere."""
    commits = sorted({str(r.environment["commit"]) for r in results.records if r.environment["commit"]})
    named, checkpoint = script(results), _local_checkpoint(results, base_model)
    copy = code(base_model) if base_model else f"it; if {code(checkpoint)} is a name on the Hub, drop DIR/"
    cases = [
        (commits, f"The records were made at commit {' or '.join(map(code, commits))}"
         f"{', with local changes where there is a +' if '+' in ''.join(commits) else ''}."),
        (local_files(results), "For DIR before the text, put the folder of your copy of it."),
        (checkpoint, f"For DIR before the checkpoint, put the folder of your copy of {copy}."),
        (named, f"Run it where {code(named)} and the files lie that its arguments name; of paths and secrets among "
         "them the records keep nothing else."),
    ]  # fmt: skip
    return [text for holds, text in cases if holds]


def dataset(results: Results) -> str | None:
    name = results.comparison["shared"]["data"].get("dataset_name")
    return name if is_hub_id(name) else None


def local_files(results: Results) -> dict[str, str]:
    """The options of the data that name local files; of their paths the records keep the last part."""
    data = results.comparison["shared"]["data"]
    return {key: str(value) for key, value in data.items() if value and key.endswith(("_prefix", "_file"))}


def script(results: Results) -> str:
    """The name of the training script, module or command that was run; empty for tasks of ours."""
    data = results.comparison["shared"]["data"] if results.comparison["shared"]["task"] == "script" else {}
    return str(data.get("script") or data.get("module") or "")


def hub_checkpoint(results: Results) -> str | None:
    """The checkpoint that was fine-tuned, where it has a namespace; of a local folder records keep the last part."""
    name = results.comparison["shared"]["model"].get("name_or_path")
    return name if name is not None and "/" in name and is_hub_id(name) else None


def _local_checkpoint(results: Results, base_model: str | None) -> str | None:
    name = results.comparison["shared"]["model"].get("name_or_path")
    return None if name is None or "/" in name or name == base_model else name


def is_hub_id(value: Any) -> bool:
    """Whether this may be the name of a repo on the Hub.

    Example:
        >>> is_hub_id("nyu-mll/glue"), is_hub_id("/data/my texts")
        (True, False)
    """
    return isinstance(value, str) and bool(re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", value))
