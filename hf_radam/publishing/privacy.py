"""What must never be uploaded: tokens, names of users and hosts, paths of this machine, pickles."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_radam.experiments.schema import UserError

_TOKEN = re.compile(
    rb"(?<![A-Za-z0-9])(hf_(oauth_[\w.-]{20}|[A-Za-z0-9]{20})|gh[opsu]_[A-Za-z0-9]{30}|github_pat_\w{22}"
    rb"|sk-(proj|ant|svcacct|admin)-[\w-]{20}|sk-[A-Za-z0-9]{32}|AKIA[A-Z0-9]{16})"
)
_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)$", re.IGNORECASE)
_ROOTS = (
    rb"(home|Users|root|tmp|mnt|media|var|opt|srv|data|scratch|work|workspace|private|gpfs|lustre|fsx|nfs|storage"
    rb"|export|projects?|content|kaggle)\d*|dev/shm|usr/local"
)
# Absolute paths below the usual roots, a home folder's "~/", drives and shares of Windows; not the path of a URL. A
# share begins with two backslashes, or in JSON with four.
_PATH = re.compile(
    rb"((?<![\w./\\~-])|(?<=file://))/(" + _ROOTS + rb")/\.?\w"
    rb"|(?<![\w./:~-])~/\w"
    rb"|(?<![A-Za-z0-9])[A-Za-z]:(\\{1,2}|/)[A-Za-z0-9]"
    rb"|(?<![\\\w])(\\{4}[\w.-]+\\{2}|\\{2}[\w.-]+\\)\w"
)
_PICKLE_ENDINGS = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_TEXT_ENDINGS = frozenset({".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".txt", ".svg", ".jinja"})
# A vocabulary is made of words: any name or path may be among them by right.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
# Their strings are programs, in which a backslash and an n stand for the end of a line.
_TEMPLATES = frozenset({"tokenizer_config.json", "chat_template.json", "chat_template.jinja"})
# Names that say nothing about anybody.
_COMMON_NAMES = frozenset({"root", "user", "users", "admin", "ubuntu", "debian", "runner", "nobody", "localhost"})
# Large files are read in parts that overlap by more than the longest token or path.
_PART, _OVERLAP = 2**24, 2**12


def refuse_leaks(folder: Path, *, public: Sequence[str] = ()) -> None:
    """Look through everything that is to be uploaded.

    Args:
        folder: every file below it is read.
        public: words, names and paths that may stand there though they look private, such as the repo's id.

    Raises:
        UserError: naming the first file with a leak, and what it is; never the secret itself.
    """
    names = _names(public)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for leak in _leaks(path, names, public):
            raise UserError(f"nothing was uploaded: {path} holds {leak}")
        for leak in _names_in(path.relative_to(folder).as_posix(), names, public):
            raise UserError(f"nothing was uploaded: the file name {path} holds {leak}")


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
    is_vocabulary = path.name in _VOCABULARIES or path.suffix in (".spm", ".model")
    for part in _parts(path):
        content = _unescaped(part, path)
        if _TOKEN.search(content) or any(secret in part for secret in _secrets()):
            yield "an access token; remove it there, and revoke it on its site"
        if not is_vocabulary and any(place.search(_without(content, public)) for place in _places()):
            yield "a path of this machine; replace it by a relative one"
    text = _text(path)
    if text is None or is_vocabulary:
        return
    shown = _without(_unescaped(text, path), public)
    if found := _PATH.search(shown):
        line = shown.count(b"\n", 0, found.start()) + 1
        yield (
            f"an absolute path in line {line}; replace it by a relative one, or give --allow and the text if it is none"
        )
    yield from _names_in(text.decode("utf-8", errors="replace"), names, public)


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        part = file.read(_PART)
        while part:
            yield part
            following = file.read(_PART)
            part = part[-_OVERLAP:] + following if following else b""


def _text(path: Path) -> bytes | None:
    """What people can read in a file: all of it, or the metadata that weights carry; None if nothing."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                metadata = json.loads(file.read(length) if length < path.stat().st_size else b"").get("__metadata__")
            except (ValueError, AttributeError):  # no weights, whatever its name
                return None
        return json.dumps(metadata).encode()
    with path.open("rb") as file:
        if path.suffix not in _TEXT_ENDINGS and b"\0" in file.read(2**13):
            return None
    content = path.read_bytes()
    if path.suffix not in _TEXT_ENDINGS:
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return content


def _unescaped(content: bytes, path: Path) -> bytes:
    """The content with a space for each escaped white space, so that words begin where readers see them begin."""
    if path.name in _TEMPLATES:
        content = re.sub(rb"\\+[nrt]", b" ", content)
    elif path.suffix in (".json", ".jsonl", ".safetensors"):
        content = re.sub(rb"(?<!\\)\\[nrt]", b" ", content)
    return content.replace(rb"\/", b"/")


def _names_in(text: str, names: Sequence[tuple[str, str]], public: Sequence[str]) -> Iterator[str]:
    text = _without(text.encode(), public).decode()
    for kind, name in names:
        if re.search(rf"(?<![^\W_])(?<!-){re.escape(name)}(?!-)(?![^\W_])", text, re.IGNORECASE):
            yield f"{name!r}, the name of this {kind}; remove it, or give --allow {name} if it means something else"


def _without(content: bytes, public: Sequence[str]) -> bytes:
    for word in filter(None, public):
        content = re.sub(re.escape(word).encode(), b" ", content, flags=re.IGNORECASE)
    return content


def _places() -> list[re.Pattern[bytes]]:
    """The home and the working folder, where they are long enough to be told from other text."""
    found = {place for place in (Path.home(), Path.cwd()) if len(place.parts) > 2 or len(str(place)) >= 8}
    return [re.compile(rb"(?<![\w.~-])" + re.escape(os.fsencode(place)) + rb"(?![\w-])") for place in found]


def _names(public: Sequence[str]) -> list[tuple[str, str]]:
    """The user's and the host's names, as far as they tell who and where."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    names = [("user", user), ("host", host), ("host", host.partition(".")[0])]
    known = {*_COMMON_NAMES, *(word.lower() for word in public)}
    return [(kind, name) for kind, name in names if len(name) > 3 and name.lower() not in known]


def _secrets() -> list[bytes]:
    """Values of this process's environment variables that are named like secrets."""
    return [os.fsencode(v) for k, v in os.environ.items() if _SECRET_VARIABLE.search(k) and len(v) > 8]
