"""What must never be uploaded: tokens and keys, names of users and hosts, paths of this machine, pickles."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

from hf_radam.errors import UserError
from hf_radam.publishing.bundle import files_below

# Tokens and keys by their beginnings. Glued to a letter, they are told from words by a digit and a capital.
_TOKEN = re.compile(
    rb"((?<![A-Za-z0-9])|(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Z]))"
    rb"(hf_(oauth_[\w.-]{20}|[A-Za-z0-9]{20})|gh[opsu]_[A-Za-z0-9]{30}|github_pat_\w{22}|glpat-[\w-]{20}"
    rb"|sk-(proj|ant|svcacct|admin)-[\w-]{20}|sk-[A-Za-z0-9]{32}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30}|xox[abeprs]-[\w-]{10})"
    rb"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY"
)
# Each token has one of these, which are found fifteen times faster.
_BEGINNING = re.compile(rb"hf_|gh[opsu]_|github_pat_|glpat-|sk-|A[KS]IA|AIza|xox|-----BEGIN")
_LONGEST_BEGINNING = 100
_SECRET_VARIABLE = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET_KEY)$", re.IGNORECASE
)
# Absolute paths below the usual roots, and a home folder's "~/"; not the path of a URL.
_PATH = re.compile(
    r"((?<![\w./\\~-])|(?<=file://))/((home|Users|root|tmp|mnt|media|var|opt|srv|data|scratch|work|workspace|private|gpfs"
    r"|lustre|fsx|nfs|storage|export|projects?|content|kaggle|etc|run|proc|u|Volumes|usr/lib)\d*|dev/shm|usr/local)/\.?\w"
    r"|(?<![\w./:~-])~/\w"
)
# A vocabulary is made of words: any name or path may be among them by right.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
_PICKLE_ENDINGS = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
# Names that say nothing about anybody.
_COMMON_NAMES = frozenset({"root", "user", "users", "admin", "ubuntu", "debian", "runner", "nobody", "localhost"})


def refuse_leaks(folder: Path, *, public: Sequence[str] = ()) -> None:
    """Look through everything that is to be uploaded.

    Args:
        folder: every file below it is read.
        public: words, names and paths that may stand there though they look private, such as the repo's id.

    Raises:
        UserError: naming the first file with a leak, and what it is; never the secret itself.
    """
    secrets = _secrets()
    for relative, path in files_below(folder).items():
        if _has_secret(os.fsencode(relative), secrets):
            raise UserError(f"nothing was uploaded: the name of a file in {folder} holds an access token; rename it")
        for leak in (*_leaks(path, secrets, public), *_names_in(_without(relative, public))):
            raise UserError(f"nothing was uploaded: {path} holds {leak}")


def _leaks(path: Path, secrets: Sequence[bytes], public: Sequence[str]) -> Iterator[str]:
    if _is_pickle(path):
        yield "a pickle, which runs code when it is loaded; remove it from the run's model folder"
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:  # weights may be huge
        binary, text = b"\0" in content[: 2**13], ""
        if path.suffix == ".safetensors":
            text = content[8 : 8 + int.from_bytes(content[:8], "little")].decode(errors="replace")
        elif not binary:
            text = content[:].decode(errors="replace")
        # An escaped end of a line is no letter before the next word, and an escaped slash is one.
        text = re.sub(r"\\+[nrt]", " ", text).replace("\\/", "/")
        if _has_secret(content, secrets) or _has_secret(text.encode(), secrets):
            yield "an access token or a key; remove it there, and revoke it on its site"
        if path.name in _VOCABULARIES or path.suffix in (".spm", ".model"):
            return
        # The home and the working folder, where they are long enough to be told from other text.
        places = [os.fsencode(p) for p in {Path.home(), Path.cwd()} if len(p.parts) > 2 or len(str(p)) >= 8]
        if binary and any(content.find(place) >= 0 for place in places):
            yield "a path of this machine; replace it by a relative one"
    text = _without(text, public)
    if found := _PATH.search(text):
        line = text.count("\n", 0, found.start()) + 1
        yield f"an absolute path in line {line}; replace it by a relative one, or --allow the text if it is none"
    yield from _names_in(text)


def _is_pickle(path: Path) -> bool:
    """Whether loading the file could run code."""
    with path.open("rb") as file:
        start = file.read(2)
    # Weights in safetensors begin with a length, which may be any number.
    begins = start in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and path.suffix != ".safetensors"
    holds = zipfile.is_zipfile(path) and any(name.endswith(".pkl") for name in zipfile.ZipFile(path).namelist())
    return path.suffix in _PICKLE_ENDINGS or begins or holds


def _has_secret(content: bytes | mmap, secrets: Sequence[bytes]) -> bool:
    starts = [found.start() for found in _BEGINNING.finditer(content)]
    return any(content.find(secret) >= 0 for secret in secrets) or any(
        _TOKEN.search(content[max(0, start - 1) : start + _LONGEST_BEGINNING]) for start in starts
    )


def _names_in(text: str) -> Iterator[str]:
    """The user's and the host's names, as far as they tell who and where."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    host = socket.gethostname()
    for kind, name in (("user", user), ("host", host), ("host", host.partition(".")[0])):
        inside = rf"(?<![^\W_])(?<!-){re.escape(name)}(?!-)(?![^\W_])"
        if len(name) > 3 and name.lower() not in _COMMON_NAMES and re.search(inside, text, re.IGNORECASE):
            yield f"{name!r}, the name of this {kind}; remove it, or give --allow {name} if it means something else"


def _without(text: str, public: Sequence[str]) -> str:
    for word in filter(None, public):
        text = re.sub(re.escape(word), " ", text, flags=re.IGNORECASE)
    return text


def _secrets() -> list[bytes]:
    """Values of this process's environment variables that are named like secrets, as they are and as JSON has them."""
    values = [v for k, v in os.environ.items() if _SECRET_VARIABLE.search(k) and len(v) >= 8]
    return list(dict.fromkeys(os.fsencode(form) for v in values for form in (v, json.dumps(v)[1:-1])))
