"""What must never be uploaded: tokens, names of users and hosts, paths of this machine, pickles."""

from __future__ import annotations

import getpass
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_radam.experiments.typed import UserError

_TOKEN = re.compile(rb"\b(hf_[A-Za-z0-9]{20,}|gh[opsu]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b")
_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY)$")
# Absolute paths below the usual roots, a home folder's "~/", and drives of Windows; not the path of a URL.
_PATH = re.compile(
    rb"(?<![\w./:~-])(/(home|Users|root|tmp|mnt|media|var|opt|srv|data|scratch|work|workspace|private|gpfs|lustre)/\w"
    rb"|~/\w|[A-Z]:\\{1,2}\w)"
)
_PICKLE_ENDINGS = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_TEXT_ENDINGS = frozenset({".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".txt", ".svg", ".jinja"})
# A vocabulary is made of words: any name may be among them by right.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
# Names that say nothing about anybody.
_COMMON_NAMES = frozenset({"root", "user", "users", "admin", "ubuntu", "debian", "runner", "nobody", "localhost"})


def refuse_leaks(folder: Path, *, public: Sequence[str] = ()) -> None:
    """Look through everything that is to be uploaded.

    Args:
        folder: every file below it is read.
        public: words and names that may stand there though they are those of this user or host, such as the repo's id.

    Raises:
        UserError: naming the first file with a leak, and what it is; never the secret itself.
    """
    names = _names(public)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for leak in _leaks(path, names, public):
            raise UserError(f"nothing was uploaded: {path} holds {leak}")


def is_pickle(path: Path) -> bool:
    """Whether loading the file could run code."""
    if path.suffix in _PICKLE_ENDINGS:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return path.suffix != ".safetensors"  # these begin with a length, which may be any number
    return zipfile.is_zipfile(path) and any(name.endswith(".pkl") for name in zipfile.ZipFile(path).namelist())


def _leaks(path: Path, names: Sequence[tuple[str, str]], public: Sequence[str]) -> Iterator[str]:
    if is_pickle(path):
        yield "a pickle, which runs code when it is loaded; remove it from the run's model folder"
    content = path.read_bytes()
    if _TOKEN.search(content) or any(secret in content for secret in _secrets()):
        yield "an access token; remove it there, and revoke it on its site"
    for machine_path in (Path.home(), Path.cwd()):
        if len(machine_path.parts) > 1 and re.search(re.escape(os.fsencode(machine_path)) + rb"(?![\w-])", content):
            yield "a path of this machine; replace it by a relative one"
    if path.suffix not in _TEXT_ENDINGS or path.name in _VOCABULARIES:
        return
    if found := _PATH.search(content):
        line = content.count(b"\n", 0, found.start()) + 1
        yield f"an absolute path in line {line}; replace it by a relative one"
    text = content.decode("utf-8", errors="replace")
    for word in public:
        text = text.replace(word, "")
    for kind, name in names:
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            yield f"{name!r}, the name of this {kind}; remove it, or give --allow {name} if it means something else"


def _names(public: Sequence[str]) -> list[tuple[str, str]]:
    """The user's and the host's names, as far as they tell who and where."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    names = [("user", user), ("host", host), ("host", host.partition(".")[0])]
    return [(kind, name) for kind, name in names if len(name) > 3 and name not in {*_COMMON_NAMES, *public}]


def _secrets() -> list[bytes]:
    """Values of this process's environment variables that are named like secrets."""
    return [os.fsencode(v) for k, v in os.environ.items() if _SECRET_VARIABLE.search(k) and len(v) > 8]
