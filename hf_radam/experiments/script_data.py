"""What a comparison may run: scripts of ours by their names, or one of the user's; as results keep it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated

from huggingface_hub.utils.sha import sha_fileobj
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from hf_radam.experiments.metrics import LOWER, METRICS, metric_named
from hf_radam.experiments.schema import STRICT, UserError

# The scripts of ours; `script` is any other.
TASKS: Mapping[str, str] = {
    "translation": "hf_radam.examples.translation",
    "classification": "hf_radam.examples.classification",
    "language_modeling": "hf_radam.examples.language_modeling",
    "script": "",
}
_SECRET = re.compile(
    r"(?<!(bos|eos|pad|unk|sep|cls)_)(?<!mask_)"  # these are words of a tokenizer
    r"(token|secret|password|passwd|passphrase|(api|access|private|secret)[_-]?key)$",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"(hf|gh[opsu]|sk|github_pat)[_-]\w{16,}|://[^/\s]*@")
# An argument with its value, also as Hydra has it: `+data.path=/x`.
_NAMED = re.compile(r"-|[+~]*[A-Za-z_][\w.@]*=")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScriptData:
    """What is run. Exactly one of `script` and `module` is given."""

    script: str | None = None
    """A Python file, or a command with its first arguments, such as `trl sft`."""
    module: str | None = None
    """A module, as after `python -m`."""
    arguments: str = ""
    """The script's own arguments, as one types them."""
    flags: Mapping[str, Annotated[str, Field(pattern=r"\S")] | None] = field(default_factory=dict)
    """What the script calls a training argument, where that is not `--NAME`: `learning_rate: --lr`. `lr=` is followed
    by the value at once; null leaves the argument out."""
    metric: str | None = None
    """What runs are judged by, of all that the script evaluates, without `eval_`; `loss` if not given."""
    greater_is_better: bool | None = None
    """Whether more of the metric is better; needed where that is not known."""
    trainer: PositiveInt | None = None
    """Which of the script's trainings is compared, counted from 1, where there are several."""

    def __post_init__(self) -> None:
        if (self.script is None) == (self.module is None) or not self.command:
            raise UserError("data: give either script (a Python file, or a command such as 'trl sft') or module")
        _words(self.arguments, "arguments")
        self._check_metric(self.metric or "loss")

    def _check_metric(self, metric: str) -> None:
        key, known, better = key_of(metric), metric in METRICS, self.greater_is_better
        if not 0 < len(key) <= 64:
            raise UserError(f"data: metric must be a name of at most 64 letters, got {metric[:80]!r}")
        if not known and not key.endswith("loss") and better is None:
            raise UserError(f"data: is more {metric} better? Set greater_is_better to true or false")
        if better not in (None, metric_named(key).higher_is_better) and (known or better):
            raise UserError(f"data: greater_is_better: {better} is wrong for {metric}; drop it")

    @property
    def metric_key(self) -> str:
        """The metric by the name that records have for it, which says its direction."""
        key = key_of(self.metric or "loss")
        return key if self.greater_is_better in (None, metric_named(key).higher_is_better) else key + LOWER

    @property
    def command(self) -> list[str]:
        """The file, command or module, and the first arguments of a command."""
        if self.module is not None or Path(self.script or "").is_file():
            return [self.module or self.script or ""]
        return _words(self.script or "", "script")

    @property
    def own_arguments(self) -> list[str]:
        """The script's own arguments."""
        return _words(self.arguments, "arguments")

    @property
    def name(self) -> str:
        """What is run, without folders and secrets."""
        first, *rest = self.command
        return " ".join([Path(first).name if self.module is None else first, *_words(portable(shlex.join(rest)), "")])

    @property
    def version(self) -> str:
        """A digest of the script's or the module's text; of an installed command, the version of its package."""
        first = self.command[0]
        file = first if self.module is None else _origin(first)
        if file and Path(file).is_file():
            return f"sha256 {_digest(Path(file))[:16]}"
        for entry in metadata.entry_points(group="console_scripts", name=first):
            if entry.dist is not None and self.module is None:
                return f"{entry.dist.name} {entry.dist.version}"
        return "unknown"


def key_of(name: str) -> str:
    """What records call a metric of a script.

    Example:
        >>> key_of("sts-dev_spearman_cosine")
        'sts_dev_spearman_cosine'
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _words(text: str, key: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"data: {key} must be words as in a shell: {error}") from error


def portable(arguments: str) -> str:
    """Arguments as results keep them: of paths the last part, and no secret.

    Example:
        >>> portable("--train_file /data/mine.csv --hub_token=abc --dataset_name nyu-mll/glue")
        '--train_file mine.csv --hub_token=SECRET --dataset_name nyu-mll/glue'
    """
    found, before = [], ""
    for word in _words(arguments, "arguments"):
        is_named = word.startswith("-") or (_NAMED.match(word) and not _SECRET.search(before))
        flag, equals, value = word.partition("=") if is_named else ("", "", word)
        key = flag if equals else before
        if value and (_SECRET.search(key) or _TOKEN.search(value)):
            value = "SECRET"
        elif value.startswith(("/", "./", "../", "~/")) or os.path.exists(value):
            value = Path(value).name
        found.append(flag + equals + value)
        before = word if word.startswith("-") else ""
    return shlex.join(found)


def paths_in(words: Iterable[str]) -> Iterator[Path]:
    """The files and folders that arguments name."""
    for word in words:
        value = word.partition("=")[2] if _NAMED.match(word) else word
        if value and os.path.exists(path := Path(value).expanduser()):
            yield path


def digest_of(paths: Iterable[Path], version: str = "") -> str:
    """Of what files hold, and those in folders; and of the version of a script."""
    digest = hashlib.sha256(version.encode())
    for path in paths:
        for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
            digest.update(str(file.relative_to(path.parent)).encode())
            digest.update(_digest(file).encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return sha_fileobj(file).hex()


def _origin(module: str) -> str | None:
    """The file of a module, which is not imported; None where only an import could find it."""
    path, origin = ["", *sys.path], None
    for part in (*module.split("."), "__main__"):  # which is what `python -m` runs of a package
        spec = PathFinder.find_spec(part, path) if path else None
        if spec is None:
            return origin if part == "__main__" and not path else None
        path, origin = spec.submodule_search_locations, spec.origin
    return origin
